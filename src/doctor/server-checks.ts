/** The server: what it must keep, what it should, and whether it has room for the nodes. */
import { connectionConfig, connectionsPerNode } from '../database/database.js';
import { newestSupported, preconditions, readFacts } from '../database/preconditions.js';
import { openClient } from '../database/session.js';
import { sqlState } from '../database/sql-error.js';
import { fail, ok, warn, type Check, type Finding, type Verdict } from './check.js';
import { isPublic, type Server } from './server.js';

/** Settings of the server: what each may not be, how bad it is, and what to do. Not those without which a node does not start (preconditions). */
const judged: readonly (readonly [name: string, isWrong: (value: string) => boolean, verdict: Verdict, text: string])[] = [
  ['full_page_writes', (value) => value === 'off', 'fail', 'a crash can leave pages half written. Set full_page_writes = on'],
  ['autovacuum', (value) => value === 'off', 'warn', 'tables and indexes swell. Set autovacuum = on'],
  ['track_counts', (value) => value === 'off', 'warn', 'autovacuum does not know when to run. Set track_counts = on'],
  ['wal_level', (value) => value === 'minimal', 'warn', 'no base backup, no archive, no standby is possible. Set wal_level = replica'],
  [
    'max_notify_queue_pages',
    (value) => Number(value) < 65_536,
    'warn',
    'the queue of notifications is full soon when one listener hangs, and then no message can be stored. Leave it at 1048576',
  ],
];

const commitDeadlineMs = 3_000;

/** What a node asks for when it connects; a pooler may keep it to itself. */
const timeouts = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'];
/** Longer than this and a dead peer's connection holds back the notification queue for long. */
const keepaliveMaxS = 300;

export const serverChecks: readonly Check<Server>[] = [
  { name: 'version', run: version },
  ...[...new Set(preconditions.map(({ name }) => name))].map((name): Check<Server> => ({
    name,
    run: (server) => precondition(name, server),
  })),
  { name: 'commits', run: commits },
  { name: 'plans', run: plans },
  ...judged.map(([name, isWrong, verdict, text]): Check<Server> => ({
    name,
    run: ({ settings }) => {
      const value = settings.get(name);
      if (value === undefined) return []; // of a later version
      return isWrong(value) ? [{ verdict, text: `${name} is ${value}: ${text}` }] : ok(value);
    },
  })),
  { name: 'time-outs', run: timeoutsArrive },
  { name: 'dead peers', run: deadPeers },
  { name: 'log of the server', run: contentsInLog },
  { name: 'connections', run: connections },
  { name: 'TLS to the database', run: encryption },
];

function version({ settings }: Server): readonly Finding[] {
  const major = Math.floor(Number(settings.get('server_version_num')) / 10_000);
  const text = `PostgreSQL ${settings.get('server_version')}`;
  return major > newestSupported ? warn(`${text}: nobody has tried Trunkline on it; ${newestSupported} is the newest that was`) : ok(text);
}

/** Without these a node does not start. */
async function precondition(name: string, { sql }: Server): Promise<readonly Finding[]> {
  const facts = await readFacts(sql);
  const problems = preconditions.filter((each) => each.name === name).flatMap((each) => each.problems(facts));
  return problems.length === 0 ? ok('as a node needs it') : problems.flatMap(fail);
}

/** On a connection of its own: the commit may wait for as long as the standby is gone, and must not be cancelled. */
async function commits({ config, settings }: Server): Promise<readonly Finding[]> {
  const client = await openClient({ ...connectionConfig(config.DATABASE_URL, 'doctor'), query_timeout: commitDeadlineMs });
  try {
    const { rows } = await client.query<{ closed: boolean }>(
      "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS closed",
    );
    if (rows[0]?.closed === true) return ok('not tried, for nothing can be written');
    const startedAt = performance.now();
    const isFinished = await client.query("SELECT pg_logical_emit_message(true, 'trunkline', '')").then(
      () => true,
      (error: unknown) => {
        if (sqlState(error) !== undefined) throw error;
        return false;
      },
    );
    if (isFinished) return ok(`finished within ${Math.ceil(performance.now() - startedAt)} ms`);
    const names = settings.get('synchronous_standby_names') ?? '';
    return fail(
      names === ''
        ? `not finished within ${commitDeadlineMs / 1_000} s: look at the server's disk`
        : `commits wait for a standby that isn't there (synchronous_standby_names is ${names}): bring it back, or take it out of synchronous_standby_names and reload`,
    );
  } finally {
    void client.end().catch(() => undefined);
  }
}

