/** /health/ready tells whether messages can be stored, steadily, and by itself again when they can. */
import pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom } from './support/people.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let node: TestNode;
beforeEach(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
});
afterEach(async () => {
  await node.close();
  await db.drop();
});

/** On the server, by a session of its own that no setting of the test's database holds. */
async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: process.env['TEST_SERVER_URL'] });
  await client.connect();
  await client.query(statement);
  await client.end();
}

const ready = async (): Promise<{ status: number; reasons: string[] }> => {
  const { status, body } = await call(node.url, '/health/ready');
  return { status, reasons: (body as { reasons: string[] }).reasons };
};
const becomes = (status: number) => eventually(async () => (await ready()).status === status, `ready to be ${status}`, 15_000);
const staysUnready = async (ms: number): Promise<void> => {
  for (const until = performance.now() + ms; performance.now() < until; await delay(100)) expect((await ready()).status).toBe(503);
};

it('a database that became read-only: ready says no and why, reading goes on, and all is well when it can be written again', async () => {
  const ann = await createPerson(db.sql);
  const room = await createRoom(db.sql, [ann]);
  const client = await TestClient.connect(node.url, ann.token);
  await client.join(room);
  await client.send(room, 'before');
  await onServer(`ALTER DATABASE ${db.name} SET default_transaction_read_only = on`);
  await onServer(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${db.name}'`);
  const isReadOnly = ({ reasons }: { reasons: string[] }) => reasons.join().startsWith('the database is read-only');
  await eventually(async () => isReadOnly(await ready()), 'ready to say why', 10_000); // the end of LISTEN comes before
  await staysUnready(4_000);
  expect((await ready()).reasons).toEqual([expect.stringContaining('reset default_transaction_read_only')]);
  expect((await call(node.url, `/rooms/${room}/messages`, { token: ann.token })).body).toMatchObject({ messages: [{ content: 'before' }] });
  const during = client.send(room, 'during');
  await onServer(`ALTER DATABASE ${db.name} RESET default_transaction_read_only`);
  await becomes(200);
  expect(await during).toBe(2);
  expect((await call(node.url, `/rooms/${room}/messages`, { token: ann.token, body: { content: 'after' } })).status).toBe(201);
  await client.close();
}, 60_000);

it('tables that are locked make a node unready, and the end of the lock ready', async () => {
  await becomes(200);
  const holder = new pg.Client({ connectionString: db.url });
  await holder.connect();
  await holder.query('BEGIN; LOCK TABLE messages IN SHARE MODE');
  await becomes(503);
  expect((await ready()).reasons).toEqual([expect.stringContaining('locked')]);
  await holder.query('ROLLBACK');
  await becomes(200);
  await holder.end();
}, 60_000);

it('a connection that is lost now and then makes no node unready', async () => {
  await becomes(200);
  for (let n = 0; n < 5; n++) {
    await onServer(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${db.name}' AND application_name = 'trunkline writer'`,
    );
    for (const until = performance.now() + 700; performance.now() < until; await delay(50)) expect((await ready()).status).toBe(200);
  }
}, 60_000);
