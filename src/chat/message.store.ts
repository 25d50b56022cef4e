/**
 * The one place that inserts messages, by functions in the database: migrations/0011_store_first.sql, 0012_lone_message.sql,
 * 0013_lone_notification.sql and 0004_circle.sql say why.
 */
import type pg from 'pg';
import type { Database } from '../database/database.js';
import { int4Array, textArray, uuidArray } from '../database/binary-arrays.js';
import { roomBucket } from '../database/bucket.js';
import { NoAnswer } from '../database/sql-error.js';

export interface NewMessage {
  readonly roomId: string;
  readonly userId: string;
  readonly content: string;
  readonly clientMsgId?: string | undefined;
}

/** What became of one item of a batch. `at` is in ms since 1970. */
export type Outcome =
  | { readonly status: 'stored' | 'duplicate'; readonly seq: number; readonly id: number; readonly at: number }
  | { readonly status: 'conflict'; readonly seq: number }
  | { readonly status: 'not_a_member' | 'no_such_room' };

/** Either heads, first_id and created_at_ms, of a batch that was stored as a whole; or what became of each item. */
interface AppendRow {
  heads: number[] | null;
  first_id: number;
  created_at_ms: number;
  judged: Judged | null;
}

interface Judged {
  status: ('s' | 'd' | 'c' | 'm' | 'r')[];
  seq: (number | null)[];
  id: (number | null)[];
  created_at_ms: number[];
}

/**
 * So many batches after one that had something to judge are judged at once. Retries come in crowds, of many users after an outage, and what is
 * stored in vain costs twice.
 */
const judgedAfterRetry = 10;
/** How many batches of each database are yet to be judged at once. */
const toJudge = new WeakMap<Database, number>();

/**
 * Stores a batch in one transaction and one round trip; resolves after the commit with one outcome for each message, in order. Messages of one
 * room get their seqs in the order of the batch. No two may have the same room, sender and client_msg_id.
 * @param retriesLikely judges the batch at once; what becomes of it says nothing of the next ones
 * @throws the raw error of pg: the whole batch is then not stored, or (no answer came) unknown.
 */
export async function appendMessages(db: Database, batch: readonly NewMessage[], retriesLikely = false): Promise<Outcome[]> {
  const judgeNext = toJudge.get(db) ?? 0;
  const { rooms, statement } = batch.length === 1 ? lone(batch[0] as NewMessage) : together(batch, retriesLikely || judgeNext > 0);
  const { rows } = await db.write<AppendRow>(statement);
  const [row] = rows;
  if (row === undefined) throw new Error(`${statement.name} returned no row`);
  const { heads, judged } = row;
  if (!retriesLikely) {
    if (judgeNext > 0) toJudge.set(db, judgeNext - 1);
    if (judged?.status.some((status) => status === 'd' || status === 'c') === true) toJudge.set(db, judgedAfterRetry);
  }
  const outcomes: Outcome[] = [];
  let item = 0;
  [...rooms.values()].forEach((places, room) => {
    let seq = heads?.[room] ?? 0;
    for (const place of places) {
      outcomes[place] =
        judged === null ? { status: 'stored', seq: ++seq, id: row.first_id + item, at: row.created_at_ms } : judgement(judged, item);
      item++;
    }
  });
  return outcomes;
}

/** `rooms` are the places of a room's messages in the batch. */
interface Append {
  readonly rooms: ReadonlyMap<string, readonly number[]>;
  readonly statement: pg.QueryConfig;
}

const lone = ({ roomId, userId, content, clientMsgId }: NewMessage): Append => ({
  rooms: new Map([[roomId, [0]]]),
  statement: {
    name: 'append_lone',
    text: 'SELECT heads, first_id, created_at_ms, judged FROM append_lone($1::uuid, $2::uuid, $3::text, $4::uuid)',
    values: [roomId, userId, content, clientMsgId ?? null],
  },
});

/** As append_batch takes it: room by room, with each sender of a room named once. */
function together(batch: readonly NewMessage[], judgeAtOnce: boolean): Append {
  const rooms = new Map<string, number[]>();
  batch.forEach(({ roomId }, place) => {
    const places = rooms.get(roomId);
    if (places === undefined) rooms.set(roomId, [place]);
    else places.push(place);
  });
  const counts: number[] = [];
  const memberRooms: number[] = [];
  const memberIds: string[] = [];
  const itemMembers: number[] = [];
  const contents: string[] = [];
  const clientMsgIds: (string | undefined)[] = [];
  for (const places of rooms.values()) {
    const room = counts.push(places.length);
    const members = new Map<string, number>();
    for (const place of places) {
      const { userId, content, clientMsgId } = batch[place] as NewMessage;
      let member = members.get(userId);
      if (member === undefined) {
        member = memberIds.push(userId);
        memberRooms.push(room);
        members.set(userId, member);
      }
      itemMembers.push(member);
      contents.push(content);
      clientMsgIds.push(clientMsgId);
    }
  }
  const hasKeys = clientMsgIds.some((id) => id !== undefined);
  return {
    rooms,
    statement: {
      name: 'append_batch',
      text: `SELECT heads, first_id, created_at_ms, judged
             FROM append_batch($1::uuid[], $2::int[], $3::int[], $4::uuid[], $5::int[], $6::text[], $7::uuid[], $8::boolean)`,
      values: [
        uuidArray([...rooms.keys()]),
        int4Array(counts),
        int4Array(memberRooms),
        uuidArray(memberIds),
        int4Array(itemMembers),
        textArray(contents),
        hasKeys ? uuidArray(clientMsgIds) : null,
        judgeAtOnce,
      ],
    },
  };
}

/** Not as long as a send: it is to be known soon that commits are not finished. */
const probeTimeoutMs = 2_500;
/** Commits that are not finished keep their connections: so many tell enough. */
const unfinishedMax = 2;

/** Does all that a send does but store something: the locks and rights on the tables, and a commit that has to be durable. */
export async function probeWrites(db: Database): Promise<void> {
  if (db.heldWriters >= unfinishedMax) throw new NoAnswer('the commits before are not finished');
  await db.write(
    {
      name: 'probe_writes',
      text: `WITH room AS (UPDATE rooms SET last_seq = last_seq WHERE false),
               message AS (INSERT INTO messages (bucket, room_id, user_id, username, content) SELECT 0, NULL, NULL, '', '' WHERE false)
             SELECT pg_logical_emit_message(true, 'trunkline', '')`,
    },
    probeTimeoutMs,
  );
}

function judgement({ status: statuses, seq: seqs, id: ids, created_at_ms: times }: Judged, item: number): Outcome {
  const status = statuses[item];
  const seq = seqs[item] ?? 0;
  switch (status) {
    case 's':
    case 'd':
      return { status: status === 's' ? 'stored' : 'duplicate', seq, id: ids[item] ?? 0, at: times[item] ?? 0 };
    case 'c':
      return { status: 'conflict', seq };
    case 'm':
      return { status: 'not_a_member' };
    case 'r':
      return { status: 'no_such_room' };
    default:
      throw new Error(`append_batch returned ${status} for item ${item}`);
  }
}

/** Lane of a room: rooms of one bucket share a lane, so that a lane can one day belong to the server of its buckets. */
export const laneOf = (roomId: string, lanes: number): number => roomBucket(roomId) % lanes;
