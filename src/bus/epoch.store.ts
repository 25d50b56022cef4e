/** The epoch for whoever operates the database; the nodes read it in their sweep (bus.store.ts). */
import type { Queryable } from '../database/database.js';

/** What can be said of a database's epoch: it has one, it is a standby, which can't raise it, or it has no schema. */
export type EpochState = { readonly epoch: string } | 'standby' | 'no schema';

export async function readEpoch(db: Queryable): Promise<EpochState> {
  const { rows } = await db.query<{ standby: boolean; migrated: boolean }>(
    "SELECT pg_is_in_recovery() AS standby, to_regclass('operator_epoch') IS NOT NULL AS migrated",
  );
  if (rows[0]?.standby === true) return 'standby';
  if (rows[0]?.migrated !== true) return 'no schema';
  const current = await db.query<{ epoch: string }>('SELECT current_epoch() AS epoch');
  return { epoch: current.rows[0]?.epoch ?? '' };
}

/**
 * Makes the epoch one that no life of this database had. Drawn and not counted up: a backup that is restored a second time, and raised a second
 * time, would come back under the epoch of the first, with other messages at the same seqs.
 */
export async function raiseEpoch(db: Queryable): Promise<void> {
  await db.query('UPDATE operator_epoch SET epoch = (random() * 2147483647)::int');
}
