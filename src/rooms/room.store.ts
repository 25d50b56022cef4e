import type { Queryable } from '../database/database.js';
import { roomBucket } from './bucket.js';

/** Who may read what is older than its own join: every member (`shared`), or nobody (`joined`). */
export type History = 'shared' | 'joined';
export type Role = 'owner' | 'admin' | 'member';

export interface Membership {
  /** The newest seq of the room, 0 in one where nothing happened yet. */
  lastSeq: number;
  history: History;
  /** The seq of the join: what is above it was said in the member's presence. 0 for who made the room. */
  joinedSeq: number;
  role: Role;
}

/**
 * What a user may do in a room, by primary keys alone. One path for 'no such room' and 'not a member': who has no access can't tell them apart.
 * @returns undefined when there is no such room or the user is no member of it
 * @throws ClientError `unavailable`
 */
export async function findMembership(db: Queryable, roomId: string, userId: string): Promise<Membership | undefined> {
  const { rows } = await db.query<{ last_seq: number; history: History; joined_seq: number; role: Role }>({
    name: 'find-membership',
    text: `SELECT r.last_seq, r.history, m.joined_seq, m.role
      FROM rooms AS r
      JOIN room_members AS m ON m.bucket = r.bucket AND m.room_id = r.id
      WHERE r.bucket = $1 AND r.id = $2 AND m.user_id = $3`,
    values: [roomBucket(roomId), roomId, userId],
  });
  const [row] = rows;
  return row && { lastSeq: row.last_seq, history: row.history, joinedSeq: row.joined_seq, role: row.role };
}
