import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { freePort } from '../scripts/cluster/node-process.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { scrape } from './support/metrics.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { startProcessNode } from './support/process-node.js';
import { call } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  attributes: { key: string; value: { stringValue?: string; intValue?: number } }[];
  links?: { traceId: string; spanId: string }[];
  status: { code?: number };
}

/** A collector of our own: OTLP over HTTP, in JSON. */
class Collector {
  readonly spans: Span[] = [];
  readonly bodies: string[] = [];
  private readonly server: Server;

  /** @param answers false for one that takes requests and never answers */
  constructor(answers = true) {
    this.server = createServer((incoming, response) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const body = Buffer.concat(chunks).toString();
        this.bodies.push(`${incoming.method} ${incoming.url} ${body}`);
        const { resourceSpans } = JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] };
        this.spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)));
        if (answers) response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  async listen(port = 0): Promise<string> {
    this.server.listen(port, '127.0.0.1');
    await once(this.server, 'listening');
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    if (!this.server.listening) return;
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
  }

  ofTrace = (traceId: string): Span[] => this.spans.filter((span) => span.traceId === traceId);
}

const attributesOf = ({ attributes }: Span) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue]));

/** A span of somebody who calls us. */
function caller(flags = '01') {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-${flags}` } };
}

const linesOf = (output: string) =>
  output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

let db: TestDatabase;
let ann: Person;
let room: string;
let collector: Collector;

beforeEach(async () => {
  db = await createTestDatabase();
  ann = await createPerson(db.sql);
  room = await createRoom(db.sql, [ann]);
  collector = new Collector();
});
afterEach(async () => {
  await collector.close();
  await db.drop();
});

async function send(url: string, content: string, more = {}) {
  const { status, headers } = await call(url, `/rooms/${room}/messages`, { token: ann.token, body: { content }, headers: more });
  return { status, requestId: headers.get('x-request-id') };
}

/** The same with the body well after the head: the server asks for it. */
async function sendInParts(url: string, content: string, more: Record<string, string>) {
  const headers = { authorization: `Bearer ${ann.token}`, 'content-type': 'application/json', expect: '100-continue', ...more };
  const asked = request(`${url}/rooms/${room}/messages`, { method: 'POST', headers });
  asked.on('continue', () => asked.end(JSON.stringify({ content })));
  asked.flushHeaders();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  answer.resume();
  return { status: answer.statusCode ?? 0, requestId: String(answer.headers['x-request-id']) };
}

it('a request continues the trace of its caller, and the batches that its message is in lead to it', async () => {
  const OTEL_EXPORTER_OTLP_ENDPOINT = await collector.listen();
  const port = await freePort();
  const settings = { WRITER_LANES: '1', LOG_LEVEL: 'debug', METRICS_PORT: String(port), OTEL_BSP_SCHEDULE_DELAY: '50' };
  const node = await startProcessNode({ DATABASE_URL: db.url, ...settings, OTEL_EXPORTER_OTLP_ENDPOINT });
  const client = await TestClient.connect(node.url, ann.token);
  const callers = Array.from({ length: 150 }, () => caller());
  const [first = caller(), late = caller(), ...rest] = callers;
  const unseen = caller('00');

  const holder = await db.sql.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
  const sends = [send(node.url, 'secret ü', first.headers)];
  const waiting = "SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'";
  await eventually(async () => (await db.sql.query(waiting, [db.name])).rowCount === 1, 'the first batch');
  sends.push(sendInParts(node.url, 'secret ü', late.headers));
  for (const { headers } of [...rest, unseen]) sends.push(send(node.url, 'secret ü', headers));
  const bySocket = client.send(room, 'secret ü');
  // On a slow machine the lock times out before all have come.
  const hasTimedOut = (): boolean => node.output().includes('a batch of messages failed');
  const allWait = async () => hasTimedOut() || (await scrape(port)).sum('trunkline_writer_queue_messages') >= 151;
  await eventually(allWait, 'all to wait');
  await eventually(hasTimedOut, 'the time-out of the lock');
  await holder.query('ROLLBACK');
  holder.release();
  const answers = await Promise.all(sends);
  await bySocket;
  expect(answers.filter(({ status }) => status !== 201)).toEqual([]);
  await call(node.url, '/rooms/nowhere/messages', { token: ann.token });
  await client.close();
  const batches = () => collector.spans.filter(({ name }) => name === 'store batch');
  const storedIn = (each: readonly Record<string, unknown>[]) =>
    each.reduce((sum, attributes) => sum + Number(attributes['trunkline.batch.stored'] ?? 0), 0);
  // At the stop the spans that are left have a second.
  const areExported = () =>
    callers.every(({ traceId }) => collector.ofTrace(traceId).length > 0) && storedIn(batches().map(attributesOf)) >= 152;
  await eventually(areExported, 'the spans');
  expect(await node.stop()).toBe(0);

  for (const [n, { traceId, spanId }] of callers.entries()) {
    const spans = collector.ofTrace(traceId);
    expect(spans).toMatchObject([{ parentSpanId: spanId, name: 'POST /rooms/:id/messages', kind: 2, status: { code: 0 } }]);
    expect(spans.map(attributesOf)).toEqual([
      {
        'http.request.method': 'POST',
        'http.route': '/rooms/:id/messages',
        'http.response.status_code': 201,
        'trunkline.request_id': answers[n]?.requestId,
      },
    ]);
  }
  expect(collector.ofTrace(unseen.traceId)).toEqual([]);

  const linkTo = ({ traceId }: { traceId: string }) => ({ traceId, spanId: collector.ofTrace(traceId)[0]?.spanId });
  const [failed, ...others] = batches();
  expect(failed && attributesOf(failed)).toMatchObject({ 'trunkline.batch.outcome': 'contended', 'trunkline.batch.messages': 1 });
  expect(failed).toMatchObject({ status: { code: 2 }, links: [linkTo(first)] });
  const stored = others.filter((span) => attributesOf(span)['trunkline.batch.outcome'] === 'committed').map(attributesOf);
  expect(storedIn(stored)).toBe(152);
  for (const attributes of stored) {
    const messages = Number(attributes['trunkline.batch.messages']);
    expect(attributes).toMatchObject({ 'trunkline.batch.lane': 0, 'trunkline.batch.bytes': messages * 9 });
  }
  // On a busy machine, another batch may fail for the lock first.
  const links = others.filter((span) => attributesOf(span)['trunkline.batch.outcome'] === 'committed').flatMap((span) => span.links ?? []);
  expect(links).toEqual(expect.arrayContaining(callers.map((each) => expect.objectContaining(linkTo(each)))));
  expect(links.filter(({ traceId }) => traceId === late.traceId)).toHaveLength(1);
  expect(links.filter(({ traceId }) => traceId === unseen.traceId)).toEqual([]);

  const lines = linesOf(node.output());
  for (const [n, { traceId }] of callers.entries()) {
    const line = lines.find((each) => each['request'] === answers[n]?.requestId && each['msg'] === 'answered');
    expect(line).toMatchObject({ trace_id: traceId, span_id: linkTo({ traceId }).spanId });
  }
  // It is of whoever has a message in it, not of the request that woke the lane.
  const failure = lines.find(({ msg }) => String(msg).startsWith('a batch of messages failed'));
  expect(failure).not.toHaveProperty('trace_id');

  const sent = collector.bodies.join('\n');
  expect(collector.bodies.every((body) => body.startsWith('POST /v1/traces {'))).toBe(true);
  expect(sent).toContain('{"key":"service.name","value":{"stringValue":"trunkline"}}');
  for (const hidden of ['secret', 'nowhere', room, ann.token]) expect(sent).not.toContain(hidden);
}, 60_000);

it('nothing of OpenTelemetry is loaded unless it is asked for', async () => {
  const atExit = `import { createRequire } from 'node:module';
    process.on('exit', () => process.stdout.write(Object.keys(createRequire('/').cache).join('\\n') + '\\n'));`;
  const packagesOf = async (env: Record<string, string>) => {
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(atExit)}`;
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '0', NODE_OPTIONS, ...env });
    await send(node.url, 'hello');
    expect(await node.stop()).toBe(0);
    const found = node.output().match(/(?<=^\/.*\/node_modules\/)(@opentelemetry\/[\w-]+|pg(?=\/))/gm) ?? [];
    return [...new Set(found)].toSorted();
  };
  // The metrics' library brings the API, which does nothing by itself.
  expect(await packagesOf({})).toEqual(['@opentelemetry/api', 'pg']);
  const on = await packagesOf({ OTEL_EXPORTER_OTLP_ENDPOINT: await collector.listen() });
  expect(on).toEqual(expect.arrayContaining(['@opentelemetry/exporter-trace-otlp-http', '@opentelemetry/sdk-trace-base']));
}, 60_000);

