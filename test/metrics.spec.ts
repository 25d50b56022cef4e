import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { Agent, get, type IncomingMessage } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { parse } from 'yaml';
import { freePort } from '../scripts/cluster/node-process.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { scrape } from './support/metrics.js';
import { startNode, type TestNode } from './support/node.js';
import { startProcessNode } from './support/process-node.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { callAnything } from './support/any-call.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let node: TestNode;
let port: number;
let ann: Person;
let bob: Person;

beforeEach(async () => {
  db = await createTestDatabase();
  port = await freePort();
  node = await startNode(db.url, { METRICS_PORT: String(port), WRITER_LANES: '2' });
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
});
afterEach(async () => {
  await node.close();
  await db.drop();
});

/** Counts what a client gets as it is on the wire: payload and header. */
function meter(client: TestClient): { frames: number; bytes: number } {
  const got = { frames: 0, bytes: 0 };
  const take = (length: number) => {
    got.frames++;
    got.bytes += length + (length < 126 ? 2 : length < 65_536 ? 4 : 10);
  };
  // `hello` may have come with the answer to the handshake, before anybody could listen.
  for (const frame of client.frames) take(Buffer.byteLength(JSON.stringify(frame)));
  client.socket.on('message', (data) => take((data as Buffer).length));
  return got;
}

