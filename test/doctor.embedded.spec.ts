/** Settings that only a server's start can change, and a queue of notifications that fills: on a server of the test's own. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../src/database/embedded-postgres.js';
import { runCommand } from './support/command.js';

let folder: string;
let server: EmbeddedPostgres;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trunkline-doctor-'));
  await chmod(folder, 0o755);
  server = await startEmbeddedPostgres(folder, {
    fsync: 'off',
    full_page_writes: 'off',
    autovacuum: 'off',
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_notify_queue_pages: '64',
    max_connections: '20',
    max_prepared_transactions: '2',
  });
});
afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

it('finds out each setting of a server that loses data, fills up or has no room, and exits with 1', async () => {
  const listener = new pg.Client({ connectionString: server.connectionString });
  await listener.connect();
  await listener.query('LISTEN something');
  await listener.query('BEGIN');
  await listener.query('SELECT 1');
  const sender = new pg.Client({ connectionString: server.connectionString });
  await sender.connect();
  await sender.query("SELECT pg_notify('something', n || repeat('x', 7900)) FROM generate_series(1, 40) AS n");

  const { code, stdout } = await runCommand('doctor', ['--nodes', '2'], { DATA_DIR: folder });
  const lines = stdout.split('\n').filter((line) => !line.startsWith('ok'));
  for (const line of [
    /^fail {2}durability: fsync is off/,
    /^fail {2}full_page_writes: /,
    /^warn {2}autovacuum: /,
    /^warn {2}wal_level: .* is minimal/,
    /^warn {2}max_notify_queue_pages: /,
    /^fail {2}connections: 2 nodes of up to 17 connections, 1\d are to be had/,
    /^warn {2}migrations: \d+ to come/,
    /^fail {2}notification queue: 6\d % full: /,
  ]) {
    expect(lines).toContainEqual(expect.stringMatching(line));
  }
  expect(code).toBe(1);
  await Promise.all([listener.end(), sender.end()]);
});
