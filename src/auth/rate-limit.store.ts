import type { Queryable } from '../database/database.js';

/** Deletes at most `max` counts whose time has passed, and returns how many. Any number of nodes may do it at once. */
export async function deleteExpiredCounts(db: Queryable, max: number): Promise<number> {
  const { rowCount } = await db.query(
    `DELETE FROM rate_limits WHERE key = ANY (ARRAY(
        SELECT key FROM rate_limits WHERE expire < extract(epoch FROM now()) * 1000 LIMIT $1 FOR UPDATE SKIP LOCKED
      ))`,
    [max],
  );
  return rowCount ?? 0;
}