/** For experiments: whoever set them for a database or a role made the statements of the nodes slow. */
async function plans({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ name: string; setting: string }>(
    "SELECT name, setting FROM pg_settings WHERE name LIKE 'enable\\_%' AND vartype = 'bool' AND setting <> boot_val ORDER BY name",
  );
  if (rows.length === 0) return ok('the planner may use what it has');
  return warn(
    `${rows.map(({ name, setting }) => `${name} is ${setting}`).join(', ')}: statements may be slow: ALTER ROLE or DATABASE … RESET it`,
  );
}

function timeoutsArrive({ settings }: Server): readonly Finding[] {
  const missing = timeouts.filter((name) => settings.get(name) === '0');
  if (missing.length === 0) return ok('those of the nodes are in force');
  return warn(
    `${missing.join(', ')}: what the nodes ask for does not reach the server (PgBouncer's ignore_startup_parameters?), so that a stuck statement stays: ` +
      `ALTER ROLE … SET statement_timeout = '5s', lock_timeout = '2s' and idle_in_transaction_session_timeout = '7s', each by itself`,
  );
}

/** A listener whose machine is gone holds the notification queue back until the server notices. */
async function deadPeers({ sql, settings }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ local: boolean }>('SELECT inet_client_addr() IS NULL AS local');
  if (rows[0]?.local === true) return ok('a local socket');
  const found = [];
  if (settings.get('tcp_user_timeout') === '0') found.push('tcp_user_timeout = 30s');
  const idle = Number(settings.get('tcp_keepalives_idle'));
  if (idle === 0 || idle > keepaliveMaxS) found.push('tcp_keepalives_idle = 60, tcp_keepalives_interval = 10, tcp_keepalives_count = 6');
  return found.length === 0
    ? ok('noticed within minutes')
    : warn(`a node whose machine vanishes holds back the notification queue for up to hours. Set ${found.join(', ')} on the server`);
}

function contentsInLog({ settings }: Server): readonly Finding[] {
  const logs =
    ['all', 'mod'].includes(settings.get('log_statement') ?? '') ||
    ['log_min_duration_statement', 'log_min_duration_sample'].some((name) => Number(settings.get(name) ?? -1) >= 0);
  if (!logs || settings.get('log_parameter_max_length') === '0') return ok('no bodies of messages in it');
  return warn('statements are logged with their parameters, which are the bodies of messages: set log_parameter_max_length = 0');
}

async function connections({ sql, settings, config, pooled, nodes }: Server): Promise<readonly Finding[]> {
  const each = connectionsPerNode(config);
  if (pooled) return ok(`${each} a node, through a pooler: its own limits count`);
  const { rows } = await sql.query<{ others: number; role_limit: number; database_limit: number }>(
    `SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND application_name !~ '^trunkline ')::int AS others,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit`,
  );
  const { others = 0, role_limit: roleLimit = -1, database_limit: databaseLimit = -1 } = rows[0] ?? {};
  const reckoned = nodes ?? Math.max(1, await liveNodes(sql));
  const reserved = ['superuser_reserved_connections', 'reserved_connections'].reduce(
    (sum, name) => sum + Number(settings.get(name) ?? 0),
    0,
  );
  const free = Number(settings.get('max_connections')) - reserved - others;
  const room = Math.min(free, ...[roleLimit, databaseLimit].filter((limit) => limit >= 0));
  const sum = `${reckoned} node${reckoned === 1 ? '' : 's'} of up to ${each} connections, ${room} are to be had`;
  const toDo = 'raise max_connections (or the limit of the role or database), or lower DATABASE_POOL_SIZE';
  if (reckoned * each > room) return fail(`${sum}: ${toDo}`);
  if ((reckoned + 1) * each > room) return warn(`${sum}: no room for one more while nodes are replaced; ${toDo}`);
  return ok(sum);
}

/** By their leases; none where there is no schema yet, and none on a standby, which has no unlogged tables. */
async function liveNodes(sql: Server['sql']): Promise<number> {
  const { rows: tables } = await sql.query<{ exists: boolean }>(
    "SELECT to_regclass('presence_nodes') IS NOT NULL AND NOT pg_is_in_recovery() AS exists",
  );
  if (tables[0]?.exists !== true) return 0;
  const { rows } = await sql.query<{ n: number }>('SELECT count(*)::int AS n FROM presence_nodes WHERE expires_at > now()');
  return rows[0]?.n ?? 0;
}

async function encryption({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ ssl: boolean | null; address: string | null }>(
    'SELECT (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS ssl, host(inet_server_addr()) AS address',
  );
  return judgeEncryption(rows[0]?.ssl === true, rows[0]?.address ?? null);
}

/** @param address the server's; null for a local socket */
export function judgeEncryption(encrypted: boolean, address: string | null): readonly Finding[] {
  if (encrypted) return ok('encrypted');
  if (address === null || !isPublic(address)) return ok('not encrypted, in a private network');
  return warn(`the connection to ${address} is not encrypted: add ?sslmode=verify-full to DATABASE_URL`);
}
