/**
 * Fan-out of one node to 1,000 sockets, beside its limit: a loop that writes pre-framed buffers to as many raw sockets. Both are read by the same
 * receivers with the same checks, in the same closed loop; the loop's frames have as many messages as the node's had on average, of the same text. The
 * node's messages come by a second node, so that it does nothing but hear of them and fan them out; while the loop is measured, a message writer stores
 * as many messages a second beside it, which both nodes hear, so that the machine is as busy.
 */
import pg from 'pg';
import { callsTo } from '../calls.js';
import type { Node } from '../cluster.js';
import type { FanOutLoopCalls } from '../processes/fan-out-loop.js';
import type { WriteCalls } from '../processes/write.js';
import type { Scenario } from '../scenarios.js';
import { makeCrowd, readStored } from '../set-up.js';
import type { Figure, Goal, Run, Suite } from '../suite.js';
import { failuresOf, playScenario, usageNote, type Backend, type LoadReport } from '../under-load.js';

const loopEntry = new URL('../processes/fan-out-loop.ts', import.meta.url);
const writeEntry = new URL('../processes/write.ts', import.meta.url);

interface Load extends Scenario {
  /** Of the ratio to the loop. */
  readonly goal?: Goal;
}

const thousandSockets = { senders: 20, receivers: 1_000, clientMsgIds: false, sampleEvery: 16 } as const;
const goal = { atLeast: 0.85 };

const loads: readonly Load[] = [
  {
    ...thousandSockets,
    name: '1-room',
    title: '1,000 sockets in 1 room, 800 messages under way',
    rooms: 1,
    offer: { kind: 'delivered', undelivered: 800 },
    goal,
  },
  {
    ...thousandSockets,
    name: '10-rooms',
    title: '1,000 sockets in 10 rooms, 2,000 messages under way',
    rooms: 10,
    offer: { kind: 'delivered', undelivered: 2_000 },
  },
  {
    ...thousandSockets,
    name: 'lone',
    title: '1,000 sockets in 1 room, 25 messages/s: a frame for nearly each',
    rooms: 1,
    offer: { kind: 'open', messagesPerSecond: 25 },
  },
];

interface Measured {
  readonly node: LoadReport;
  readonly loop: LoadReport;
}

export const fanOut: Suite = {
  name: 'fan-out',
  title: 'one node to 1,000 sockets, beside a loop that writes the same frames to raw sockets',
  parts: loads.map(({ name }) => name),
  isLong: true,
  async run(run) {
    const played = loads.filter(({ name }) => run.wants(name));
    const figures: Figure[] = [];
    const reports: LoadReport[] = [];
    for (const load of played) {
      const measured = await measure(run, load);
      figures.push(...figuresOf(load, measured));
      reports.push(measured.node, measured.loop);
    }
    return {
      figures,
      failures: reports.flatMap(failuresOf),
      notes: [...played.map(({ name, title }) => `${name}: ${title}`), ...reports.map(framesNote), ...reports.map(usageNote)],
      detail: reports,
    };
  },
};

async function measure(run: Run, load: Load): Promise<Measured> {
  const databaseUrl = await run.newDatabase();
  const [receiving, sending] = (await run.startNodes(2, { DATABASE_URL: databaseUrl })) as [Node, Node];
  const node = await playScenario(run, { ...load, name: `${load.name}, node` }, [receiving, sending], {
    dialect: 'trunkline',
    databaseUrl,
    async makeCrowd(db, scenario) {
      const crowd = await makeCrowd(db, scenario, [receiving.url], run.secret);
      return { ...crowd, senders: crowd.senders.map((sender) => ({ ...sender, nodeUrl: sending.url })) };
    },
    readStored,
  });
  const loop = await measureLoop(run, load, databaseUrl, node);
  await run.stopNodes();
  return { node, loop };
}

async function measureLoop(run: Run, load: Load, databaseUrl: string, { result }: LoadReport): Promise<LoadReport> {
  const [process, writing] = [run.fork(loopEntry, 'fan-out-loop'), run.fork(writeEntry, 'write')];
  const [loop, writer] = [callsTo<FanOutLoopCalls>(process), callsTo<WriteCalls>(writing)];
  await writer('open', { databaseUrl, contentChars: run.contentChars });
  const { url } = await loop('serve', { message: await lastMessage(databaseUrl), messagesPerFrame: messagesPerFrame(result) });
  const backend: Backend = {
    dialect: 'trunkline',
    databaseUrl,
    beside: { writer: writing },
    async makeCrowd(db, scenario) {
      const crowd = await makeCrowd(db, scenario, [url], run.secret);
      await writer('offer', { perSecond: result.acked / result.seconds });
      return crowd;
    },
    async readStored() {
      await writer('stop', undefined);
      const { faults } = await writer('tally', undefined);
      const heads = await loop('finish', undefined);
      return { heads, messages: heads, problems: Object.entries(faults).map(([what, count]) => `beside the loop, ${what}: ${count}`) };
    },
  };
  const report = await playScenario(run, { ...load, name: `${load.name}, loop` }, [{ url, process }], backend);
  for (const child of [process, writing]) child.disconnect();
  return report;
}

/** As nodes send it. */
async function lastMessage(databaseUrl: string): Promise<string> {
  const db = new pg.Client({ connectionString: databaseUrl });
  await db.connect();
  try {
    const { rows } = await db.query<{ json: string }>(
      `SELECT message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
       FROM messages ORDER BY created_at DESC LIMIT 1`,
    );
    return rows[0]?.json ?? '';
  } finally {
    await db.end();
  }
}

function figuresOf({ name, goal: ratioGoal }: Load, { node, loop }: Measured): Figure[] {
  const beside = (what: string, value: (report: LoadReport) => number): Figure => ({
    name: `${name}, ${what}`,
    value: value(node),
    unit: 'deliveries',
    against: [{ name: 'loop', value: value(loop), ...(ratioGoal && { goal: ratioGoal }) }],
  });
  return [
    { ...beside('delivered', deliveriesPerSecond), unit: 'deliveries/s' },
    beside('per CPU second of the process that sends', deliveriesPerCpuSecond),
  ];
}

const messagesPerFrame = ({ deliveries, frames }: LoadReport['result']): number => Math.max(1, deliveries / frames);
const deliveriesPerSecond = ({ result }: LoadReport): number => result.deliveries / result.seconds;
const deliveriesPerCpuSecond = (report: LoadReport): number =>
  deliveriesPerSecond(report) / ((report.processes.find(({ name }) => name === 'node 1')?.cpuPercent ?? Number.NaN) / 100);
const framesNote = ({ scenario, result: { deliveries, frames, seconds } }: LoadReport): string =>
  `${scenario.name}: ${(deliveries / frames).toFixed(1)} messages a frame, ${Math.round(frames / seconds).toLocaleString('en')} frames/s`;
