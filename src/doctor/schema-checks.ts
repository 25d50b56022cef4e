/** What Trunkline has put into the database: whole, in force, and out of others' reach. */
import { compareMigrations } from '../database/migrations.js';
import { readRights } from '../database/rights.js';
import { fail, ok, warn, type Check, type Finding } from './check.js';
import type { Server } from './server.js';

/** Tables and functions are ours where they have the owner and the schema of `rooms`. */
const ourTables =
  "SELECT c.* FROM pg_class AS c JOIN pg_class AS r ON r.oid = to_regclass('rooms') AND r.relnamespace = c.relnamespace AND r.relowner = c.relowner";

export const schemaChecks: readonly Check<Server>[] = [
  { name: 'migrations', run: migrations },
  { name: 'privileges', run: privileges },
  { name: 'rights of others', run: rightsOfOthers },
  { name: 'read everything', run: readEverything },
  { name: 'superuser', run: superuser },
  { name: 'who may connect', run: whoMayConnect },
  { name: 'triggers', run: triggers },
  { name: 'indexes', run: indexes },
  { name: 'pg_trgm', run: trigrams },
  { name: 'collation', run: collation },
  { name: 'names', run: sameNames },
];

async function migrations({ sql }: Server): Promise<readonly Finding[]> {
  const { pending, unknown } = await compareMigrations(sql);
  if (unknown.length > 0)
    return warn(`${unknown.join(', ')}: the database is ahead of this version. Right while nodes are replaced; else run the newer version`);
  if (pending.length > 0) return warn(`${pending.length} to come (${pending[0]} …): a node brings them when it starts, or npm run migrate`);
  return ok('all there');
}

async function privileges({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ missing: string }>(
    `WITH ours AS (${ourTables})
     SELECT relname || ' (' || p || ')' AS missing FROM ours, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
     WHERE relkind = 'r' AND NOT has_table_privilege(oid, p)
     UNION ALL SELECT relname || ' (USAGE)' FROM ours WHERE CASE WHEN relkind = 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') END
     UNION ALL SELECT proname || '()' FROM pg_proc AS f JOIN pg_class AS r ON r.oid = to_regclass('rooms') AND r.relowner = f.proowner
       WHERE f.pronamespace = r.relnamespace AND NOT has_function_privilege(f.oid, 'EXECUTE')`,
  );
  const missing = rows.map((row) => row.missing);
  if (missing.length === 0) return ok('the role may do all that a node does');
  return fail(
    `the role lacks ${missing.slice(0, 5).join(', ')}${missing.length > 5 ? ` and ${missing.length - 5} more` : ''}: let it own the database and its tables`,
  );
}

/** The start takes grants back; a node that runs already does not notice a grant or a restore. */
async function rightsOfOthers({ sql }: Server): Promise<readonly Finding[]> {
  const { findings, granted } = await readRights(sql);
  const wrong = findings.flatMap(({ problem, statement }) => fail(`${problem}: ${statement}`));
  const given = granted.flatMap((grant) => warn(`${grant}, for a program that posts or reads: REVOKE it if there is none`));
  return wrong.length + given.length === 0 ? ok('none on what is ours') : [...wrong, ...given];
}

async function readEverything({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string; power: string }>(
    `SELECT quote_ident(r.rolname) AS name, p.power FROM pg_catalog.pg_roles AS r, (VALUES ('pg_read_all_data'), ('pg_write_all_data')) AS p (power)
     WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user AND pg_has_role(r.oid, p.power::name, 'MEMBER') ORDER BY 1, 2`,
  );
  if (rows.length === 0) return ok('no role but superusers');
  return rows.flatMap(({ name, power }) =>
    warn(
      `${name} is a member of ${power}, and so has every table, password hashes and the key of the bus too: REVOKE ${power} FROM ${name}, or trust it`,
    ),
  );
}

async function superuser({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ super: boolean }>('SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user');
  return rows[0]?.super === true
    ? warn(
        'the role is a superuser: whoever gets at a node has the whole server. CREATE ROLE … LOGIN, and make it the owner of the database',
      )
    : ok('the role is none');
}

/** Who may connect may LISTEN, and so read along. */
async function whoMayConnect({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string; database: string }>(
    `SELECT rolname AS name, current_database() AS database FROM pg_roles
     WHERE rolcanlogin AND NOT rolsuper AND rolname <> current_user AND has_database_privilege(oid, current_database(), 'CONNECT') ORDER BY 1`,
  );
  if (rows.length === 0) return ok('nobody else but superusers');
  const names = rows.map(({ name }) => name);
  return warn(
    `${names.slice(0, 5).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''} may connect, LISTEN, and so read all messages along: ` +
      `REVOKE CONNECT ON DATABASE ${rows[0]?.database} FROM PUBLIC, or trust them`,
  );
}

