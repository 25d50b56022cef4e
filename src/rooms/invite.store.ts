import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { count, time, uuid } from '../protocol/fields.js';

/** As it stands in the table and on the wire. */
export const inviteSchema = Type.Object(
  {
    id: uuid('UUID v7'),
    created_by: uuid('id of the user who made it'),
    created_at: time('when it was made'),
    expires_at: time('from when on nobody can use it'),
    max_uses: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], { description: 'how many users it lets in; null: any number' }),
    uses: count('how many users it has let in'),
  },
  { title: 'Invite' },
);
export type Invite = Static<typeof inviteSchema>;

export interface NewInvite {
  id: string;
  roomId: string;
  secretHash: Buffer;
  createdBy: string;
  expiresInS: number;
  maxUses: number | undefined;
}

const usable = 'expires_at > now() AND (max_uses IS NULL OR uses < max_uses)';
const columns = 'id, created_by, created_at, expires_at, max_uses, uses';

/** Takes away by the way those of the room that are of no use any more. The lock of the room is the caller's. @returns undefined where the room has `maxInvites` already */
export async function insertInvite(
  db: Queryable,
  { id, roomId, secretHash, createdBy, expiresInS, maxUses }: NewInvite,
  maxInvites: number,
): Promise<Invite | undefined> {
  const key = [roomBucket(roomId), roomId];
  await db.query('DELETE FROM room_invites WHERE bucket = $1 AND room_id = $2 AND (expires_at <= now() OR uses >= max_uses)', key);
  const { rows } = await db.query<Invite>(
    `INSERT INTO room_invites (bucket, room_id, id, secret_hash, created_by, expires_at, max_uses)
      SELECT $1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7
      WHERE (SELECT count(*) FROM room_invites WHERE bucket = $1 AND room_id = $2) < $8
      RETURNING ${columns}`,
    [...key, id, secretHash, createdBy, expiresInS, maxUses, maxInvites],
  );
  return rows[0];
}

/** Those that can still be used, oldest first. @param createdBy only those of this user */
export async function listInvites(db: Queryable, roomId: string, createdBy?: string): Promise<Invite[]> {
  const { rows } = await db.query<Invite>(
    `SELECT ${columns} FROM room_invites
      WHERE bucket = $1 AND room_id = $2 AND ($3::uuid IS NULL OR created_by = $3) AND ${usable}
      ORDER BY id`,
    [roomBucket(roomId), roomId, createdBy],
  );
  return rows;
}

/** @param createdBy only if it is of this user. @returns false where nothing was there to delete */
export async function deleteInvite(db: Queryable, roomId: string, id: string, createdBy?: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'DELETE FROM room_invites WHERE bucket = $1 AND room_id = $2 AND id = $3 AND ($4::uuid IS NULL OR created_by = $4)',
    [roomBucket(roomId), roomId, id, createdBy],
  );
  return rowCount === 1;
}

/** The lock of the room is the caller's. */
export async function deleteInvitesBy(db: Queryable, roomId: string, userId: string): Promise<void> {
  await db.query('DELETE FROM room_invites WHERE bucket = $1 AND room_id = $2 AND created_by = $3', [roomBucket(roomId), roomId, userId]);
}

/** Whether it could be used now; nothing is locked. */
export async function hasInvite(db: Queryable, roomId: string, secretHash: Buffer): Promise<boolean> {
  const { rowCount } = await db.query(`SELECT FROM room_invites WHERE bucket = $1 AND room_id = $2 AND secret_hash = $3 AND ${usable}`, [
    roomBucket(roomId),
    roomId,
    secretHash,
  ]);
  return rowCount === 1;
}

/** Uses an invitation once. @returns who made it; undefined where it is unknown, expired or used up */
export async function useInvite(db: Queryable, roomId: string, secretHash: Buffer): Promise<string | undefined> {
  const { rows } = await db.query<{ created_by: string }>(
    `UPDATE room_invites SET uses = uses + 1
      WHERE bucket = $1 AND room_id = $2 AND secret_hash = $3 AND ${usable}
      RETURNING created_by`,
    [roomBucket(roomId), roomId, secretHash],
  );
  return rows[0]?.created_by;
}
