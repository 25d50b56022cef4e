import pg from 'pg';
import { eventually } from '../../test/support/eventually.js';
import { startProxy } from '../../test/support/proxy.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { migrate } from '../database/migrations.js';
import { pino } from 'pino';
import { busChecks, openTransactions } from './bus-checks.js';
import { runChecks } from './check.js';
import { schemaChecks } from './schema-checks.js';
import { serverChecks } from './server-checks.js';
import { openServer } from './server.js';

let db: TestDatabase;
const roles: string[] = [];
beforeEach(async () => {
  db = await createTestDatabase();
});
afterEach(async () => {
  for (const role of roles.splice(0)) await db.sql.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  await db.drop();
});

/** What is not ok, as `verdict name: text`, of a node's settings on the test's database. */
async function examine(env: Record<string, string> = {}, nodes?: number): Promise<string[]> {
  const config = loadConfig({
    DATABASE_URL: db.url,
    JWT_ACCESS_SECRET: 'x'.repeat(32),
    DATABASE_POOL_SIZE: '2',
    WRITER_LANES: '1',
    ...env,
  });
  const server = await openServer(config, nodes);
  const lines: string[] = [];
  try {
    for (const checks of [serverChecks, schemaChecks, busChecks]) {
      await runChecks(checks, server, (name, { verdict, text }) => verdict !== 'ok' && lines.push(`${verdict} ${name}: ${text}`));
    }
  } finally {
    await server.close();
  }
  return lines;
}

/** What the change brought up that was not there before: the tests' server is nobody's model. */
async function afterChange(change: () => Promise<unknown>, env?: Record<string, string>, nodes?: number): Promise<string[]> {
  const before = await examine();
  await change();
  return (await examine(env, nodes)).filter((line) => !before.includes(line));
}

const onDatabase = (setting: string) => () => db.sql.query(`ALTER DATABASE ${db.name} SET ${setting}`);

it('a migrated database fails in nothing', async () => {
  expect((await examine()).filter((line) => line.startsWith('fail'))).toEqual([]);
});

it.each<[setting: string, line: RegExp]>([
  ['synchronous_commit = off', /^fail durability: synchronous_commit is off: /],
  ['session_replication_role = replica', /^fail session_replication_role: .* is replica: triggers/],
  ['zero_damaged_pages = on', /^fail zero_damaged_pages: /],
  ['enable_indexscan = off', /^warn plans: enable_indexscan is off: /],
  ['track_counts = off', /^warn track_counts: /],
  ['log_statement = mod', /^warn log of the server: .*set log_parameter_max_length = 0/],
  ['log_min_duration_statement = 1000', /^warn log of the server: /],
])('a database with %s is found out, and nothing else is said', async (setting, line) => {
  expect(await afterChange(onDatabase(setting))).toEqual([expect.stringMatching(line)]);
});

it('what each connection sets itself is no finding', async () => {
  for (const setting of ["default_transaction_isolation = 'repeatable read'", 'idle_session_timeout = 60000', "DateStyle = 'German'"])
    expect(await afterChange(onDatabase(setting))).toEqual([]);
});

it('a database that can only be read is found out', async () => {
  expect(await afterChange(onDatabase('default_transaction_read_only = on'))).toEqual([
    expect.stringMatching(/^fail default_transaction_read_only: .* is on: nothing can be stored/),
  ]);
});

it('a log without parameters is well', async () => {
  await onDatabase('log_statement = mod')();
  await onDatabase('log_parameter_max_length = 0')();
  expect((await examine()).filter((line) => line.includes('log of the server'))).toEqual([]);
});

it('dead peers are noticed where the server is told to look', async () => {
  expect((await examine()).filter((line) => line.includes('dead peers'))).toEqual([
    expect.stringMatching(/^warn dead peers: .*Set tcp_user_timeout = 30s, tcp_keepalives_idle = 60/),
  ]);
  for (const setting of ['tcp_user_timeout = 30000', 'tcp_keepalives_idle = 60']) await onDatabase(setting)();
  expect((await examine()).filter((line) => line.includes('dead peers'))).toEqual([]);
});

