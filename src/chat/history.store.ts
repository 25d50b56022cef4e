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

/** A page of a room's messages, newest first. Where the room's history is `joined`, it ends at the member's join. */
export async function readHistory(
  db: Queryable,
  roomId: string,
  { history, joinedSeq }: Pick<Membership, 'history' | 'joinedSeq'>,
  limit: number,
  place: Place,
): Promise<HistoryPage> {
  const hiddenTo = history === 'joined' ? joinedSeq : 0;
  if ('before' in place) {
    const { page, hasMore } = cut(await readOlder(db, roomId, place.before, hiddenTo, limit), limit);
    return { messages: page.map(({ json }) => json), nextCursor: hasMore ? (page.at(-1)?.seq ?? null) : null };
  }
  const from = 'after' in place ? place.after + 1 : place.around;
  const olderLimit = 'after' in place ? 0 : Math.floor(limit / 2);
  const newerLimit = limit - olderLimit;
  const [below, above] = await Promise.all([
    readOlder(db, roomId, from, hiddenTo, olderLimit),
    readNewer(db, roomId, Math.max(from, hiddenTo + 1), newerLimit),
  ]);
  const older = cut(below, olderLimit);
  const newer = cut(above, newerLimit);
  const page = [...newer.page.toReversed(), ...older.page];
  return {
    messages: page.map(({ json }) => json),
    nextCursor: older.hasMore ? (page.at(-1)?.seq ?? from) : null,
    newerCursor: newer.hasMore ? (page[0]?.seq ?? null) : null,
  };
}

interface HistoryRow {
  seq: number;
  json: string;
}

/** One row more than a page tells whether there is another page. */
const cut = (rows: readonly HistoryRow[], limit: number) => ({ page: rows.slice(0, limit), hasMore: rows.length > limit });

async function readOlder(db: Queryable, roomId: string, beforeSeq: number, hiddenTo: number, limit: number): Promise<HistoryRow[]> {
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history',
    text: `SELECT seq, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq < $3 AND seq > $4
      ORDER BY seq DESC LIMIT $5`,
    values: [roomBucket(roomId), roomId, beforeSeq, hiddenTo, limit + 1],
  });
  return rows;
}

async function readNewer(db: Queryable, roomId: string, fromSeq: number, limit: number): Promise<HistoryRow[]> {
  const { rows } = await db.query<HistoryRow>({
    name: 'read-history-newer',
    text: `SELECT seq, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq >= $3
      ORDER BY seq LIMIT $4`,
    values: [roomBucket(roomId), roomId, fromSeq, limit + 1],
  });
  return rows;
}