describe('metrics', () => {
  it('count frames, bytes and sends exactly', async () => {
    const room = await createRoom(db.sql, [ann, bob]);
    const clients = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, bob.token)] as const;
    const meters = clients.map(meter);
    const [client, other] = clients;
    const sent: string[] = [];
    for (const each of clients) {
      sent.push(JSON.stringify({ event: 'join_room', id: 0, data: { room_id: room } }));
      each.raw(sent.at(-1) ?? '');
      await each.frame('joined_room');
    }
    const raw = (text: string) => {
      sent.push(text);
      client.raw(text);
    };
    const key = randomUUID();
    const send = (id: number, data: object) => raw(JSON.stringify({ event: 'send_message', id, data }));
    for (let id = 1; id <= 20; id++) send(id, { room_id: room, content: `message ${id} — ${'ü'.repeat(id * 10)}` });
    send(21, { room_id: room, content: 'once', client_msg_id: key });
    // In the batch of the first one, a repeat would be settled without being in it.
    await eventually(() => client.frames.some((frame) => frame.id === 21), 'the ack of the first');
    send(22, { room_id: room, content: 'once', client_msg_id: key });
    send(23, { room_id: room, content: 'another', client_msg_id: key });
    send(24, { room_id: randomUUID(), content: 'nowhere' });
    raw('{"event":"no_such_event"}');
    raw('not JSON');
    const answered = () => Array.from({ length: 24 }, (_, n) => n + 1).every((id) => client.frames.some((frame) => frame.id === id));
    await eventually(answered, 'all answers');
    await Promise.all(clients.map((each) => each.reaches(room, 22)));
    await eventually(() => client.frames.filter(({ event }) => event === 'error').length === 4, 'four errors');

    // Presence of both may still be on its way: what is compared is of one moment.
    const total = () => meters.reduce((sum, { frames }) => sum + frames, 0);
    const after = await eventually(async () => {
      const seen = await scrape(port);
      return seen.value('trunkline_frames_sent_total') === total() ? seen : undefined;
    }, 'the count of all frames');
    const bytes = meters.reduce((sum, got) => sum + got.bytes, 0);
    expect(total()).toBeGreaterThan(24);
    expect(after.value('trunkline_sent_bytes_total')).toBe(bytes);
    expect(after.value('trunkline_frames_received_total')).toBe(sent.length);
    expect(after.value('trunkline_received_bytes_total')).toBe(sent.reduce((sum, text) => sum + Buffer.byteLength(text), 0));
    expect(after.value('trunkline_sends_accepted_total', { result: 'stored' })).toBe(21);
    expect(after.value('trunkline_sends_accepted_total', { result: 'duplicate' })).toBe(1);
    expect(after.value('trunkline_sends_refused_total', { code: 'conflict' })).toBe(1);
    expect(after.value('trunkline_sends_refused_total', { code: 'room_not_found' })).toBe(1);
    expect(after.sum('trunkline_sends_refused_total')).toBe(2);
    expect(after.value('trunkline_socket_errors_total', { code: 'unknown_event' })).toBe(1);
    expect(after.value('trunkline_socket_errors_total', { code: 'invalid_frame' })).toBe(1);
    expect(after.sum('trunkline_socket_errors_total')).toBe(4);
    // Every send was in one batch, and of each that stored something one frame was timed, or none where another of its room still was.
    expect(after.value('trunkline_batch_messages_sum')).toBe(24);
    const batches = after.value('trunkline_batch_messages_count') ?? 0;
    expect(after.value('trunkline_batch_duration_seconds_count')).toBe(batches);
    expect(after.value('trunkline_commit_latency_seconds_count')).toBe(batches);
    const timed = after.value('trunkline_fan_out_latency_seconds_count') ?? 0;
    expect(timed).toBeGreaterThan(0);
    expect(timed).toBeLessThanOrEqual(batches);
    expect(after.value('trunkline_connections')).toBe(2);
    expect(after.value('trunkline_lagging_connections')).toBe(0);
    expect(after.value('trunkline_followed_rooms')).toBe(1);

    await other.close();
    await client.close();
    await eventually(async () => (await scrape(port)).value('trunkline_connections') === 0, 'no connection');
  });

  it('tell the state of the bus and the pools', async () => {
    await eventually(async () => ((await scrape(port)).value('trunkline_bus_heartbeat_seconds') ?? 0) > 0, 'a heartbeat');
    const seen = await scrape(port);
    expect(seen.value('trunkline_ready')).toBe(1);
    expect(seen.value('trunkline_bus_connected')).toBe(1);
    expect(seen.value('trunkline_bus_heartbeat_seconds')).toBeLessThan(2.5);
    expect(seen.value('trunkline_notify_queue_usage_ratio')).toBeLessThan(1);
    expect(seen.value('trunkline_db_pool_limit_connections', { pool: 'api' })).toBe(10);
    expect(seen.value('trunkline_writer_queue_messages', { lane: '1' })).toBe(0);
    await db.sql.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trunkline listen' AND datname = $1",
      [db.name],
    );
    await eventually(async () => (await scrape(port)).value('trunkline_bus_losses_total') === 1, 'the loss to be counted');
    await eventually(async () => (await scrape(port)).value('trunkline_bus_connected') === 1, 'the bus to be back');
  });

  it('wait in the queue of their lane and pool while somebody holds a room', async () => {
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const first = client.send(room, 'in flight');
    await eventually(
      async () => ((await scrape(port)).value('trunkline_db_pool_busy_connections', { pool: 'writer' }) ?? 0) > 0,
      'a batch',
    );
    const rest = [1, 2, 3].map((n) => client.send(room, `waiting ${n}`));
    await eventually(async () => (await scrape(port)).sum('trunkline_writer_queue_messages') === 3, 'three that wait');
    await holder.query('ROLLBACK');
    holder.release();
    await Promise.all([first, ...rest]);
    expect((await scrape(port)).sum('trunkline_writer_queue_messages')).toBe(0);
    await client.close();
  });

  it('name each route by its template, and nothing by what a client wrote', async () => {
    const room = await createRoom(db.sql, [ann]);
    await call(node.url, `/rooms/${room}/messages`, { token: ann.token, body: { content: 'by REST' } });
    await call(node.url, `/rooms/${randomUUID()}/messages`, { token: ann.token, body: { content: 'nowhere' } });
    for (let n = 0; n < 50; n++) await callAnything(node.url, `/nothing-${n}`, { method: n % 2 === 0 ? 'GET' : 'PROPFIND' });
    const client = await TestClient.connect(node.url, ann.token);
    for (let n = 0; n < 15; n++) client.raw(JSON.stringify({ event: `event-${n}` }));
    await eventually(() => client.frames.filter(({ event }) => event === 'error').length === 15 || client.closed, 'the errors');
    const seen = await scrape(port);
    const route = '/rooms/:id/messages';
    expect(seen.value('trunkline_http_requests_total', { method: 'POST', route, status: '201' })).toBe(1);
    expect(seen.value('trunkline_http_requests_total', { method: 'POST', route, status: '404' })).toBe(1);
    expect(seen.value('trunkline_http_request_duration_seconds_count', { method: 'POST', route })).toBe(2);
    expect(seen.value('trunkline_http_requests_total', { method: 'any', route: 'none', status: '404' })).toBe(50);
    const ours = [...seen.families].filter(([name]) => name.startsWith('trunkline_'));
    expect(ours.length).toBeGreaterThan(30);
    for (const [name, { series }] of ours) expect([name, series.length]).toEqual([name, Math.min(series.length, 60)]);
    const labels = JSON.stringify(ours.map(([, { series }]) => series.map((each) => each.labels)));
    expect(labels).not.toMatch(/nothing-|event-|[0-9a-f]{8}-[0-9a-f]{4}|PROPFIND/);
    client.cut();
  });

  it('are read by Prometheus, with names as it wants them', async () => {
    const { families, contentType } = await scrape(port);
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
    for (const [name, { type, help }] of families) {
      if (!name.startsWith('trunkline_')) continue;
      expect(help).toMatch(/^\S.*[.:].*|\.$/);
      expect([name, type === 'counter']).toEqual([name, name.endsWith('_total')]);
    }
    for (const name of [
      'nodejs_eventloop_lag_seconds',
      'process_resident_memory_bytes',
      'nodejs_heap_size_used_bytes',
      'process_cpu_seconds_total',
    ])
      expect(families.get(name)?.series).toHaveLength(1);
    const openFiles = families.get('process_open_fds')?.series[0]?.value ?? 0;
    if (process.platform === 'linux') expect(Math.abs(openFiles - (await readdir('/proc/self/fd')).length)).toBeLessThan(10);
  });

  it('are there, with the number of files before, also where none can be opened any more', async () => {
    if (process.platform !== 'linux') return; // elsewhere files are not counted
    const ownPort = await freePort();
    const own = await startProcessNode({ DATABASE_URL: db.url, METRICS_PORT: String(ownPort) });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const openFiles = async () => {
      const [answer] = (await once(get({ port: ownPort, path: '/metrics', agent }), 'response')) as [IncomingMessage];
      return /^process_open_fds (\d+)$/m.exec(await textOf(answer))?.[1];
    };
    const before = await openFiles();
    execFileSync('prlimit', ['--pid', String(own.process.pid), '--nofile=3:']);
    expect(await openFiles()).toBe(before);
    agent.destroy();
    await own.stop('SIGKILL'); // to end in order takes connections
  });

  it('are all that the alerts and the dashboard ask for, and each alert has its paragraph', async () => {
    const { families } = await scrape(port);
    const read = (file: string) => readFile(new URL(`../${file}`, import.meta.url), 'utf8');
    const dashboard = JSON.parse(await read('observe/grafana/dashboards/trunkline.json')) as { panels: { targets: { expr: string }[] }[] };
    const { groups } = parse(await read('observe/alerts.yml')) as { groups: { rules: { alert: string; expr: string }[] }[] };
    const rules = groups.flatMap((group) => group.rules);
    const asked = [...rules, ...dashboard.panels.flatMap(({ targets }) => targets)].flatMap(({ expr }) => {
      const names = expr.match(/\b(trunkline|nodejs|process)_\w+/g) ?? [];
      return names.map((name) => name.replace(/_bucket$/, ''));
    });
    expect(asked.length).toBeGreaterThan(30);
    expect(asked.filter((name) => !families.has(name))).toEqual([]);
    const guide = await read('docs/operations.md');
    expect(rules.filter(({ alert }) => !guide.includes(`\n### ${alert}\n\n`))).toEqual([]);
  });

  it('are nowhere but on their own port, and nothing else is there', async () => {
    expect((await callAnything(node.url, '/metrics')).status).toBe(404);
    expect((await callAnything(`http://127.0.0.1:${port}`, '/health')).status).toBe(404);
    expect((await callAnything(`http://127.0.0.1:${port}`, '/metrics', { method: 'POST' })).status).toBe(405);
  });
});