const quick = { OTEL_BSP_SCHEDULE_DELAY: '50', OTEL_EXPORTER_OTLP_TIMEOUT: '500', DRAIN_MS: '0' };

it('a collector that is away costs no request, and is told of once when it goes and once when it is back', async () => {
  const port = await freePort();
  const node = await startProcessNode({ DATABASE_URL: db.url, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/`, ...quick });
  const told = (text: string) => linesOf(node.output()).filter(({ msg }) => String(msg).startsWith(text));
  for (let n = 0; n < 20; n++) expect((await send(node.url, `message ${n}`)).status).toBe(201);
  await eventually(() => told('traces are not exported').length > 0, 'the log to tell');
  await collector.listen(port);
  await eventually(async () => (await send(node.url, 'again')).status === 201 && collector.spans.length > 0, 'spans');
  await eventually(() => told('traces are exported again').length > 0, 'the log to tell');
  expect(told('traces are')).toHaveLength(2);
  for (const line of told('traces are')) expect(line).not.toHaveProperty('trace_id');
  expect(await node.stop()).toBe(0);
}, 60_000);

it.each(['away', 'silent'])(
  'a collector that is %s costs a stop a second at most',
  async (how) => {
    const silent = new Collector(false);
    const address = how === 'silent' ? await silent.listen() : `http://127.0.0.1:${await freePort()}`;
    const node = await startProcessNode({ DATABASE_URL: db.url, DRAIN_MS: '0', OTEL_EXPORTER_OTLP_ENDPOINT: address });
    for (let n = 0; n < 5; n++) expect((await send(node.url, `message ${n}`)).status).toBe(201);
    const from = performance.now();
    expect(await node.stop()).toBe(0);
    expect(performance.now() - from).toBeLessThan(5_000);
    if (how === 'silent') expect(silent.spans.length).toBeGreaterThan(5);
    await silent.close();
  },
  60_000,
);
