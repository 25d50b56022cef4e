/** Clients of REST that do not take their answers cost a node a bounded part of its memory, and nobody else an answer. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { freePort } from '../scripts/cluster/node-process.js';
import { restBounds } from '../src/rest/untaken-answers.js';
import { eventually } from './support/eventually.js';
import { scrape } from './support/metrics.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode, type ProcessNode } from './support/process-node.js';
import { RawSocket } from './support/raw-socket.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const mib = 1_048_576;
const heapMib = 96;
const stalledMs = 3_000;

let db: TestDatabase;
let node: ProcessNode;
let metricsPort: number;
let ann: Person;
let bob: Person;
let room: string;
let stalled: RawSocket[];

beforeEach(async () => {
  stalled = [];
  db = await createTestDatabase();
  metricsPort = await freePort();
  node = await start(stalledMs);
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
  room = await createRoom(db.sql, [ann, bob]);
  await db.sql.query('INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, repeat($3, 65536) FROM generate_series(1, 100)', [
    room,
    ann.id,
    '\u0001',
  ]);
});
afterEach(async () => {
  for (const raw of stalled) raw.cut();
  await node.stop();
  await db.drop();
});

const start = (timeoutMs: number, heap = heapMib): Promise<ProcessNode> =>
  startProcessNode({
    DATABASE_URL: db.url,
    METRICS_PORT: String(metricsPort),
    SLOW_SOCKET_TIMEOUT_MS: String(timeoutMs),
    NODE_OPTIONS: `--max-old-space-size=${heap}`,
  });
const request = (path: string, token = ann.token, more = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer ${token}\r\n${more}\r\n`;
const page = (): string => `/rooms/${room}/messages?limit=100`;
/** Sends so many requests and reads no answer. */
async function stall(url: string, text: string, times: number): Promise<RawSocket> {
  const raw = await RawSocket.connect(url);
  raw.socket.pause();
  raw.write(text.repeat(times));
  stalled.push(raw);
  return raw;
}
const value = async (name: string): Promise<number> => (await scrape(metricsPort)).value(`trunkline_rest_${name}`) ?? Number.NaN;
const residentBytes = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.process.pid}/status`, 'utf8'))?.[1]) * 1_024;
/** As the kernel has it: what was not read hides from the client that the connection ended. */
async function connectionIsCut({ socket }: RawSocket): Promise<boolean> {
  const hex = (port = 0): string => port.toString(16).toUpperCase().padStart(4, '0');
  const ends = new RegExp(`: [0-9A-F]{8}:${hex(metricsPort)} [0-9A-F]{8}:${hex(socket.localPort)} 01 `);
  return socket.destroyed || !ends.test(await readFile('/proc/net/tcp', 'utf8'));
}
const history = (person: Person) => call(node.url, page(), { token: person.token });

it('200 readers of one account that take nothing fill its share, and cost nobody else an answer', async () => {
  await history(bob);
  const before = residentBytes();
  let highest = 0;
  const watching = setInterval(() => (highest = Math.max(highest, residentBytes())), 20);
  await Promise.all(Array.from({ length: 200 }, () => stall(node.url, request(page()), 10)));
  let served = 0;
  const deadline = Date.now() + 20_000;
  await eventually(
    async () => {
      const answer = await history(bob);
      expect([answer.status, (answer.body as { messages: unknown[] }).messages.length]).toEqual([200, 2]);
      expect(await value('untaken_bytes')).toBeLessThanOrEqual(restBounds.shareMaxBytes + 16 * mib);
      served++;
      return (await value('cut_connections_total')) > 0 || Date.now() > deadline;
    },
    'the first of them to be cut',
    25_000,
  );
  expect(served).toBeGreaterThan(0);
  clearInterval(watching);
  expect(highest - before).toBeLessThan(220 * mib);
  expect(await value('refused_answers_total')).toBeGreaterThan(100);
  await eventually(async () => (await value('untaken_bytes')) < mib, 'all to be cut, or to have been refused', 20_000);
  expect((await history(ann)).status).toBe(200);
}, 90_000);

it('the owner of a full share is refused with Retry-After before anything is stored, and served once it is taken', async () => {
  await node.stop();
  node = await start(600_000); // nobody is cut
  await Promise.all(Array.from({ length: 8 }, () => stall(node.url, request(page()), 1)));
  let asked = 1;
  const asking = setInterval(() => {
    if (asked++ < 100) for (const { socket } of stalled) socket.write(request(page()));
  }, 100);
  const refused = await eventually(
    async () => {
      const answer = await history(ann);
      return answer.status === 503 ? answer : undefined;
    },
    'a refusal',
    40_000,
  );
  expect(refused.body).toMatchObject({ code: 'overloaded', status: 503 });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(refused.headers.get('content-type')).toContain('application/problem+json');
  const lastSeq = async (): Promise<number> => {
    const { rows } = await db.sql.query<{ n: number }>('SELECT last_seq::int AS n FROM rooms WHERE id = $1', [room]);
    return rows[0]?.n ?? 0;
  };
  const before = await lastSeq();
  let stored = 0;
  await eventually(
    async () => {
      // Its answer would be as large.
      const sent = await call(node.url, `/rooms/${room}/messages`, { token: ann.token, body: { content: '\u0001'.repeat(65_536) } });
      stored += Number(sent.status === 201);
      return sent.status === 503;
    },
    'a send to be refused',
    20_000,
  );
  expect(await lastSeq()).toBe(before + stored);
  clearInterval(asking);
  expect((await call(node.url, '/health/ready')).status).toBe(200);
  expect(await history(bob)).toMatchObject({ status: 200 });
  for (const raw of stalled) raw.cut();
  await eventually(async () => (await history(ann)).status === 200, 'an answer', 10_000);
}, 120_000);

it('a reader is cut that takes next to nothing, and one goes on that takes its time', async () => {
  const [idle, slow] = await Promise.all([stall(node.url, request(page()), 7), RawSocket.connect(node.url)]);
  // Reads a byte at a time: not what keeps a connection.
  idle.socket.removeAllListeners('data');
  const trickle = setInterval(() => idle.socket.read(1), 200);
  let taken = 0;
  slow.socket.removeAllListeners('data');
  slow.socket.on('data', (chunk: Buffer) => {
    taken += chunk.length;
    slow.socket.pause();
    setTimeout(() => slow.socket.resume(), 25);
  });
  slow.write(request(page(), bob.token).repeat(7));
  await eventually(async () => (await value('cut_connections_total')) === 1, 'one to be cut', 20_000);
  clearInterval(trickle);
  const all = 7 * 700_000;
  await eventually(() => taken > all, 'all seven pages', 60_000);
  expect(await value('cut_connections_total')).toBe(1);
  slow.cut();
}, 90_000);

it.each(['/docs/swagger-ui-bundle.js', '/docs/openapi.json', '/nowhere', '/%ff'])(
  'whoever asks for %s without end and takes nothing is cut too',
  async (path) => {
    const raw = await stall(node.url, `GET ${path} HTTP/1.1\r\nHost: node\r\n\r\n`, 500);
    const again = setInterval(() => raw.write(`GET ${path} HTTP/1.1\r\nHost: node\r\n\r\n`.repeat(500)), 20);
    await eventually(async () => (await value('cut_connections_total')) > 0, 'the cut', 25_000);
    clearInterval(again);
    expect(residentBytes()).toBeLessThan(420 * mib);
  },
  60_000,
);

it('whoever scrapes without end and takes nothing is cut too', async () => {
  const scrapes = 'GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n'.repeat(200);
  const raw = await stall(`http://127.0.0.1:${metricsPort}`, scrapes, 1);
  const again = setInterval(() => raw.socket.writableLength === 0 && raw.write(scrapes), 20);
  await eventually(() => connectionIsCut(raw), 'the cut', 40_000);
  clearInterval(again);
  expect(residentBytes()).toBeLessThan(420 * mib);
}, 90_000);

it('whoever sends requests without end before any answer is cut, whatever they ask', async () => {
  await node.stop();
  node = await start(stalledMs, 192); // what 20 connections may have in the making takes more than pages do
  await Promise.all(Array.from({ length: 20 }, () => stall(node.url, request('/rooms'), 5_000)));
  await eventually(async () => (await value('cut_connections_total')) === 20, 'all to be cut', 25_000);
  // What was asked is answered first.
  await eventually(async () => (await history(bob)).status === 200, 'an answer', 20_000);
  expect(await value('untaken_bytes')).toBeLessThan(mib);
}, 60_000);

it('a node that is told to stop does so in time, whoever takes nothing', async () => {
  await Promise.all(Array.from({ length: 50 }, () => stall(node.url, request(page()), 10)));
  await eventually(async () => (await value('untaken_bytes')) > mib, 'answers that wait', 20_000);
  const from = Date.now();
  expect(await node.stop()).toBe(0);
  expect(Date.now() - from).toBeLessThan(9_500);
}, 60_000);
