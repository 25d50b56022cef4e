import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { time, uuid } from '../protocol/fields.js';

/** Who may not join, as it stands in the table and on the wire. */
export const banSchema = Type.Object(
  {
    user_id: uuid('who may not join'),
    username: Type.String({ description: 'its name when it was banned' }),
    banned_by: uuid('id of the user who banned it'),
    banned_at: time('when it was banned'),
  },
  { title: 'Ban' },
);
export type Ban = Static<typeof banSchema>;

/** @returns false where the user was banned already */
export async function insertBan(
  db: Queryable,
  roomId: string,
  { userId, username }: { userId: string; username: string },
  bannedBy: string,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `INSERT INTO room_bans (bucket, room_id, user_id, username, banned_by) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (bucket, room_id, user_id) DO NOTHING`,
    [roomBucket(roomId), roomId, userId, username, bannedBy],
  );
  return rowCount === 1;
}

/** @returns the name of who was banned; undefined where there was no ban */
export async function deleteBan(db: Queryable, roomId: string, userId: string): Promise<string | undefined> {
  const { rows } = await db.query<{ username: string }>(
    'DELETE FROM room_bans WHERE bucket = $1 AND room_id = $2 AND user_id = $3 RETURNING username',
    [roomBucket(roomId), roomId, userId],
  );
  return rows[0]?.username;
}

/** In the order of the users' ids. */
export async function listBans(db: Queryable, roomId: string, limit: number, afterUserId?: string): Promise<Ban[]> {
  const { rows } = await db.query<Ban>(
    `SELECT user_id, username, banned_by, banned_at FROM room_bans
      WHERE bucket = $1 AND room_id = $2 AND ($3::uuid IS NULL OR user_id > $3)
      ORDER BY user_id LIMIT $4`,
    [roomBucket(roomId), roomId, afterUserId, limit],
  );
  return rows;
}
