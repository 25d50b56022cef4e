import { pino } from 'pino';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { Database } from './database.js';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database(loadConfig({ DATABASE_URL: test.url, JWT_ACCESS_SECRET: 'x'.repeat(32) }), pino({ level: 'silent' }));
});
afterAll(async () => {
  await db.onApplicationShutdown();
  await test.drop();
});

it('a backend that is killed within a transaction fails that transaction, and nothing else', async () => {
  const killed = db.transaction(async (client) => {
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await test.sql.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
    await client.query('SELECT 1');
  });
  await expect(killed).rejects.toMatchObject({ code: 'unavailable' });
  expect((await db.query<{ one: number }>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
});

it('no function that runs with the rights of its owner can be used by everybody', async () => {
  const { rows } = await test.sql.query(
    `SELECT p.proname FROM pg_proc AS p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
     AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0))`,
  );
  expect(rows).toEqual([]);
});

it('an error of our own is passed on as it is, and the next statement goes through', async () => {
  const circular: Record<string, unknown> = {};
  circular['itself'] = circular;
  await expect(db.query('SELECT $1::json', [circular])).rejects.toThrow(TypeError);
  await expect(
    db.transaction(async (client) => {
      await client.query("SET LOCAL DateStyle = 'German'");
      await client.query('SELECT now()');
    }),
  ).rejects.toThrow('not a time in ISO style');
  expect((await db.query<{ one: number }>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
});

it('a server that can’t be reached is away, whatever the socket says', async () => {
  const away = new Database(
    loadConfig({ DATABASE_URL: 'postgres://a:b@127.0.0.1:1/c', JWT_ACCESS_SECRET: 'x'.repeat(32) }),
    pino({ level: 'silent' }),
  );
  await expect(away.query('SELECT 1')).rejects.toMatchObject({
    code: 'unavailable',
    cause: expect.objectContaining({ message: expect.stringContaining('ECONNREFUSED') }),
  });
  await away.onApplicationShutdown();
});

it('neither the address nor the role takes a connection’s limits away', async () => {
  const url = new URL(test.url);
  for (const name of ['statement_timeout', 'lock_timeout']) url.searchParams.set(name, '0');
  url.searchParams.set('options', '-c DateStyle=German -c statement_timeout=0');
  const other = new Database(loadConfig({ DATABASE_URL: url.href, JWT_ACCESS_SECRET: 'x'.repeat(32) }), pino({ level: 'silent' }));
  const { rows } = await other.query<Record<string, string>>(
    "SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock, current_setting('DateStyle') AS dates",
  );
  expect(rows).toEqual([{ statement: '5s', lock: '2s', dates: 'ISO, YMD' }]);
  await other.onApplicationShutdown();
});
