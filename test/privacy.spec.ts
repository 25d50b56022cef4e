import fc from 'fast-check';
import { TestClient, type Frame } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

/** From the seq of its join to the seq of its end. */
interface Membership {
  from: number;
  to: number;
}

/** What one join_room brought: until the next one of the same socket. */
interface Stream {
  history: number[];
  live: number[];
  /** Where it did not go up by one. */
  breaks: string[];
}

const actions = ['enter', 'leave', 'kick', 'ban', 'reconnect', 'rejoin', 'kick while joining', 'kick while new', 'flap'] as const;
const steps = fc.array(
  fc.oneof(
    fc.record({ action: fc.constant('send' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ action: fc.constantFrom(...actions), who: fc.integer({ min: 0, max: 1 }), node: fc.integer({ min: 0, max: 1 }) }),
  ),
  { minLength: 6, maxLength: 25 },
);

/** A user with one socket at a time. */
class Reader {
  readonly sockets: TestClient[] = [];

  constructor(
    readonly person: Person,
    private readonly room: string,
  ) {}

  get socket(): TestClient | undefined {
    return this.sockets.at(-1);
  }

  async connect(url: string, isNew = false): Promise<void> {
    const previous = this.socket;
    previous?.cut();
    if (previous !== undefined) await eventually(() => previous.closed, 'the cut to be seen');
    this.sockets.push(await TestClient.connect(url, this.person.token, isNew ? undefined : previous));
  }

  /** Resumes where it holds something of the room, else joins at once. */
  async follow(): Promise<Frame | undefined> {
    const { socket } = this;
    return socket?.join(this.room, socket.rooms.has(this.room));
  }

  streams(): Stream[] {
    return this.sockets.flatMap(({ frames }) => streamsOf(frames));
  }
}

function streamsOf(frames: readonly Frame[]): Stream[] {
  const streams: Stream[] = [];
  let last: number | undefined;
  const take = (kind: 'history' | 'live', entries: unknown) => {
    for (const { seq } of entries as { seq: number }[]) {
      const stream = streams.at(-1);
      stream?.[kind].push(seq);
      if (last !== undefined && seq !== last + 1) stream?.breaks.push(`${seq} came after ${last}`);
      last = seq;
    }
  };
  for (const { event, data } of frames) {
    if (event === 'joined_room') {
      streams.push({ history: [], live: [], breaks: [] });
      last = data['last_seq'] as number;
    }
    if (event === 'resync') last = data['last_seq'] as number;
    if (event === 'new_message_batch') take('live', data);
    if (event === 'room_event') take('live', [data]);
    if (event === 'history') {
      const page = [...(data['messages'] as { seq: number }[]), ...(data['events'] as { seq: number }[])].toSorted((a, b) => a.seq - b.seq);
      if (streams.at(-1)?.history.length === 0) last = undefined; // it begins where the client said
      take('history', page);
      last ??= data['next_cursor'] as number;
    }
  }
  return streams;
}

describe('whatever joins, leaves, kicks, sends and reconnects happen on two nodes', () => {
  let db: TestDatabase;
  let nodes: TestNode[];
  let ann: Person;

  beforeAll(async () => {
    db = await createTestDatabase();
    nodes = await Promise.all([startNode(db.url), startNode(db.url)]);
    ann = await createPerson(db.sql);
  });
  afterAll(async () => {
    await Promise.all(nodes.map((node) => node.close()));
    await db.drop();
  });

  const url = (node: number) => nodes[node]?.url ?? '';

  async function membershipsOf(room: string, userId: string): Promise<Membership[]> {
    const { rows } = await db.sql.query<{ seq: number; kind: string }>(
      "SELECT seq::int, kind FROM room_events WHERE room_id = $1 AND user_id = $2 AND kind <> 'unbanned' ORDER BY seq",
      [room, userId],
    );
    const memberships: Membership[] = [];
    for (const { seq, kind } of rows) {
      const last = memberships.at(-1);
      if (kind === 'joined') memberships.push({ from: seq, to: Number.POSITIVE_INFINITY });
      else if (last?.to === Number.POSITIVE_INFINITY) last.to = seq;
    }
    return memberships;
  }

  it.each(['shared', 'joined'] as const)(
    'a user hears live what is within its membership and nothing else, in a room whose history is %s',
    async (history) => {
      await fc.assert(
        fc.asyncProperty(steps, async (plan) => {
          const room = await createRoom(db.sql, [ann], history);
          const sender = await TestClient.connect(url(0), ann.token);
          await sender.join(room);
          const readers = [new Reader(await createPerson(db.sql), room), new Reader(await createPerson(db.sql), room)];
          for (const [n, reader] of readers.entries()) await reader.connect(url(n));
          const sends: Promise<number>[] = [];
          const send = (count: number) => {
            for (let n = 0; n < count; n++) sends.push(sender.send(room, `message ${sends.length}`));
          };
          const rest = (person: Person, node: number, method: string, path: string) =>
            call(url(node), `/rooms/${room}${path}`, { method, token: person.token });

          for (const step of plan) {
            if (step.action === 'send') {
              send(step.count);
              continue;
            }
            const reader = readers[step.who];
            if (reader === undefined) continue;
            const { person } = reader;
            const own = (what: string) => rest(person, step.node, 'POST', what);
            const kick = () => rest(ann, step.node, 'DELETE', `/members/${person.id}`);
            if (step.action === 'enter') {
              await own('/join');
              await reader.follow();
            } else if (step.action === 'leave') await own('/leave');
            else if (step.action === 'kick') await kick();
            else if (step.action === 'ban') {
              await rest(ann, step.node, 'PUT', `/bans/${person.id}`);
              await rest(ann, step.node, 'DELETE', `/bans/${person.id}`);
            } else if (step.action === 'reconnect') {
              await reader.connect(url(step.node));
              await reader.follow();
            } else if (step.action === 'rejoin') await reader.follow();
            else if (step.action === 'kick while joining') {
              send(3);
              await Promise.all([kick(), reader.follow(), reader.follow()]);
            } else if (step.action === 'kick while new') {
              // With nothing to resume after: the stream begins where the room is by then.
              await reader.connect(url(step.node), true);
              send(3);
              await Promise.all([kick().then(() => send(3)), reader.follow()]);
            } else {
              await own('/leave');
              await own('/join');
              await reader.follow();
            }
          }
          send(2);
          await Promise.all(sends);
          const { lastSeq, contiguous } = await roomLog(db.sql, room);
          expect(contiguous).toBe(true);
          await sender.reaches(room, lastSeq);

          for (const reader of readers) {
            const memberships = await membershipsOf(room, reader.person.id);
            const { socket } = reader;
            // Liveness: a member who follows has everything, another everything up to the end of a membership.
            if (socket?.frames.some(({ event }) => event === 'joined_room')) {
              const ends = memberships.map(({ to }) => Math.min(to, lastSeq));
              const isMember = memberships.at(-1)?.to === Number.POSITIVE_INFINITY;
              await eventually(
                () => (isMember ? socket.lastSeq(room) === lastSeq : ends.includes(socket.lastSeq(room))),
                `what is due (at ${socket.lastSeq(room)}, ${JSON.stringify({ memberships, lastSeq })})`,
                3_000,
              );
            }
            await socket?.command('ping', {});
            for (const { live, history: past, breaks } of reader.streams()) {
              expect(breaks).toEqual([]);
              const isWithin = ({ from, to }: Membership) =>
                live.every((seq) => seq > from && seq <= to) && past.every((seq) => seq <= to && (history === 'shared' || seq > from));
              expect({ live, past, memberships, within: memberships.some(isWithin) }).toMatchObject({ within: true });
            }
          }
          await Promise.all([sender, ...readers.flatMap(({ sockets }) => sockets.slice(-1))].map((client) => client.close()));
        }),
        { numRuns: 25 },
      );
    },
    60_000,
  );
});
