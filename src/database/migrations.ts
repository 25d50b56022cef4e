import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import type { Logger } from 'pino';
import { connectionConfig, type Queryable } from './database.js';
import { makeNameKeys } from './name-keys.js';
import { preconditions, readFacts } from './preconditions.js';
import { mendRights } from './rights.js';
import { openClient } from './session.js';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));

/**
 * Brings the schema up to date, or takes back `count` migrations. Holds an advisory lock and waits for it, so that any number of nodes may
 * start at once; each migration is a transaction of its own. Up, it also sees to the rights of other roles: before, because migrations are statements
 * of the owner, and after, because default privileges of a host come with each new object.
 * @param signal gives up: the migration that is under way is rolled back, unless it commits already
 */
export async function migrate(
  connectionString: string,
  log: Logger,
  direction: 'up' | 'down' = 'up',
  count = direction === 'up' ? Infinity : 1,
  signal?: AbortSignal,
): Promise<number> {
  const client = await openClient(
    { ...connectionConfig(connectionString, 'migrate'), connectionTimeoutMillis: 10_000, query_timeout: 0 },
    signal,
  );
  client.on('error', (error) => signal?.aborted === true || log.error({ err: error }, 'the connection of the migrations was lost'));
  try {
    // A role behind PgBouncer may have limits of its own, which hold for the wait for the other nodes' migrations too.
    await client.query('SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0');
    // What waits for a lock ends when its node has ended, instead of keeping others from the table. A commit that waits for a standby stays.
    await client.query("SET client_connection_check_interval = '1s'").catch(() => undefined); // not on every system
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
export async function serverProblems(connectionString: string, signal?: AbortSignal): Promise<string[]> {
  const client = await openClient({ ...connectionConfig(connectionString, 'start'), connectionTimeoutMillis: 10_000 }, signal);
  try {
    const facts = await readFacts(client);
    return preconditions.flatMap((each) => each.problems(facts));
  } finally {
    await client.end();
  }
}
