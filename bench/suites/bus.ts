/**
 * What the bus costs each node: every node hears of every message, also of rooms in which it has no sockets. A message writer in a process of its own
 * stores messages at a rate; the first node has a socket in each room, the others have none; beside them a bare client LISTENs to the same payloads
 * and drops them. What a process takes at rest, before the messages come, is subtracted.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { callsTo } from '../calls.js';
import type { Node } from '../cluster.js';
import type { ListenCalls } from '../processes/listen.js';
import type { WriteCalls } from '../processes/write.js';
import { usageOf } from '../process-usage.js';
import type { Scenario } from '../scenarios.js';
import { makeCrowd, readStored, unlikeAcked } from '../set-up.js';
import type { Figure, Run, Suite } from '../suite.js';
import { failuresOf, playScenario, usageNote, type LoadReport } from '../under-load.js';

const listenEntry = new URL('../processes/listen.ts', import.meta.url);
const writeEntry = new URL('../processes/write.ts', import.meta.url);

const perSecond = 20_000;
/** How long a node that has started is left alone before it counts as at rest. */
const calmMs = 1_000;

const loads = [1, 2, 4, 8].map((nodes) => ({ nodes, name: nodes === 1 ? '1-node' : `${nodes}-nodes` }));
type Load = (typeof loads)[number];

/** One receiver a room, so that what it receives is what was stored; what is sent comes from the writer. */
const people: Omit<Scenario, 'name' | 'title'> = {
  rooms: 10,
  senders: 0,
  receivers: 10,
  offer: { kind: 'closed', unansweredPerSender: 0 },
  clientMsgIds: false,
  sampleEvery: 1_024,
};

interface Measured {
  readonly report: LoadReport;
  readonly messagesPerPayload: number;
  /** Percent of a core by process, as in the report, before the messages came. */
  readonly atRest: Readonly<Record<string, number>>;
}

const bare = 'bare LISTEN';

export const bus: Suite = {
  name: 'bus',
  title: `CPU for each message that a node hears of, at ${perSecond.toLocaleString('en')} messages/s in 10 rooms, beside a client that LISTENs and drops`,
  parts: loads.map(({ name }) => name),
  isLong: true,
  async run(run) {
    const figures: Figure[] = [];
    const measured: Measured[] = [];
    for (const load of loads.filter(({ name }) => run.wants(name))) {
      const one = await measure(run, load);
      measured.push(one);
      figures.push(...figuresOf(load, one));
    }
    return {
      figures,
      failures: measured.flatMap(({ report }) => failuresOf(report)),
      notes: [
        'wanted: of node 1, which writes each message to one socket; unwanted: of the other nodes, on average.',
        ...measured.map(loadNote),
        ...measured.map(({ report }) => usageNote(report)),
      ],
      detail: measured,
    };
  },
};

async function measure(run: Run, { nodes: count, name }: Load): Promise<Measured> {
  const databaseUrl = await run.newDatabase();
  const nodes = await run.startNodes(count, { DATABASE_URL: databaseUrl });
  const [listening, writing] = [run.fork(listenEntry, 'listen'), run.fork(writeEntry, 'write')];
  const [listener, writer] = [callsTo<ListenCalls>(listening), callsTo<WriteCalls>(writing)];
  await listener('listen', { databaseUrl });
  run.status(`${name}: at rest`);
  const atRest = await usageAtRest(nodes, (run.seconds * 1_000) / 2);
  let stored = 0;
  const report = await playScenario(run, { ...people, name, title: name }, nodes, {
    dialect: 'trunkline',
    databaseUrl,
    beside: { [bare]: listening, writer: writing },
    async makeCrowd(db, scenario, [firstUrl = '']) {
      const crowd = await makeCrowd(db, scenario, [firstUrl], run.secret);
      await writer('open', { databaseUrl, contentChars: run.contentChars });
      await writer('offer', { perSecond });
      return crowd;
    },
    async readStored(db, roomIds) {
      await writer('stop', undefined);
      const { ackedByRoom, faults } = await writer('tally', undefined);
      const { heads, messages, problems } = await readStored(db, roomIds);
      stored = Object.values(messages).reduce((sum, inRoom) => sum + inRoom, 0);
      return {
        heads,
        messages: {}, // the load has sent none
        problems: [
          ...problems,
          ...Object.entries(faults).map(([what, times]) => `${what}: ${times}`),
          ...unlikeAcked(ackedByRoom, messages),
        ],
      };
    },
  });
  const { payloads } = await listener('heard', undefined);
  for (const child of [listening, writing]) child.disconnect();
  await run.stopNodes();
  return { report, messagesPerPayload: stored / payloads, atRest };
}

const loadNote = ({ report: { scenario, result }, messagesPerPayload }: Measured): string =>
  `${scenario.name}: ${Math.round(result.deliveries / result.seconds).toLocaleString('en')} messages/s, ${messagesPerPayload.toFixed(1)} a payload`;

/** @returns percent of a core of each node, by its name in a LoadReport */
async function usageAtRest(nodes: readonly Node[], forMs: number): Promise<Record<string, number>> {
  await delay(calmMs);
  const used = () => Promise.all(nodes.map(({ process }: { readonly process: ChildProcess }) => usageOf(process.pid)));
  const before = await used();
  await delay(forMs);
  const after = await used();
  return Object.fromEntries(
    after.map(({ cpuSeconds, at }, n) => {
      const from = before[n] ?? { cpuSeconds: Number.NaN, at: 0 };
      return [`node ${n + 1}`, ((cpuSeconds - from.cpuSeconds) / (at - from.at)) * 100];
    }),
  );
}

function figuresOf({ nodes, name }: Load, { report, atRest }: Measured): Figure[] {
  const { deliveries, seconds } = report.result;
  const percentOf = (process: string): number =>
    (report.processes.find((one) => one.name === process)?.cpuPercent ?? Number.NaN) - (atRest[process] ?? 0);
  const perMessage = (percent: number): number => ((percent / 100) * 1e6) / (deliveries / seconds);
  const others = Array.from({ length: nodes - 1 }, (_, n) => percentOf(`node ${n + 2}`));
  const unwanted = others.reduce((sum, percent) => sum + percent, 0) / others.length;
  const beside = (what: string, unit: string, value: number, limit: number): Figure => ({
    name: `${name}, ${what}`,
    value,
    unit,
    against: [{ name: bare, value: limit }],
  });
  return [
    beside('wanted', 'µs/message', perMessage(percentOf('node 1')), perMessage(percentOf(bare))),
    ...(others.length === 0
      ? []
      : [
          beside('unwanted', 'µs/message', perMessage(unwanted), perMessage(percentOf(bare))),
          beside('unwanted, of a core', '%', unwanted, percentOf(bare)),
        ]),
    { name: `${name}, PostgreSQL`, value: perMessage(percentOf('postgres')), unit: 'µs/message' },
  ];
}
