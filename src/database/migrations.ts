import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import type { Logger } from 'pino';
import type { Queryable } from './database.js';
import { makeNameKeys } from './name-keys.js';
import { mendRights } from './rights.js';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));
export const newestSupported = 18;
const oldestSupported = 15;

/**
 * Brings the schema up to date, or takes back `count` migrations. Holds an advisory lock and waits for it, so that any number of nodes may
 * start at once; each migration is a transaction of its own. Up, it also sees to the rights of other roles: before, because migrations are statements
 * of the owner, and after, because default privileges of a host come with each new object.
 */
export async function migrate(
  connectionString: string,
  log: Logger,
  direction: 'up' | 'down' = 'up',
  count = direction === 'up' ? Infinity : 1,
): Promise<number> {
  const client = new pg.Client({ connectionString, application_name: 'trunkline migrate', connectionTimeoutMillis: 10_000 });
  client.on('error', (error) => log.error({ err: error }, 'the connection of the migrations was lost'));
  await client.connect();
  try {
    // A role behind PgBouncer may have limits of its own, which hold for the wait for the other nodes' migrations too.
    await client.query('SET statement_timeout = 0; SET lock_timeout = 0');
    if (direction === 'up') await mendRights(client, log);
    const run = await runner({
      dbClient: client,
      dir: folder,
      direction,
      count,
      migrationsTable: 'migrations',
      advisoryLockMode: 'wait',
      logger: {
        debug: () => undefined,
        info: (message) => log.debug(message),
        warn: (message) => log.warn(message),
        error: (message) => log.error(message),
      },
    });
    if (direction === 'up') await mendRights(client, log);
    for (const { name } of run) log.info({ migration: name, direction }, 'migrated');
    if (direction === 'up') await makeNameKeys(client, log);
    return run.length;
  } finally {
    await client.end();
  }
}

/** The migrations that this version brings and the database has not had, and those that it had of a version that is not this one. */
export async function compareMigrations(db: Queryable): Promise<{ pending: string[]; unknown: string[] }> {
  const ours = (await readdir(folder)).map((file) => file.replace(/\.sql$/, '')).toSorted();
  const { rows: tables } = await db.query<{ exists: boolean }>("SELECT to_regclass('migrations') IS NOT NULL AS exists");
  const { rows } = tables[0]?.exists === true ? await db.query<{ name: string }>('SELECT name FROM migrations ORDER BY id') : { rows: [] };
  const theirs = rows.map(({ name }) => name);
  return { pending: ours.filter((name) => !theirs.includes(name)), unknown: theirs.filter((name) => !ours.includes(name)) };
}

/** Says, in one sentence each, why this server can't keep Trunkline's promises; empty when it can. */
export async function serverProblems(connectionString: string): Promise<string[]> {
  const client = new pg.Client({
    connectionString,
    application_name: 'trunkline start',
    connectionTimeoutMillis: 10_000,
    query_timeout: 10_000,
  });
  client.on('error', () => undefined); // the query below rejects with the same error
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string; setting: string }>(
      "SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'fsync', 'synchronous_commit', 'server_encoding')",
    );
    const settings = new Map(rows.map(({ name, setting }) => [name, setting]));
    const version = Math.floor(Number(settings.get('server_version_num')) / 10_000);
    const problems: string[] = [];
    const { rows: states } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby');
    if (states[0]?.standby === true)
      problems.push('The server is a standby, which can neither store nor LISTEN: use the primary, or promote this one.');
    if (version < oldestSupported)
      problems.push(`PostgreSQL ${version} is too old: Trunkline needs ${oldestSupported} to ${newestSupported}.`);
    if (settings.get('server_encoding') !== 'UTF8') problems.push('The database must have the encoding UTF8.');
    for (const name of ['fsync', 'synchronous_commit']) {
      if (settings.get(name) === 'off') {
        problems.push(`${name} is off: after a crash, seqs that clients have seen would be given to other messages. Set ${name} = on.`);
      }
    }
    return problems;
  } finally {
    await client.end();
  }
}
