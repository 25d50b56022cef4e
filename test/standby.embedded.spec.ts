/** A synchronous standby that is gone, on a server of the test's own: every commit waits, and can't be given up. And what else a start may wait for. */
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { freePort, spawnNode } from '../scripts/cluster/node-process.js';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../src/database/embedded-postgres.js';
import { migrate } from '../src/database/migrations.js';
import { TestClient } from './support/client.js';
import { runCommand } from './support/command.js';
import { eventually } from './support/eventually.js';
import { startNode, testSecret } from './support/node.js';
import { createPerson, createRoom } from './support/people.js';
import { call } from './support/rest.js';

/** Of a node with the defaults: DATABASE_POOL_SIZE + 2 × WRITER_LANES + 3. */
const allowed = 17;
/** Of node-pg-migrate, for the migrations of one database at a time. */
const migrationsLock = '7241865325823964';

let folder: string;
let server: EmbeddedPostgres;
let sql: pg.Pool;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-standby-'));
  await chmod(folder, 0o755);
  server = await startEmbeddedPostgres(folder, { max_connections: '60', shared_buffers: '64MB' });
  sql = new pg.Pool({ connectionString: server.connectionString, max: 4, application_name: 'test' });
  sql.on('error', () => undefined);
}, 60_000);
afterEach(() => standby('is back'));
afterAll(async () => {
  await sql.end();
  await server.stop();
  await rm(folder, { recursive: true });
});

async function standby(state: 'is gone' | 'is back'): Promise<void> {
  await sql.query(`ALTER SYSTEM SET synchronous_standby_names = '${state === 'is gone' ? 'nobody' : ''}'`);
  await sql.query('SELECT pg_reload_conf()');
  await eventually(async () => {
    const { rows } = await sql.query<{ names: string }>("SELECT current_setting('synchronous_standby_names') AS names");
    return (rows[0]?.names === '') === (state === 'is back');
  });
}

async function database(name: string): Promise<string> {
  await sql.query(`CREATE DATABASE ${name}`);
  const url = new URL(server.connectionString);
  url.pathname = `/${name}`;
  return url.href;
}

const backends = async (where: string): Promise<number> => {
  const { rows } = await sql.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name LIKE 'trunkline %' AND ${where}`,
  );
  return rows[0]?.n ?? 0;
};

it('a node holds no more connections than it may, says no steadily, and stores what was sent when the standby is back', async () => {
  const url = await database('crowd');
  await migrate(url, pino({ level: 'silent' }));
  const node = await startNode(url);
  const own = new pg.Pool({ connectionString: url, max: 2, application_name: 'test' });
  const ann = await createPerson(own);
  const rooms = await Promise.all(Array.from({ length: 12 }, () => createRoom(own, [ann])));
  const client = await TestClient.connect(node.url, ann.token);
  for (const room of rooms) await client.join(room);
  const ready = async () => (await call(node.url, '/health/ready')).status;
  const told = async () => ((await call(node.url, '/health/ready')).body as { reasons: string[] }).reasons.join();
  await eventually(async () => (await ready()) === 200);

  await standby('is gone');
  let most = 0;
  const enough = new AbortController();
  const readiness: string[] = [];
  const asking = (async () => {
    for (let n = 0; !enough.signal.aborted; n++) {
      for (const room of rooms) client.send(room, `${n}`).catch(() => undefined);
      void call(node.url, '/rooms', { token: ann.token, body: { name: `room ${n}` } }).catch(() => undefined);
      most = Math.max(most, await backends("datname = 'crowd'"));
      readiness.push(await told());
      await delay(200);
    }
  })();
  await eventually(() => readiness.at(-1)?.includes('commit'), 'ready to say why', 15_000);
  const since = readiness.length;
  await delay(22_000); // longer than any time-out three times over, so that a leak would show
  expect(new Set(readiness.slice(since).filter((reasons) => !reasons.includes('finishes no commit')))).toEqual(new Set());
  expect(most).toBeLessThanOrEqual(allowed);
  const doctor = await runCommand('doctor', [], { DATABASE_URL: url });
  expect([doctor.code, doctor.stdout]).toEqual([
    1,
    expect.stringMatching(/fail {2}commits: commits wait for a standby that isn't there \(synchronous_standby_names is nobody\)/),
  ]);

  enough.abort();
  await asking;
  const last = client.send(rooms[0] ?? '', 'when it is back');
  await standby('is back');
  const backAt = performance.now();
  await last;
  expect(performance.now() - backAt).toBeLessThan(5_000);
  await eventually(async () => (await ready()) === 200, 'ready to be 200', 8_000);
  expect(await backends("datname = 'crowd'")).toBeLessThanOrEqual(allowed);
  expect(client.violations).toEqual([]);
  await client.close();
  await node.close();
  await own.end();
}, 120_000);

/** Starts a node on a database, waits until it waits, and ends it. */
async function endWhileItWaits(url: string, waits: () => Promise<boolean>): Promise<{ code: number | null; ms: number; output: string }> {
  const port = String(await freePort());
  const env = { PATH: process.env['PATH'], DATABASE_URL: url, JWT_ACCESS_SECRET: testSecret, HOST: '127.0.0.1', PORT: port };
  const child = spawnNode(env, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit') as Promise<[number | null]>;
  await eventually(waits, 'the start to wait', 30_000);
  const toldAt = performance.now();
  child.kill('SIGTERM');
  const [code] = await exited;
  return { code, ms: performance.now() - toldAt, output };
}

it('told to stop in its first migration, whose commit waits for the standby, a node ends with 0; the next start goes on', async () => {
  const url = await database('first');
  await standby('is gone');
  const waits = () => backends("datname = 'first' AND wait_event = 'SyncRep'").then((n) => n > 0);
  expect(await endWhileItWaits(url, waits)).toMatchObject({ code: 0, output: expect.not.stringContaining('Error') });
  await standby('is back');
  expect(await migrate(url, pino({ level: 'silent' }))).toBeGreaterThan(0);
}, 90_000);

it('told to stop while it waits for the migrations of another node, it ends with 0 and leaves nobody waiting at the server', async () => {
  const url = await database('second');
  const other = new pg.Client({ connectionString: url });
  await other.connect();
  await other.query(`SELECT pg_advisory_lock(${migrationsLock})`);
  const waits = () => backends("datname = 'second' AND wait_event_type = 'Lock'").then((n) => n > 0);
  const { code, ms } = await endWhileItWaits(url, waits);
  expect([code, ms < 3_000]).toEqual([0, true]);
  await eventually(async () => (await backends("datname = 'second'")) === 0, 'its connections to be gone', 5_000);
  await other.end();
}, 60_000);

it('told to stop while the database does not answer, it ends with 0', async () => {
  let asked = false;
  const silent = createServer(() => (asked = true));
  await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  const { port } = silent.address() as AddressInfo;
  const { code, ms } = await endWhileItWaits(`postgres://a:b@127.0.0.1:${port}/c`, () => Promise.resolve(asked));
  expect([code, ms < 3_000]).toEqual([0, true]);
  silent.close();
}, 60_000);
