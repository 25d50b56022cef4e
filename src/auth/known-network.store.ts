import type { Queryable } from '../database/database.js';

/** A network from which the user did not log in for so long is a strange one again. */
const keptFor = '90 days';

/** @param network as `KeyedHash` makes it */
export async function isKnownNetwork(db: Queryable, userId: string, network: Buffer): Promise<boolean> {
  const { rows } = await db.query('SELECT FROM known_networks WHERE user_id = $1 AND network = $2', [userId, network]);
  return rows.length > 0;
}

/** Deletes at most `max` networks that were not used for long, and returns how many. Any number of nodes may do it at once. */
export async function deleteForgottenNetworks(db: Queryable, max: number): Promise<number> {
  const { rowCount } = await db.query(
    `DELETE FROM known_networks WHERE (user_id, network) IN (
        SELECT user_id, network FROM known_networks WHERE last_login_at < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED
      )`,
    [keptFor, max],
  );
  return rowCount ?? 0;
}
