/** A server that does as promised, in memory: makes the good histories on which the checker is tried. */
import type { Dice } from './dice.js';
import type { Event, History, Invoke, Ok, Tables } from './history.js';

type Entry = { seq: number; digest: string; user: string; key: string | null; id: number };

interface Room {
  readonly room: string;
  readonly history: 'shared' | 'joined';
  readonly owner: string;
  readonly log: Entry[];
  /** The seq of each member's join. */
  readonly members: Map<string, number>;
}

interface Stream {
  readonly room: Room;
  cursor: number;
  /** What was missed at its start is history up to here. */
  readonly historyTo: number;
  /** The seq of the end of its membership. */
  end: number;
}

interface Client {
  readonly user: string;
  conn: number;
  readonly streams: Map<string, Stream>;
  /** What it holds of each room, to resume from. */
  readonly held: Map<string, number>;
  readonly unsure: Invoke[];
}

const epoch = 'e1';

/** Plays so many random steps and lets every stream reach the end. */
export function play(dice: Dice, steps: number): History {
  const events: Event[] = [];
  const users = ['ann', 'bob', 'cy', 'dee'];
  const rooms = ['r1', 'r2'].map((room, n): Room => {
    return { room, history: n === 0 ? 'shared' : 'joined', owner: 'ann', log: [], members: new Map([['ann', 0]]) };
  });
  let at = 0;
  let conns = 0;
  let ops = 0;
  const pick = <T>(values: readonly [T, ...T[]] | readonly T[]): T => values[dice.below(values.length)] as T;

  const append = (room: Room, digest: string, user: string, key: string | null): Entry => {
    const seq = room.log.length + 1;
    const entry = { seq, digest, user, key, id: seq * 10 + rooms.indexOf(room) };
    room.log.push(entry);
    return entry;
  };
  const open = (client: Client) => {
    client.conn = ++conns;
    events.push({ type: 'open', at, conn: client.conn, user: client.user, node: `n${client.conn % 3}`, epoch });
  };
  const clients = users.map((user): Client => ({ user, conn: 0, streams: new Map(), held: new Map(), unsure: [] }));
  const rest = (phase: 'before' | 'after') => {
    const resources = { connections: 0, followedRooms: 0, queuedSends: 0, busyPoolClients: 0, poolWaiters: 0 };
    for (const node of ['n0', 'n1', 'n2']) {
      events.push({ type: 'rest', at, node, phase, resources: { ...resources, descriptors: 30, timers: 12, memoryMiB: 40 } });
      events.push({ type: 'counted', at, node, phase, alarms: { streamFaults: 0, logHoles: 0, unknownSends: 0 } });
    }
  };
  rest('before');
  for (const client of clients) open(client);

  const follow = (client: Client, room: Room) => {
    const joined = room.members.get(client.user);
    if (joined === undefined) return;
    const lastSeq = room.log.length;
    const held = client.held.get(room.room);
    const after = held === undefined ? null : held;
    const { conn, user } = client;
    events.push({ type: 'joined', at, conn, user, room: room.room, lastSeq, after, epoch });
    const hidden = room.history === 'joined' && after !== null && after < joined;
    if (hidden) events.push({ type: 'resync', at, conn, user, room: room.room, lastSeq: joined, reason: 'history_hidden', epoch });
    const cursor = hidden ? joined : (after ?? lastSeq);
    client.streams.set(room.room, { room, cursor, historyTo: lastSeq, end: Number.POSITIVE_INFINITY });
    client.held.set(room.room, cursor);
  };
  const deliver = (client: Client, stream: Stream, most: number) => {
    for (let n = 0; n < most && stream.cursor < Math.min(stream.room.log.length, stream.end); n++) {
      const entry = stream.room.log[stream.cursor] as Entry;
      stream.cursor = entry.seq;
      client.held.set(stream.room.room, entry.seq);
      const via = entry.seq <= stream.historyTo ? 'history' : 'live';
      const { conn, user } = client;
      events.push({ type: 'receive', at, conn, user, room: stream.room.room, seq: entry.seq, digest: entry.digest, via, epoch });
    }
  };
  const settle = (room: Room, invoke: Invoke) => {
    const earlier = room.log.find(({ user, key }) => user === invoke.user && key === invoke.key);
    const entry = earlier ?? append(room, invoke.digest, invoke.user, invoke.key);
    const ok: Ok = { type: 'ok', at, op: invoke.op, seq: entry.seq, id: entry.id, duplicate: earlier !== undefined, epoch };
    return ok;
  };
  const send = (client: Client, room: Room) => {
    const isMember = room.members.has(client.user);
    const invokes = Array.from({ length: 1 + dice.below(3) }, (): Invoke => {
      const op = ++ops;
      const { conn, user } = client;
      return { type: 'invoke', at, op, conn, user, room: room.room, key: `k${op}`, digest: `d${op}` };
    });
    events.push(...invokes);
    for (const invoke of invokes) {
      if (!isMember) events.push({ type: 'fail', at, op: invoke.op, code: 'not_a_member' });
      else if (dice.below(5) > 0) events.push(settle(room, invoke));
      else {
        if (dice.below(2) > 0) settle(room, invoke);
        events.push({ type: 'unknown', at, op: invoke.op, why: 'the connection was lost' });
        client.unsure.push(invoke);
      }
    }
  };
  const retry = (client: Client) => {
    const first = client.unsure.pop();
    const room = rooms.find(({ room: name }) => name === first?.room);
    if (first === undefined || room === undefined || !room.members.has(client.user)) return;
    const invoke = { ...first, at, op: ++ops, conn: client.conn };
    events.push(invoke, settle(room, invoke));
  };
  const enterOrLeave = (client: Client, room: Room) => {
    if (client.user === room.owner) return;
    if (!room.members.has(client.user)) {
      room.members.set(client.user, append(room, '[joined]', client.user, null).seq);
      return;
    }
    room.members.delete(client.user);
    const { seq } = append(room, `[${pick(['left', 'kicked'])}]`, client.user, null);
    const stream = client.streams.get(room.room);
    if (stream !== undefined) stream.end = Math.min(stream.end, seq);
  };
  const reconnect = (client: Client) => {
    events.push({ type: 'close', at, conn: client.conn, code: 1006 });
    client.streams.clear();
    open(client);
  };

  for (let step = 0; step < steps; step++) {
    at += dice.below(50);
    const client = pick(clients);
    const room = pick(rooms);
    const stream = client.streams.get(room.room);
    const turn = dice.below(12);
    if (turn < 3) send(client, room);
    else if (turn === 3) retry(client);
    else if (turn === 4) enterOrLeave(client, room);
    else if (turn === 5) reconnect(client);
    else if (stream === undefined || (stream.end <= stream.cursor && room.members.has(client.user))) follow(client, room);
    else deliver(client, stream, 1 + dice.below(4));
  }
  for (const { room, log } of rooms) events.push({ type: 'head', at, room, seq: log.length });
  at += 1_000;
  for (const client of clients) for (const stream of client.streams.values()) deliver(client, stream, Number.POSITIVE_INFINITY);
  for (const client of clients) events.push({ type: 'close', at: at + 5_000, conn: client.conn, code: 1000 });
  at += 10_000;
  rest('after');

  return { seed: 0, events, tables: tablesOf(rooms) };
}

function tablesOf(rooms: readonly Room[]): Tables {
  const rows = rooms.flatMap(({ room, log }) => log.map((entry) => ({ room, ...entry })));
  return {
    epoch,
    rooms: rooms.map(({ room, log, owner, history }) => ({ room, lastSeq: log.length, owner, history })),
    messages: rows.filter(({ digest }) => !digest.startsWith('[')),
    events: rows
      .filter(({ digest }) => digest.startsWith('['))
      .map(({ room, seq, digest, user }) => ({ room, seq, kind: digest.slice(1, -1), user })),
  };
}
