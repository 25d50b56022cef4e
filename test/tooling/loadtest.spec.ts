import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { startNode, type TestNode } from '../support/node.js';
import { startRelay, type Faults, type Relay } from '../support/relay.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

/** Without k6 only its absence can be tested; the gate brings k6. */
const hasK6 = spawnSync('k6', ['version']).status === 0;
const whereK6Is = hasK6 ? describe : describe.skip;
const runDeadlineMs = 90_000;

interface Summary {
  verdict: string;
  failed: string[];
  metrics: Record<string, { values: Record<string, number> }>;
}

interface Outcome {
  code: number | null;
  output: string;
  /** Of the metric, 0 when it has no sample. */
  value: (metric: string, what: string) => number;
  summary: Summary | undefined;
  chart: string | undefined;
}

let db: TestDatabase;
let node: TestNode;
let folder: string;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  folder = await mkdtemp(join(tmpdir(), 'trunkline-loadtest-'));
});
afterAll(async () => {
  await node.close();
  await db.drop();
  await rm(folder, { recursive: true, force: true });
});

async function loadtest(scenario: string, env: Record<string, string>): Promise<Outcome> {
  const results = await mkdtemp(join(folder, 'run-'));
  const child = spawn(process.execPath, ['--import', 'tsx', 'loadtest/run.ts', scenario], {
    env: { PATH: process.env['PATH'] ?? '', HOME: folder, RESULTS_DIR: results, BASE_URL: node.url, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  const read = (name: string) => readFile(join(results, name), 'utf8').catch(() => undefined);
  const text = await read('summary.json');
  const summary = text === undefined ? undefined : (JSON.parse(text) as Summary);
  const value = (metric: string, what: string) => summary?.metrics[metric]?.values[what] ?? 0;
  return { code, output, value, summary, chart: await read('chart.html') };
}

/** 4 senders (users 0 to 3) of 20 messages each and 10 receivers (users 4 to 13). */
const delivery = { VUS: '14', MESSAGES: '20', DURATION: '10s' };
/** 6 senders (0 to 5), 9 receivers (6 to 14), 3 who come and go (15 to 17), a typist and who watches it (18 and 19). */
const chat = { VUS: '20', DURATION: '15s' };
const numberOf = (username: string): number => Number(username.split('-').at(-1));

/** Every threshold is met that is not a time: those are also of the machine, and a run that misses one has to say so. */
function expectPassed({ code, output, summary }: Outcome): void {
  const verdict = summary?.failed.length === 0 ? 'passed' : 'failed';
  expect([output, summary?.failed.filter((threshold) => !/^\w+_ms:/.test(threshold))]).toEqual([expect.any(String), []]);
  expect([output, summary?.verdict]).toEqual([expect.stringContaining(`Verdict: ${verdict.toUpperCase()}`), verdict]);
  expect(code === 0).toBe(verdict === 'passed');
}

async function withRelay<T>(faults: Faults, use: (relay: Relay) => Promise<T>): Promise<T> {
  const relay = await startRelay(node.url, faults);
  try {
    return await use(relay);
  } finally {
    await relay.close();
  }
}

whereK6Is('the load scenarios', () => {
  it(
    'pass when every message comes once and in order, and leave figures and a chart that needs no network',
    async () => {
      const outcome = await loadtest('message-delivery', delivery);
      const { value, chart } = outcome;
      expectPassed(outcome);
      expect([value('required', 'count'), value('missed', 'count'), value('own_delivered', 'passes')]).toEqual([800, 0, 80]);
      expect(/(src|href)="?https?:/.test(chart ?? 'https:')).toBe(false);
      const [, figures = ''] = /<script id="data"[^>]*>([^<]*)</.exec(chart ?? '') ?? [];
      const drawn = gunzipSync(Buffer.from(figures, 'base64')).toString();
      expect([drawn.includes('Send to receipt'), drawn.includes('"delivery_ms"')]).toEqual([true, true]);
    },
    runDeadlineMs,
  );

  it(
    'pass when clients are cut off and resume, and when messages come one by one',
    async () => {
      const cuts = new Map([
        [0, 10],
        [6, 10],
      ]);
      let relay: Relay | undefined;
      const push = (frame: string, username: string) => {
        if (!frame.startsWith('{"event":"new_message_batch"')) return undefined;
        const number = numberOf(username);
        const left = cuts.get(number);
        if (left !== undefined) cuts.set(number, left - 1);
        if (left === 1) relay?.cut(username);
        if (number !== 7) return undefined;
        const { data } = JSON.parse(frame) as { data: object[] };
        return { frames: data.map((message) => JSON.stringify({ event: 'new_message', data: message })) };
      };
      const outcome = await withRelay({ push }, (started) => {
        relay = started;
        return loadtest('chat-ws', { ...chat, BASE_URL: started.url });
      });
      const { value } = outcome;
      expectPassed(outcome);
      expect([value('dropped', 'count'), value('missed', 'count'), value('accounted', 'count')]).toEqual([2, 0, 20]);
      expect(value('typing_delivered', 'passes')).toBeGreaterThanOrEqual(2);
    },
    runDeadlineMs,
  );

  it(
    'fail, and count it, when a relay loses, doubles, swaps, changes, swallows or holds up frames',
    async () => {
      const batches = new Map<number, string[]>();
      const sends = new Map<number, number>();
      const faults: Faults = {
        push(frame, username) {
          if (frame.startsWith('{"event":"joined_room"')) return { frames: [frame], delayMs: 1_200 };
          if (!frame.startsWith('{"event":"new_message_batch"')) return undefined;
          const number = numberOf(username);
          const seen = batches.get(number) ?? [];
          batches.set(number, seen);
          seen.push(frame);
          const frames = tampered(number, seen, frame);
          return { frames, delayMs: 700 };
        },
        command(frame, username) {
          if (!frame.startsWith('{"event":"send_message"')) return true;
          const number = numberOf(username);
          sends.set(number, (sends.get(number) ?? 0) + 1);
          return number !== 0 || sends.get(number) !== 10;
        },
      };
      const { code, output, value, summary } = await withRelay(faults, ({ url }) =>
        loadtest('message-delivery', { ...delivery, BASE_URL: url }),
      );
      expect([output, code === 0]).toEqual([expect.stringContaining('Verdict: FAILED'), false]);
      const thirdOf = (number: number) => (JSON.parse(batches.get(number)?.[2] ?? '') as { data: unknown[] }).data.length;
      // Lost by one receiver, changed for another, and never sent to any of ten.
      expect([value('missed', 'count'), value('required', 'count')]).toEqual([thirdOf(4) + 1 + 10, 800]);
      expect(value('delivered', 'avg')).toBeCloseTo(1 - value('missed', 'count') / 800, 10);
      expect(value('own_delivered', 'fails')).toBe(1);
      expect(value('duplicates', 'count')).toBe(thirdOf(5));
      expect(value('out_of_order', 'count')).toBe(thirdOf(6));
      expect(value('bad_payloads', 'count')).toBe(1);
      expect(value('holes', 'count')).toBe(thirdOf(4));
      expect(summary?.failed.map((threshold) => threshold.split(':')[0]).toSorted()).toEqual([
        'bad_payloads',
        'connect_ms',
        'delivered',
        'delivery_ms',
        'duplicates',
        'out_of_order',
        'own_delivered',
      ]);
    },
    runDeadlineMs,
  );

  it(
    'fail when what was said during an absence does not come, and when typing is not seen',
    async () => {
      let last = 0; // seq that user 15 has
      let lost = 0;
      const push = (frame: string, username: string) => {
        if (frame.startsWith('{"event":"typing"')) return { frames: [] };
        if (numberOf(username) !== 15 || lost > 0) return undefined;
        // History is lost until something live shows the hole: without that only the end of the run would.
        if (frame.startsWith('{"event":"history"') && frame.includes('"content"')) return { frames: [] };
        if (!frame.startsWith('{"event":"new_message_batch"')) return undefined;
        const seqs = (JSON.parse(frame) as { data: { seq: number }[] }).data.map(({ seq }) => seq);
        lost = (seqs[0] ?? 0) - last - 1;
        last = seqs.at(-1) ?? 0;
        return undefined;
      };
      const command = (frame: string, username: string) => {
        if (numberOf(username) === 15 && frame.startsWith('{"event":"join_room"'))
          last = (JSON.parse(frame) as { data: { last_seen_seq: number } }).data.last_seen_seq;
        return true;
      };
      const { code, value, summary } = await withRelay({ push, command }, ({ url }) => loadtest('chat-ws', { ...chat, BASE_URL: url }));
      expect(code).not.toBe(0);
      expect(summary?.failed).toEqual(
        expect.arrayContaining(['holes{scenario:churners}: count==0', 'delivered: avg>0.999', 'typing_delivered: rate>0.99']),
      );
      expect([lost > 0, value('holes', 'count'), value('missed', 'count')]).toEqual([true, lost, lost]);
      expect(value('typing_delivered', 'passes')).toBe(0);
    },
    runDeadlineMs,
  );

  it('say what is wrong before they start: limits that are on, nobody there, a time that is too short', async () => {
    const limited = await startNode(db.url, { RATE_LIMITS: 'on' });
    try {
      const outcomes = await Promise.all([
        loadtest('chat-ws', { VUS: '40', DURATION: '10s', BASE_URL: limited.url }),
        loadtest('chat-ws', { BASE_URL: 'http://127.0.0.1:1' }),
        loadtest('message-delivery', { DURATION: '10s' }),
      ]);
      expect(outcomes.map(({ code }) => code)).toEqual([1, 1, 1]);
      expect(outcomes.map(({ output }) => output)).toEqual([
        expect.stringContaining('start its nodes with RATE_LIMITS=off'),
        expect.stringMatching(/^Nobody answers at http:\/\/127\.0\.0\.1:1/),
        expect.stringContaining('make it longer, or MESSAGES fewer'),
      ]);
    } finally {
      await limited.close();
    }
  });
});

it('who has no k6 is told how to get it', async () => {
  const { code, output } = await loadtest('chat-ws', { PATH: dirname(folder) });
  expect([code, output]).toEqual([1, expect.stringContaining('go install go.k6.io/k6@')]);
});

/** What a receiver gets of its nth batch, of which the frames before are known. */
function tampered(number: number, seen: readonly string[], frame: string): string[] {
  const isThird = seen.length === 3;
  if (number === 4 && isThird) return [];
  if (number === 5 && isThird) return [frame, frame];
  if (number === 6 && isThird) return [];
  if (number === 6 && seen.length === 4) return [frame, seen[2] ?? ''];
  if (number === 7 && isThird) return [frame.replace(/("content":\s*"[^"\\]*)/, '$1x')];
  return [frame];
}