it('too few connections for the nodes is a failure, and no room for one more a warning', async () => {
  const each = 2 + 2 + 3;
  await db.sql.query(`ALTER DATABASE ${db.name} CONNECTION LIMIT ${3 * each}`);
  const connections = async (nodes: number) => (await examine({}, nodes)).filter((line) => line.includes('connections: '));
  expect(await connections(2)).toEqual([]);
  expect(await connections(3)).toEqual([
    expect.stringMatching(/^warn connections: 3 nodes of up to 7 connections, 21 are to be had: no room/),
  ]);
  expect(await connections(4)).toEqual([
    expect.stringMatching(/^fail connections: 4 nodes of up to 7 connections, 21 are to be had: raise/),
  ]);
  await db.sql.query("INSERT INTO presence_nodes SELECT gen_random_uuid(), now() + interval '1 minute' FROM generate_series(1, 4)");
  expect((await examine()).filter((line) => line.includes('connections: '))).toEqual([expect.stringMatching(/^fail connections: 4 nodes/)]);
});

it('migrations that are to come, or of a later version, are named', async () => {
  expect(await afterChange(() => db.sql.query("INSERT INTO migrations (name, run_on) VALUES ('0999_later', now())"))).toEqual([
    expect.stringMatching(/^warn migrations: 0999_later: the database is ahead of this version/),
  ]);
  await db.sql.query("DELETE FROM migrations WHERE name = '0999_later'");
  expect(await afterChange(() => migrate(db.url, pino({ level: 'silent' }), 'down'))).toContainEqual(
    expect.stringMatching(/^warn migrations: 1 to come \(00/),
  );
});

it('an empty database is one that needs its migrations, and no error', async () => {
  const full = db;
  db = await createTestDatabase('empty');
  expect((await examine()).filter((line) => /^fail|migrations/.test(line))).toEqual([
    expect.stringMatching(/^warn migrations: \d+ to come \(0001_accounts …\)/),
  ]);
  await db.drop();
  db = full;
});

/** A role that may log in, dropped after the test. */
async function newRole(name: string): Promise<string> {
  const unique = `${name}_${db.name.slice(-12)}`;
  await db.sql.query(`CREATE ROLE ${unique} LOGIN PASSWORD 'of-the-tests'`);
  roles.push(unique);
  return unique;
}

const as = (user: string): string => {
  const url = new URL(db.url);
  url.username = user;
  url.password = 'of-the-tests';
  return url.href;
};

it('a role that may read and not write is told what it lacks', async () => {
  const reader = await newRole('reader');
  await db.sql.query(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${reader}`);
  const lines = await examine({ DATABASE_URL: as(reader) });
  expect(lines.filter((line) => line.includes('privileges'))).toEqual([
    expect.stringMatching(/^fail privileges: the role lacks .*\(INSERT\).* and \d+ more: let it own/),
  ]);
});

it('rights of others on what is ours are each named with the statement that takes them back', async () => {
  const reader = await newRole('reader');
  const poster = await newRole('poster');
  const lines = await afterChange(async () => {
    await db.sql.query("UPDATE pg_proc SET proacl = NULL WHERE oid = 'bus_notify(text)'::regprocedure");
    await db.sql.query(
      `GRANT SELECT ON users, bus_key TO ${reader}; GRANT CREATE ON SCHEMA public TO PUBLIC; GRANT pg_read_all_data TO ${reader}`,
    );
    await db.sql.query(`GRANT INSERT ON messages TO ${poster}`);
  });
  expect(lines.filter((line) => !line.includes('who may connect'))).toEqual([
    'fail rights of others: PUBLIC may EXECUTE on FUNCTION public.bus_notify(text): REVOKE EXECUTE ON FUNCTION public.bus_notify(text) FROM PUBLIC CASCADE',
    'fail rights of others: PUBLIC may CREATE on SCHEMA public: REVOKE CREATE ON SCHEMA public FROM PUBLIC CASCADE',
    `fail rights of others: ${reader} may SELECT on TABLE public.bus_key: REVOKE SELECT ON TABLE public.bus_key FROM ${reader} CASCADE`,
    `fail rights of others: ${reader} may SELECT on TABLE public.users: REVOKE SELECT ON TABLE public.users FROM ${reader} CASCADE`,
    `warn rights of others: ${poster}: INSERT on TABLE public.messages, for a program that posts or reads: REVOKE it if there is none`,
    expect.stringMatching(new RegExp(`^warn read everything: ${reader} is a member of pg_read_all_data`)),
  ]);
});

it('who else may connect and so read along is named; a superuser is warned of itself', async () => {
  const stranger = await newRole('stranger');
  const lines = await examine();
  expect(lines).toContainEqual(
    expect.stringMatching(new RegExp(`^warn who may connect: .*REVOKE CONNECT ON DATABASE ${db.name} FROM PUBLIC`)),
  );
  expect(lines).toContainEqual(expect.stringMatching(/^warn superuser: /));
  await db.sql.query(`REVOKE CONNECT ON DATABASE ${db.name} FROM PUBLIC`);
  expect((await examine()).filter((line) => line.includes(stranger))).toEqual([]);
});

it('a trigger that somebody disabled, an index that is not valid and one that is not there are found out', async () => {
  expect(await afterChange(() => db.sql.query('ALTER TABLE messages DISABLE TRIGGER messages_notify'))).toEqual([
    'fail triggers: messages_notify is disabled, and with it a promise: ALTER TABLE messages ENABLE TRIGGER messages_notify',
  ]);
  expect(
    await afterChange(() => db.sql.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'room_members_user_idx'::regclass")),
  ).toEqual(['fail indexes: room_members_user_idx is not valid: REINDEX INDEX CONCURRENTLY room_members_user_idx']);
  await db.sql.query('REINDEX INDEX room_members_user_idx');
  expect(await afterChange(() => db.sql.query('DROP INDEX rooms_name_search_idx'))).toEqual([
    expect.stringMatching(/^warn pg_trgm: .*CREATE EXTENSION pg_trgm/),
  ]);
});

it('sorting that changed under the indexes is found out', async () => {
  expect(
    await afterChange(() => db.sql.query("UPDATE pg_database SET datcollversion = 'of another system' WHERE datname = current_database()")),
  ).toEqual([expect.stringMatching(/^fail collation: .*REINDEX DATABASE/)]);
});

it('two addresses that are not of one database fail the round trip', async () => {
  const other = await createTestDatabase('empty');
  const lines = await examine({ DATABASE_LISTEN_URL: other.url });
  expect(lines).toContainEqual(
    'fail LISTEN round trip: what was notified did not come back within 3 s: DATABASE_LISTEN_URL and DATABASE_URL must be the same database of the same primary',
  );
  await other.drop();
});

it('a pooler before the server is known by the process id that it makes up, and wants a direct address beside it', async () => {
  const proxy = await startProxy(db.url);
  // BackendKeyData: 'K', 12 as the length, then the process id.
  proxy.onServerData = (chunk) => {
    const at = chunk.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]));
    if (at >= 0) chunk.writeInt32BE(1_234_567, at + 5);
    return true;
  };
  const pooled = proxy.through(db.url);
  expect((await examine({ DATABASE_URL: pooled })).filter((line) => line.includes('pooler'))).toEqual([
    expect.stringMatching(/^fail pooler: .*set DATABASE_LISTEN_URL to the direct address/),
  ]);
  expect((await examine({ DATABASE_URL: pooled, DATABASE_LISTEN_URL: db.url })).filter((line) => line.includes('pooler'))).toEqual([]);
  // What a connection sets does not last there.
  await onDatabase("default_transaction_isolation = 'serializable'")();
  expect((await examine({ DATABASE_URL: pooled, DATABASE_LISTEN_URL: db.url })).filter((line) => line.startsWith('fail'))).toEqual([
    expect.stringMatching(/^fail session settings: default_transaction_isolation is serializable .*through a pooler: ALTER/),
  ]);
  await proxy.close();
});

it('a transaction in which nothing happens is named with what ends it', async () => {
  const forgetful = new pg.Client({ connectionString: db.url, application_name: 'report of last week' });
  forgetful.on('error', () => undefined);
  await forgetful.connect();
  await forgetful.query('BEGIN');
  const server = await openServer(loadConfig({ DATABASE_URL: db.url, JWT_ACCESS_SECRET: 'x'.repeat(32) }), undefined);
  const [found] = await eventually(async () => {
    const findings = await openTransactions(server, '10 milliseconds');
    return findings[0]?.verdict === 'warn' ? findings : undefined;
  });
  expect(found?.text).toMatch(
    /^process \d+ \(.*, report of last week\) waits in a transaction for more than 10 milliseconds: .*pg_terminate_backend\(\d+\)$/,
  );
  expect((await openTransactions(server))[0]?.verdict).toBe('ok');
  await server.close();
  await forgetful.end();
});
