/**
 * Writes messages to PostgreSQL from a process of its own: as a node does, by its message writer, or by bare multi-row INSERT of the same rows. It
 * writes to all rooms of the database in turn, by their members, and knows of each room what its next seq must be.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { MessageWriter, type Settled } from '../../src/chat/message-writer.js';
import { appendMessages, laneOf } from '../../src/chat/message.store.js';
import { loadConfig } from '../../src/config.js';
import { roomBucket } from '../../src/database/bucket.js';
import { Database } from '../../src/database/database.js';
import { serveCalls } from '../calls.js';
import { contentsOf } from '../content.js';

const offerEveryMs = 2;
/** Of an offer: far fewer than the writer refuses. */
const unansweredMax = 4_000;

interface RoundOptions {
  readonly clientMsgIds: boolean;
  /** Before the measured time. */
  readonly rampMs: number;
  readonly measureMs: number;
}

/** What a round stored. */
interface Round {
  /** Within the measured time. */
  readonly rows: number;
  readonly seconds: number;
  /** With what came before and after it. */
  readonly allRows: number;
  readonly batches: number;
}

interface Tally {
  readonly ackedByRoom: Readonly<Record<string, number>>;
  /** By bare INSERT. */
  readonly inserted: number;
  /** Answers that should not have come, by what they were. */
  readonly faults: Readonly<Record<string, number>>;
}

interface Row {
  readonly roomId: string;
  readonly userId: string;
  readonly username: string;
  readonly content: string;
  readonly clientMsgId: string | undefined;
}

class Room {
  acked = 0;
  insertedSeq = 0;
  private sent = 0;

  constructor(
    readonly roomId: string,
    private readonly members: readonly { readonly userId: string; readonly username: string }[],
    private lastSeq: number,
    private readonly content: (sentAt: number) => string,
  ) {}

  next(clientMsgIds: boolean): Row {
    const { userId = '', username = '' } = this.members[this.sent++ % this.members.length] ?? {};
    const content = this.content(performance.now() * 1_000);
    return { roomId: this.roomId, userId, username, content, clientMsgId: clientMsgIds ? randomUUID() : undefined };
  }

  settled(settled: Settled): void {
    if (settled.status !== 'stored') return count(settled.status === 'failed' ? settled.error.code : settled.status);
    if (settled.seq !== this.lastSeq + 1) count('a seq that is not the next one');
    this.lastSeq = settled.seq;
    this.acked++;
  }
}

const faults: Record<string, number> = {};
let rooms: readonly Room[] = [];
let stored = 0;
let batches = 0;
let inserted = 0;
let insertedBatches = 0;
let inserters: readonly pg.Client[] | undefined;
let databaseUrl = '';
let lanes = 0;
let writer: MessageWriter;
let offering: AbortController | undefined;

const calls = {
  async open(options: { readonly databaseUrl: string; readonly contentChars: number }): Promise<void> {
    ({ databaseUrl } = options);
    const config = loadConfig({ DATABASE_URL: databaseUrl, JWT_ACCESS_SECRET: randomBytes(32).toString('base64url') });
    const db = new Database(config, pino({ level: 'warn' }));
    lanes = config.WRITER_LANES;
    writer = new MessageWriter({
      lanes,
      queueMaxMessages: config.WRITER_QUEUE_MESSAGES,
      laneOf,
      append: (batch, retriesLikely) => appendMessages(db, batch, retriesLikely),
      onBatchFailed: () => count('a batch that failed'),
      onBatchStored: ({ messages }) => {
        stored += messages;
        batches++;
      },
      onDoubtEnded: () => undefined,
    });
    rooms = await readRooms(db, contentsOf(options.contentChars));
  },

  /** Closed loop: keeps so many sends of each room unanswered. */
  async write(options: RoundOptions & { readonly unansweredPerRoom: number }): Promise<Round> {
    const before = { stored, batches };
    const over = new AbortController();
    const send = (room: Room): void =>
      writer.append(room.next(options.clientMsgIds), (settled) => {
        room.settled(settled);
        if (!over.signal.aborted && settled.status === 'stored') send(room);
      });
    for (let n = 0; n < options.unansweredPerRoom; n++) for (const room of rooms) send(room);
    const measured = await measure(options, () => stored);
    over.abort();
    await writer.drain();
    return { ...measured, allRows: stored - before.stored, batches: batches - before.batches };
  },

  /** As many connections as the writer has lanes, each with the rows of the lane's rooms, a batch after the other. */
  async insert(options: RoundOptions & { readonly rowsPerBatch: number }): Promise<Round> {
    inserters ??= await Promise.all(Array.from({ length: lanes }, connected));
    const before = { inserted, insertedBatches };
    const over = new AbortController();
    const insertOn = async (client: pg.Client, lane: number): Promise<void> => {
      const ofLane = rooms.filter(({ roomId }) => laneOf(roomId, lanes) === lane);
      while (!over.signal.aborted && ofLane.length > 0) {
        await insertRows(client, ofLane, options);
        inserted += options.rowsPerBatch;
        insertedBatches++;
      }
    };
    const measured = measure(options, () => inserted).finally(() => over.abort());
    await Promise.all([measured, ...inserters.map(insertOn)]);
    return { ...(await measured), allRows: inserted - before.inserted, batches: insertedBatches - before.insertedBatches };
  },

  /** At a rate, or below it where they can't be stored so fast, until `stop`. */
  async offer({ perSecond }: { readonly perSecond: number }): Promise<void> {
    offering = new AbortController();
    void offerMessages(perSecond, offering.signal);
  },

  /** Resolves when everything is answered. */
  async stop(): Promise<void> {
    offering?.abort();
    await writer.drain();
  },

  async tally(): Promise<Tally> {
    return { ackedByRoom: Object.fromEntries(rooms.map(({ roomId, acked }) => [roomId, acked])), inserted, faults };
  },
};

