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