async function triggers({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string; table_name: string }>(
    `SELECT tgname AS name, ours.relname AS table_name FROM pg_trigger JOIN (${ourTables}) AS ours ON ours.oid = tgrelid
     WHERE NOT tgisinternal AND tgenabled <> 'O' ORDER BY 1`,
  );
  if (rows.length === 0) return ok('all in force');
  return rows.flatMap(({ name, table_name: table }) =>
    fail(`${name} is disabled, and with it a promise: ALTER TABLE ${table} ENABLE TRIGGER ${name}`),
  );
}

async function indexes({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string }>(
    `SELECT ours.relname AS name FROM pg_index JOIN (${ourTables}) AS ours ON ours.oid = indexrelid WHERE NOT indisvalid OR NOT indisready`,
  );
  return rows.length === 0 ? ok('all valid') : rows.flatMap(({ name }) => fail(`${name} is not valid: REINDEX INDEX CONCURRENTLY ${name}`));
}

async function trigrams({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ migrated: boolean; indexed: boolean }>(
    "SELECT to_regclass('rooms') IS NOT NULL AS migrated, to_regclass('rooms_name_search_idx') IS NOT NULL AS indexed",
  );
  if (rows[0]?.indexed === true || rows[0]?.migrated !== true)
    return ok(rows[0]?.migrated === true ? 'rooms are searched by index' : 'comes with the migrations');
  return warn(
    'rooms are searched by reading them. Where there are many: CREATE EXTENSION pg_trgm (package postgresql-contrib), then the CREATE INDEX of migrations/0009_room_search.sql',
  );
}

/** After an upgrade of the system's C library, text may sort otherwise than the indexes were built. */
async function collation({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string; stale: boolean }>(
    `SELECT datname AS name, datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) AS stale
     FROM pg_database WHERE datname = current_database()`,
  );
  return rows[0]?.stale === true
    ? fail(
        `the rules of sorting have changed under the indexes: REINDEX DATABASE ${rows[0].name}, then ALTER DATABASE ${rows[0].name} REFRESH COLLATION VERSION`,
      )
    : ok('as the indexes were built');
}

/** Rows of before migration 0017 whose key another row has; src/database/name-keys.ts leaves them as they are. */
async function sameNames({ sql }: Server): Promise<readonly Finding[]> {
  const { rows: migrated } = await sql.query<{ yes: boolean }>("SELECT to_regclass('room_names_without_keys_idx') IS NOT NULL AS yes");
  if (migrated[0]?.yes !== true) return ok('their keys come with the migrations');
  const found: Finding[] = [];
  const { rows: accounts } = await sql.query<Held>(
    `SELECT id, username AS name, email, username_fold IS NULL AS by_name, count(*) OVER ()::int AS total FROM users
     WHERE keys_made AND (username_fold IS NULL OR username_look IS NULL OR email_fold IS NULL)
       AND (username_fold IS NULL OR email_fold IS NULL) ORDER BY id LIMIT 5`,
  );
  if (accounts.length > 0)
    found.push(
      ...warn(
        `${accounts[0]?.total} accounts can't be told by name or address from older ones: ${accounts.map(escaped).join(', ')}. ` +
          'They log in as before. Ask their owners to register another name, then DELETE FROM users WHERE id = …',
      ),
    );
  const { rows: rooms } = await sql.query<Held>(
    `SELECT room_id AS id, name_key AS name, count(*) OVER ()::int AS total FROM room_names
     WHERE keys_made AND name_look IS NULL ORDER BY room_id LIMIT 5`,
  );
  if (rooms.length > 0)
    found.push(
      ...warn(`${rooms[0]?.total} rooms can't be told from older ones: ${rooms.map(escaped).join(', ')}. PATCH /rooms/:id renames one`),
    );
  const { rows: counts } = await sql.query<{ pending: boolean; alike: number }>(
    `SELECT EXISTS (SELECT FROM users WHERE NOT keys_made AND (username_fold IS NULL OR username_look IS NULL OR email_fold IS NULL))
         OR EXISTS (SELECT FROM room_names WHERE NOT keys_made AND name_look IS NULL) AS pending,
       (SELECT count(*) FROM users WHERE keys_made AND username_look IS NULL AND username_fold IS NOT NULL)::int AS alike`,
  );
  if (counts[0]?.pending === true)
    found.push(
      ...warn('nodes of the version before have added names since the last start: when none of them runs any more, npm run migrate'),
    );
  const alike = counts[0]?.alike ?? 0;
  return found.length > 0 ? found : ok(alike === 0 ? 'no two are the same' : `no two are the same; ${alike} look like an older one`);
}

interface Held {
  id: string;
  name: string;
  email?: string;
  by_name?: boolean;
  total: number;
}

/** What can't be seen in a terminal, or would turn it, comes as its number. */
const escaped = ({ id, name, email, by_name: byName }: Held): string => {
  const shown = byName === false && email !== undefined ? email : name;
  return `"${shown.replaceAll(/[\p{C}\p{DI}\p{Z}]/gu, (one) => `\\u{${one.codePointAt(0)?.toString(16)}}`)}" (${id})`;
};
