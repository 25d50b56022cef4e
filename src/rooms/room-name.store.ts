/**
 * Claims of room names. Names are unique over all buckets, and the rooms may one day be spread over servers, so no transaction covers both
 * a name and its room. Hence a name is claimed first and its room made after, within the life of the claim; what was claimed by a node that
 * died in between may be taken over when that life is past. A room that is renamed claims the new name in the same way, and gives the old one back
 * after.
 */
import type { Queryable } from '../database/database.js';

/** Until when a claim's room may be made, in s since the claim. Half of what protects it: a room that is just being made is never overtaken. */
const roomWithinS = 30;
/** When a claim without a room may be taken over, in s since the claim. */
const claimLifeS = 60;

export interface Claim {
  key: string;
  roomId: string;
  /** ISO 8601, by the server's clock. */
  makeRoomBefore: string;
}

/** @returns undefined when the name is claimed by another room */
export async function claimName(db: Queryable, key: string, roomId: string): Promise<Claim | undefined> {
  const { rows } = await db.query<{ before: string }>(
    `INSERT INTO room_names (name_key, room_id) VALUES ($1, $2)
      ON CONFLICT (name_key) DO NOTHING
      RETURNING claimed_at + make_interval(secs => $3) AS before`,
    [key, roomId, roomWithinS],
  );
  const [row] = rows;
  return row && { key, roomId, makeRoomBefore: row.before };
}

/** The id of the room that a claim past its life was made for; undefined where the claim is younger, or gone. */
export async function findOldClaim(db: Queryable, key: string): Promise<string | undefined> {
  const { rows } = await db.query<{ room_id: string }>(
    'SELECT room_id FROM room_names WHERE name_key = $1 AND claimed_at < now() - make_interval(secs => $2)',
    [key, claimLifeS],
  );
  return rows[0]?.room_id;
}

/** Takes a name from a room that was never made, or has another one now. Of any number who try, one succeeds. */
export async function takeOverName(db: Queryable, key: string, fromRoomId: string, roomId: string): Promise<Claim | undefined> {
  const { rows } = await db.query<{ before: string }>(
    `UPDATE room_names SET room_id = $3, claimed_at = now() WHERE name_key = $1 AND room_id = $2 AND claimed_at < now() - make_interval(secs => $5)
      RETURNING claimed_at + make_interval(secs => $4) AS before`,
    [key, fromRoomId, roomId, roomWithinS, claimLifeS],
  );
  const [row] = rows;
  return row && { key, roomId, makeRoomBefore: row.before };
}

/** @param heldAt when the room still had the name, by the server's clock: a claim that was made after that, for the same room again, stays */
export async function releaseName(db: Queryable, { key, roomId }: Pick<Claim, 'key' | 'roomId'>, heldAt?: string): Promise<void> {
  await db.query('DELETE FROM room_names WHERE name_key = $1 AND room_id = $2 AND ($3::timestamptz IS NULL OR claimed_at < $3)', [
    key,
    roomId,
    heldAt,
  ]);
}

/** By which claims are dated: its microseconds count. */
export async function serverTime(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  return rows[0]?.at ?? '';
}
