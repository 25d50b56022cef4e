import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import type { Membership } from '../rooms/room.store.js';

export interface HistoryPage {
  /** Newest first, each the JSON text that PostgreSQL made of it: the same text that sockets receive. */
  messages: string[];
  /** The `beforeSeq` of the next page; null when there is nothing older. */
  nextCursor: number | null;
}

/**
 * A page of a room's messages, newest first. Where the room's history is `joined`, it ends at the member's join.
 * @param beforeSeq exclusive; undefined starts at the newest
 */
export async function readHistory(
  db: Queryable,
  roomId: string,
  { history, joinedSeq }: Pick<Membership, 'history' | 'joinedSeq'>,
  limit: number,
  beforeSeq: number = Number.MAX_SAFE_INTEGER,
): Promise<HistoryPage> {
  const afterSeq = history === 'joined' ? joinedSeq : 0;
  const { rows } = await db.query<{ seq: number; json: string }>({
    name: 'read-history',
    text: `SELECT seq, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq < $3 AND seq > $4
      ORDER BY seq DESC LIMIT $5`,
    values: [roomBucket(roomId), roomId, beforeSeq, afterSeq, limit + 1], // one more tells whether there is a next page
  });
  const page = rows.slice(0, limit);
  return { messages: page.map(({ json }) => json), nextCursor: rows.length > limit ? (page.at(-1)?.seq ?? null) : null };
}
