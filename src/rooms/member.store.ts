import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { time, uuid } from '../protocol/fields.js';
import { roleSchema, type Role } from './room.store.js';

/** A member as it stands in the table and on the wire. */
export const memberSchema = Type.Object(
  {
    user_id: uuid('id of the user'),
    username: Type.String({ description: 'its name when it joined' }),
    role: roleSchema,
    joined_at: time('when it joined'),
    online: Type.Boolean({ description: 'true while it follows the room through a socket of any node, and a while after' }),
  },
  { title: 'Member' },
);
export type Member = Static<typeof memberSchema>;

export interface MemberRole {
  username: string;
  role: Role;
}

/** `already` takes no seq and changes nothing. */
export type JoinOutcome = 'joined' | 'already' | 'banned' | 'no_room';

/** Makes a user a member by its own wish, which takes a seq. A private room is `no_room` to it. */
export async function joinRoom(db: Queryable, roomId: string, userId: string, username: string): Promise<JoinOutcome> {
  const { rows } = await db.query<{ outcome: JoinOutcome }>('SELECT join_room($1, $2, $3) AS outcome', [roomId, userId, username]);
  return rows[0]?.outcome ?? 'no_room';
}

/** Makes a user a member who was invited, which takes a seq. */
export async function addMember(
  db: Queryable,
  roomId: string,
  { userId, username }: { userId: string; username: string },
  actorId: string,
): Promise<JoinOutcome> {
  const { rows } = await db.query<{ outcome: JoinOutcome }>('SELECT add_member($1, $2, $3, $4, true) AS outcome', [
    roomId,
    userId,
    username,
    actorId,
  ]);
  return rows[0]?.outcome ?? 'no_room';
}

/** Ends a user's membership by its own wish, which takes a seq, and another one where the room gets a new owner; `already` takes none. */
export async function leaveRoom(db: Queryable, roomId: string, userId: string): Promise<'left' | 'already' | 'no_room'> {
  const { rows } = await db.query<{ outcome: 'left' | 'already' | 'no_room' }>(`SELECT leave_room($1, $2, $2, 'left') AS outcome`, [
    roomId,
    userId,
  ]);
  return rows[0]?.outcome ?? 'no_room';
}

/** Holds the room as it is until the end of the transaction: no one joins, leaves or sends meanwhile. */
export async function lockRoom(db: Queryable, roomId: string): Promise<void> {
  await db.query('SELECT 1 FROM rooms WHERE bucket = $1 AND id = $2 FOR NO KEY UPDATE', [roomBucket(roomId), roomId]);
}

/** Those of the users who are members. */
export async function findMembers(db: Queryable, roomId: string, userIds: readonly string[]): Promise<ReadonlyMap<string, MemberRole>> {
  const { rows } = await db.query<MemberRole & { user_id: string }>(
    'SELECT user_id, username, role FROM room_members WHERE bucket = $1 AND room_id = $2 AND user_id = ANY ($3::uuid[])',
    [roomBucket(roomId), roomId, userIds],
  );
  return new Map(rows.map(({ user_id, username, role }) => [user_id, { username, role }]));
}

/** The event that tells it, and the lock of the room, are the caller's. */
export async function deleteMember(db: Queryable, roomId: string, userId: string): Promise<void> {
  await db.query('DELETE FROM room_members WHERE bucket = $1 AND room_id = $2 AND user_id = $3', [roomBucket(roomId), roomId, userId]);
}

/** The event that tells it, and the lock of the room, are the caller's. */
export async function setRole(db: Queryable, roomId: string, userId: string, role: Role): Promise<void> {
  await db.query('UPDATE room_members SET role = $4 WHERE bucket = $1 AND room_id = $2 AND user_id = $3', [
    roomBucket(roomId),
    roomId,
    userId,
    role,
  ]);
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
