/**
 * Claims of room names. Names are unique over all buckets, and the rooms may one day be spread over servers, so no transaction covers both
 * a name and its room. Hence a name is claimed first and its room made after, within the life of the claim; what was claimed by a node that
 * died in between may be taken over when that life is past. A room that is renamed claims the new name in the same way, and gives the old one back
 * after.
 */
import type { Queryable } from '../database/database.js';
import { formerKey, roomKey } from '../protocol/names.js';

/** Until when a claim's room may be made, in s since the claim. Half of what protects it: a room that is just being made is never overtaken. */
const roomWithinS = 30;
/** When a claim without a room may be taken over, in s since the claim. */
const claimLifeS = 60;

export interface Claim {
  name: string;
  roomId: string;
  /** ISO 8601, by the server's clock. */
  makeRoomBefore: string;
}

/** @returns undefined when the name, or one that looks the same, is claimed already */
export async function claimName(db: Queryable, name: string, roomId: string): Promise<Claim | undefined> {
  const { rows } = await db.query<{ before: string }>(
    `INSERT INTO room_names (name_key, name_look, keys_made, room_id) VALUES ($1, $2, true, $3)
      ON CONFLICT DO NOTHING
      RETURNING claimed_at + make_interval(secs => $4) AS before`,
    [formerKey(name), roomKey(name), roomId, roomWithinS],
  );
  const [row] = rows;
  return row && { name, roomId, makeRoomBefore: row.before };
}

/** A claim that stands in the way of another. */
export interface Hold {
  /** Its primary key: the former key of its name. */
  key: string;
  /** Null where another claim had the look first. */
  look: string | null;
  roomId: string;
  /** Past its life: the room may never have been made. */
  isOld: boolean;
}

/** The claims that a name can't be claimed beside: two where one has its former key, and another its look. */
export async function findHolds(db: Queryable, name: string): Promise<Hold[]> {
  const { rows } = await db.query<Hold>(
    `SELECT name_key AS key, name_look AS look, room_id AS "roomId", claimed_at < now() - make_interval(secs => $3) AS "isOld"
      FROM room_names WHERE name_key IN ($1, $2) OR name_look = $2`,
    [formerKey(name), roomKey(name), claimLifeS],
  );
  return rows;
}

/** Whether it is a room's claim that has the look of a name. */
export async function holdsLook(db: Queryable, name: string, roomId: string): Promise<boolean> {
  const { rowCount } = await db.query('SELECT FROM room_names WHERE name_look = $1 AND room_id = $2', [roomKey(name), roomId]);
  return rowCount === 1;
}

/** Ends an old claim for a room that was never made, or has another name now. */
export async function endOldClaim(db: Queryable, { key, roomId }: Hold): Promise<void> {
  await db.query('DELETE FROM room_names WHERE name_key = $1 AND room_id = $2 AND claimed_at < now() - make_interval(secs => $3)', [
    key,
    roomId,
    claimLifeS,
  ]);
}

/** @param heldAt when the room still had the name, by the server's clock: a claim that was made after that, for the same room again, stays */
export async function releaseName(db: Queryable, { name, roomId }: Pick<Claim, 'name' | 'roomId'>, heldAt?: string): Promise<void> {
  await db.query(
    `DELETE FROM room_names WHERE (name_key = $1 OR name_look = $2) AND room_id = $3 AND ($4::timestamptz IS NULL OR claimed_at < $4)`,
    [formerKey(name), roomKey(name), roomId, heldAt],
  );
}

/** By which claims are dated: its microseconds count. */
export async function serverTime(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  return rows[0]?.at ?? '';
}
