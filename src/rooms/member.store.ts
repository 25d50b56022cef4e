import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import type { Role } from './room.store.js';

/** A member as it stands in the table and on the wire. */
export interface Member {
  user_id: string;
  username: string;
  role: Role;
  /** ISO 8601, milliseconds, UTC. */
  joined_at: string;
  /** True while it follows the room through a socket of any node, and a while after. */
  online: boolean;
}

/** Makes a user a member, which takes a seq; `already` takes none. */
export async function joinRoom(db: Queryable, roomId: string, userId: string, username: string): Promise<'joined' | 'already' | 'no_room'> {
  const { rows } = await db.query<{ outcome: 'joined' | 'already' | 'no_room' }>('SELECT join_room($1, $2, $3) AS outcome', [
    roomId,
    userId,
    username,
  ]);
  return rows[0]?.outcome ?? 'no_room';
}

/** Ends a membership, which takes a seq; `already` takes none. */
export async function leaveRoom(
  db: Queryable,
  roomId: string,
  userId: string,
  actorId: string,
  kind: 'left' | 'kicked',
): Promise<'left' | 'already' | 'no_room'> {
  const { rows } = await db.query<{ outcome: 'left' | 'already' | 'no_room' }>('SELECT leave_room($1, $2, $3, $4) AS outcome', [
    roomId,
    userId,
    actorId,
    kind,
  ]);
  return rows[0]?.outcome ?? 'no_room';
}

/** Holds the room as it is until the end of the transaction: no one joins, leaves or sends meanwhile. */
export async function lockRoom(db: Queryable, roomId: string): Promise<void> {
  await db.query('SELECT 1 FROM rooms WHERE bucket = $1 AND id = $2 FOR NO KEY UPDATE', [roomBucket(roomId), roomId]);
}

/** The roles of those of the users who are members. */
export async function findRoles(db: Queryable, roomId: string, userIds: readonly string[]): Promise<ReadonlyMap<string, Role>> {
  const { rows } = await db.query<{ user_id: string; role: Role }>(
    'SELECT user_id, role FROM room_members WHERE bucket = $1 AND room_id = $2 AND user_id = ANY ($3::uuid[])',
    [roomBucket(roomId), roomId, userIds],
  );
  return new Map(rows.map(({ user_id, role }) => [user_id, role]));
}

/** In the order of the users' ids, which is that of their accounts' age. */
export async function listMembers(db: Queryable, roomId: string, limit: number, afterUserId?: string): Promise<Member[]> {
  const { rows } = await db.query<Member>(
    `SELECT m.user_id, m.username, m.role, m.joined_at, EXISTS (
        SELECT FROM room_presence AS p WHERE p.bucket = m.bucket AND p.room_id = m.room_id AND p.user_id = m.user_id
      ) AS online
      FROM room_members AS m
      WHERE m.bucket = $1 AND m.room_id = $2 AND ($3::uuid IS NULL OR m.user_id > $3)
      ORDER BY m.user_id LIMIT $4`,
    [roomBucket(roomId), roomId, afterUserId, limit],
  );
  return rows;
}
