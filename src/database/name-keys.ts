/**
 * Makes the keys of names that rows of before migration 0017 lack (src/protocol/names.ts), and of rows that nodes of the version before have added
 * since. Where another row has a key already, the row goes on with its former one, by which it is found exactly as it is written; that is
 * reported here and by `npm run doctor`, and nothing fails. Each batch stands by itself: what was interrupted goes on at the next start.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { emailKey, nameKey, nameLook, roomKey } from '../protocol/names.js';
import { isUniqueViolation } from './sql-error.js';

const batchRows = 5_000;
/** Any number: that of no other lock that Trunkline takes. */
const lockId = 7_017;
const namedMax = 20;

/** What of a row is the same as in an older one. A look alone is no harm: both are found by their names, and the doctor counts them. */
interface Collision {
  id: string;
  fields: string[];
}

interface Updated {
  id: string;
  missing: string[];
}

/** @param client on a session of its own, for it holds a lock */
export async function makeNameKeys(client: pg.Client, log: Logger): Promise<void> {
  if (!(await isMigrated(client)) || !(await arePending(client))) return;
  await client.query('SELECT pg_catalog.pg_advisory_lock($1::bigint)', [lockId]);
  try {
    await makeAll('account', userBatch);
    await makeAll('room', roomBatch);
  } finally {
    await client.query('SELECT pg_catalog.pg_advisory_unlock($1::bigint)', [lockId]);
  }

  async function makeAll(what: string, batch: typeof userBatch): Promise<void> {
    let [rows, collisions] = [0, 0];
    let after: Row | undefined = { id: '00000000-0000-0000-0000-000000000000', key: '' };
    while (after !== undefined) {
      const from: Row = after;
      const done = await repeated(() => batch(client, from));
      for (const { id, fields } of done.collisions.slice(0, Math.max(0, namedMax - collisions)))
        log.warn({ [what]: id, fields }, 'name is the same as an older one; kept as it is, see npm run doctor');
      rows += done.rows;
      collisions += done.collisions.length;
      after = done.last;
    }
    if (rows > 0) log.info({ of: what, rows, collisions }, 'keys of names made');
  }
}

async function isMigrated(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ exists: boolean }>("SELECT to_regclass('room_names_without_keys_idx') IS NOT NULL AS exists");
  return rows[0]?.exists === true;
}

async function arePending(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ pending: boolean }>(
    `SELECT EXISTS (SELECT FROM users WHERE ${pendingUser}) OR EXISTS (SELECT FROM room_names WHERE ${pendingRoom}) AS pending`,
  );
  return rows[0]?.pending === true;
}
const pendingUser = 'NOT keys_made AND (username_fold IS NULL OR username_look IS NULL OR email_fold IS NULL)';
const pendingRoom = 'NOT keys_made AND name_look IS NULL';

/** A node may give a key to a new row between the look and the write. */
async function repeated<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isUniqueViolation(error) || attempt === 10) throw error;
    }
  }
}

interface Batch {
  /** The row after which the next batch begins; undefined after the last. */
  last: Row | undefined;
  rows: number;
  collisions: readonly Collision[];
}

/** `key` tells the claims of one room apart. */
interface Row {
  id: string;
  key: string;
}

async function userBatch(client: pg.Client, after: Row): Promise<Batch> {
  const { rows } = await client.query<Row & { username: string; email: string }>(
    `SELECT id, '' AS key, username, email FROM users WHERE ${pendingUser} AND id > $1 ORDER BY id LIMIT $2`,
    [after.id, batchRows],
  );
  const { rows: updated } = await client.query<Updated>(
    // Subqueries with a LIMIT keep the planner on the indexes: it would hash the whole table for EXISTS.
    `WITH wanted AS (
        SELECT id, ${firstOf('fold')}, ${firstOf('look')}, ${firstOf('mail')}
        FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
          pg_catalog.unnest($4::text[])) WITH ORDINALITY AS w (id, fold, look, mail, n)
      )
      UPDATE users AS u SET keys_made = true,
        username_fold = CASE WHEN (SELECT true FROM users AS o WHERE o.username_fold = w.fold LIMIT 1) IS NULL THEN w.fold END,
        username_look = CASE WHEN (SELECT true FROM users AS o WHERE o.username_look = w.look LIMIT 1) IS NULL THEN w.look END,
        email_fold = CASE WHEN (SELECT true FROM users AS o WHERE o.email_fold = w.mail LIMIT 1) IS NULL THEN w.mail END
      FROM wanted AS w WHERE w.id = u.id
      RETURNING u.id, pg_catalog.array_remove(ARRAY[
        CASE WHEN u.username_fold IS NULL THEN 'username' END, CASE WHEN u.email_fold IS NULL THEN 'email' END], NULL) AS missing`,
    [
      rows.map(({ id }) => id),
      rows.map(({ username }) => nameKey(username)),
      rows.map(({ username }) => nameLook(username)),
      rows.map(({ email }) => emailKey(email)),
    ],
  );
  return batchOf(rows, updated);
}

async function roomBatch(client: pg.Client, after: Row): Promise<Batch> {
  const { rows } = await client.query<Row>(
    `SELECT room_id AS id, name_key AS key FROM room_names WHERE ${pendingRoom} AND (room_id, name_key) > ($1, $2)
      ORDER BY room_id, name_key LIMIT $3`,
    [after.id, after.key, batchRows],
  );
  const { rows: updated } = await client.query<Updated>(
    `WITH wanted AS (
        SELECT key, ${firstOf('look')}
        FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS w (key, look, n)
      )
      UPDATE room_names AS r SET keys_made = true,
        name_look = CASE WHEN (SELECT true FROM room_names AS o WHERE o.name_look = w.look LIMIT 1) IS NULL THEN w.look END
      FROM wanted AS w WHERE w.key = r.name_key
      RETURNING r.room_id AS id, CASE WHEN r.name_look IS NULL THEN ARRAY['name'] ELSE '{}' END AS missing`,
    [rows.map(({ key }) => key), rows.map(({ key }) => roomKey(key))],
  );
  return batchOf(rows, updated);
}

/** In the order of the ids, which is that in which accounts and rooms were made. A name with nothing to be seen has no key. */
const firstOf = (column: string): string =>
  `CASE WHEN ${column} <> '' AND pg_catalog.row_number() OVER (PARTITION BY ${column} ORDER BY n) = 1 THEN ${column} END AS ${column}`;

const batchOf = (rows: readonly Row[], updated: readonly Updated[]): Batch => ({
  last: rows.length < batchRows ? undefined : rows.at(-1),
  rows: rows.length,
  collisions: updated.filter(({ missing }) => missing.length > 0).map(({ id, missing }) => ({ id, fields: missing })),
});
