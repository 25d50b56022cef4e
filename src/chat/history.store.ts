import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import type { Membership } from '../rooms/room.store.js';

/** Where in the log a page is: the newest messages below `before`, the oldest above `after`, or half a page on each side of `around`. */
export type Place = { readonly before: number } | { readonly after: number } | { readonly around: number };

export const newest: Place = { before: Number.MAX_SAFE_INTEGER };

export interface HistoryPage {
  /** Newest first, each the JSON text that PostgreSQL made of it: the same text that sockets receive. */
  messages: string[];
  /** The `before` of the next older page; null when there is nothing older. */
  nextCursor: number | null;
  /** The `after` of the next newer page; null when there is nothing newer. Not asked for, and undefined, on the way from new to old. */
  newerCursor?: number | null;
}

/**
 * How many seqs a page looks through for messages of one author. There is no index by author, which would cost every insert: the primary key carries
 * the author, so that this takes some ms, and the next page goes on from there.
 */
const lookedThrough = 50_000;

/**
 * A page of a room's messages, newest first. It ends where the room's log is hidden from the member.
 * @param authorId only messages of this user; then a page may have fewer than `limit`, even none, and a cursor to go on by
 */
export async function readHistory(
  db: Queryable,
  roomId: string,
  { hiddenTo, lastSeq }: Pick<Membership, 'hiddenTo' | 'lastSeq'>,
  limit: number,
  place: Place,
  authorId?: string,
): Promise<HistoryPage> {
  // Not above the seq at which the user was a member: what came since may be above the end of the membership.
  const older = (before: number, count: number): Promise<Stretch> => {
    const below = Math.min(before, lastSeq + 1);
    return authorId === undefined
      ? readOlder(db, roomId, below, hiddenTo, count)
      : readOlderBy(db, roomId, authorId, below, hiddenTo, count);
  };
  const newer = (from: number, count: number): Promise<Stretch> =>
    authorId === undefined ? readNewer(db, roomId, from, lastSeq, count) : readNewerBy(db, roomId, authorId, from, lastSeq, count);

  if ('before' in place) {
    const { messages, goOn } = await older(place.before, limit);
    return { messages, nextCursor: goOn };
  }
  const from = 'after' in place ? place.after + 1 : place.around;
  const olderLimit = 'after' in place ? 0 : Math.floor(limit / 2);
  const [below, above] = await Promise.all([older(from, olderLimit), newer(Math.max(from, hiddenTo + 1), limit - olderLimit)]);
  return { messages: [...above.messages.toReversed(), ...below.messages], nextCursor: below.goOn, newerCursor: above.goOn };
}

/** Messages in the order of the reading. */
interface Stretch {
  messages: string[];
  /** The exclusive seq from which to read on; null at the end. */
  goOn: number | null;
}

interface HistoryRow {
  seq: number;
  json: string;
}

/**
 * @param rows one more than `limit` where there is more
 * @param from where the reading began: of a stretch of none, it goes on from there
 * @param lookedTo where it ended without having been at the end
 */
function stretch(rows: readonly HistoryRow[], limit: number, from: number, lookedTo: number | null = null): Stretch {
  const shown = rows.slice(0, limit);
  return { messages: shown.map(({ json }) => json), goOn: rows.length > limit ? (shown.at(-1)?.seq ?? from) : lookedTo };
}

async function readOlder(db: Queryable, roomId: string, beforeSeq: number, hiddenTo: number, limit: number): Promise<Stretch> {
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history',
    text: `SELECT seq, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq < $3 AND seq > $4
      ORDER BY seq DESC LIMIT $5`,
    values: [roomBucket(roomId), roomId, beforeSeq, hiddenTo, limit + 1],
  });
  return stretch(rows, limit, beforeSeq);
}

async function readNewer(db: Queryable, roomId: string, fromSeq: number, lastSeq: number, limit: number): Promise<Stretch> {
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history-newer',
    text: `SELECT seq, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq BETWEEN $3 AND $4
      ORDER BY seq LIMIT $5`,
    values: [roomBucket(roomId), roomId, fromSeq, lastSeq, limit + 1],
  });
  return stretch(rows, limit, fromSeq - 1);
}

async function readOlderBy(
  db: Queryable,
  roomId: string,
  authorId: string,
  beforeSeq: number,
  hiddenTo: number,
  limit: number,
): Promise<Stretch> {
  const lowest = Math.max(hiddenTo + 1, beforeSeq - lookedThrough);
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history-by',
    text: textBy('DESC'),
    values: [roomBucket(roomId), roomId, authorId, lowest, beforeSeq - 1, limit + 1],
  });
  return stretch(rows, limit, beforeSeq, lowest > hiddenTo + 1 ? lowest : null);
}

async function readNewerBy(
  db: Queryable,
  roomId: string,
  authorId: string,
  fromSeq: number,
  lastSeq: number,
  limit: number,
): Promise<Stretch> {
  const highest = Math.min(lastSeq, fromSeq + lookedThrough - 1);
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history-newer-by',
    text: textBy('ASC'),
    values: [roomBucket(roomId), roomId, authorId, fromSeq, highest, limit + 1],
  });
  return stretch(rows, limit, fromSeq - 1, highest < lastSeq ? highest : null);
}

/** Found in the index alone, and only what was found is read from the table. */
const textBy = (order: 'ASC' | 'DESC'): string =>
  `SELECT m.seq, message_json(m.room_id, m.seq, m.id, m.user_id, m.username, m.content, m.client_msg_id, m.created_at) AS json
    FROM (
      SELECT seq FROM messages WHERE bucket = $1 AND room_id = $2 AND user_id = $3 AND seq BETWEEN $4 AND $5 ORDER BY seq ${order} LIMIT $6
    ) AS found
    CROSS JOIN LATERAL (SELECT * FROM messages WHERE bucket = $1 AND room_id = $2 AND seq = found.seq LIMIT 1) AS m
    ORDER BY m.seq ${order}`;