export type WriteCalls = typeof calls;

serveCalls(calls);

async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  return client;
}

async function readRooms(db: Database, content: (sentAt: number) => string): Promise<Room[]> {
  const { rows } = await db.query<{ id: string; last_seq: number; user_ids: string[]; usernames: string[] }>(
    `SELECT r.id, r.last_seq, array_agg(m.user_id ORDER BY m.user_id)::text[] AS user_ids, array_agg(m.username ORDER BY m.user_id) AS usernames
     FROM rooms AS r JOIN room_members AS m ON m.bucket = r.bucket AND m.room_id = r.id GROUP BY r.bucket, r.id ORDER BY r.bucket, r.id`,
  );
  return rows.map(({ id, last_seq, user_ids, usernames }) => {
    const members = user_ids.map((userId, n) => ({ userId, username: usernames[n] ?? '' }));
    return new Room(id, members, last_seq, content);
  });
}

async function measure({ rampMs, measureMs }: RoundOptions, rowsSoFar: () => number): Promise<{ rows: number; seconds: number }> {
  await delay(rampMs);
  const from = { rows: rowsSoFar(), at: performance.now() };
  await delay(measureMs);
  return { rows: rowsSoFar() - from.rows, seconds: (performance.now() - from.at) / 1_000 };
}

/** Bound by nothing but the table, its constraints and its indexes: room, seq and username are given, and nobody is told. */
async function insertRows(
  client: pg.Client,
  ofLane: readonly Room[],
  { rowsPerBatch, clientMsgIds }: { readonly rowsPerBatch: number; readonly clientMsgIds: boolean },
): Promise<void> {
  const rows = Array.from({ length: rowsPerBatch }, (_, n) => {
    const room = ofLane[n % ofLane.length] as Room;
    return { ...room.next(clientMsgIds), seq: ++room.insertedSeq };
  });
  await client.query({
    name: 'insert',
    text: `INSERT INTO bare_messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id)
           SELECT bucket, room_id, seq, seq, user_id, username, content, client_msg_id
           FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::uuid[])
             AS r (bucket, room_id, seq, user_id, username, content, client_msg_id)`,
    values: [
      rows.map(({ roomId }) => roomBucket(roomId)),
      rows.map(({ roomId }) => roomId),
      rows.map(({ seq }) => seq),
      rows.map(({ userId }) => userId),
      rows.map(({ username }) => username),
      rows.map(({ content }) => content),
      rows.map(({ clientMsgId }) => clientMsgId ?? null),
    ],
  });
}

async function offerMessages(perSecond: number, signal: AbortSignal): Promise<void> {
  const from = performance.now();
  let answered = 0;
  for (let sent = 0; !signal.aborted; await delay(offerEveryMs)) {
    const due = Math.min(((performance.now() - from) / 1_000) * perSecond, answered + unansweredMax);
    for (; sent < due; sent++) {
      const room = rooms[sent % rooms.length];
      if (room === undefined) return;
      writer.append(room.next(false), (settled) => {
        answered++;
        room.settled(settled);
      });
    }
  }
}

function count(what: string): void {
  faults[what] = (faults[what] ?? 0) + 1;
}
