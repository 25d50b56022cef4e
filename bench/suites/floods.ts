import { once } from 'node:events';
import type { FloodKind, FloodResult, ToFlood } from '../flood.js';
import type { Crowd } from '../set-up.js';
import type { Figure, Run, Suite } from '../suite.js';
import { failuresOf, playScenario, trunkline, usageNote, type Backend, type LoadReport } from '../under-load.js';
import { fiftyRooms } from './latency.js';

const floodEntry = new URL('../processes/flood.ts', import.meta.url);

interface Flood {
  readonly name: FloodKind;
  readonly title: string;
  readonly perSecond: number;
  /** Of the nodes, beside TRUSTED_PROXIES. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** So that the floods of sends are what the writer has to deal with: with them, most would be refused. */
const unlimited = { RATE_LIMITS: 'off' };

const floods: readonly Flood[] = [
  { name: 'login', title: '200 logins/s, each of another network and name, with a wrong password', perSecond: 200 },
  { name: 'register', title: '200 accounts/s, each of another network', perSecond: 200 },
  { name: 'join', title: '2,000 times a second, 50 sockets join a room and leave it', perSecond: 2_000 },
  { name: 'typing', title: '5,000 times a second, 50 sockets begin to type in the measured rooms and cease', perSecond: 5_000 },
  {
    name: 'repeats',
    title: 'one account sends 5,000 times a second by 50 sockets, always with the same client_msg_id',
    perSecond: 5_000,
    settings: unlimited,
  },
  {
    name: 'conflicts',
    title: 'the same, each time with another content',
    perSecond: 5_000,
    settings: unlimited,
  },
  {
    name: 'strangers',
    title: 'one account sends 5,000 times a second to a room of which it is no member',
    perSecond: 5_000,
    settings: unlimited,
  },
  {
    name: 'fresh',
    title: 'one account sends 5,000 new messages a second',
    perSecond: 5_000,
    settings: unlimited,
  },
  {
    name: 'large',
    title: 'one account sends messages of 65,000 emoji by a socket to each node, as fast as they are taken, and reads them',
    perSecond: 1_000,
    settings: unlimited,
  },
];

/**
 * As in production, behind a proxy whose X-Forwarded-For is believed: a flood from one network would be refused before it costs anything. Before is
 * without any flood, on the same nodes: what the flooding process itself takes of the cores is held against them.
 */
const settings = { RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.1' };

export const floodsSuite: Suite = {
  name: 'floods',
  title: 'as latency:200/s, before and during a flood of something else; the goal is at most twice the latency, and bounded memory',
  parts: floods.map(({ name }) => name),
  isExtra: true,
  isLong: true,
  async run(run) {
    const wanted = floods.filter(({ name }) => run.wants(name));
    const measured: { flood: Flood; before: LoadReport; during: LoadReport; result: FloodResult }[] = [];
    for (const flood of wanted) {
      const nodes = await run.startNodes(2, { ...settings, ...flood.settings });
      const before = await playScenario(run, { ...fiftyRooms, name: `${flood.name}, before`, title: '' }, nodes);
      const flooding = floodOf(
        run,
        flood,
        nodes.map(({ url }) => url),
      );
      const during = await playScenario(run, { ...fiftyRooms, name: flood.name, title: '' }, nodes, flooding.backend);
      measured.push({ flood, before, during, result: await flooding.end() });
      await run.stopNodes();
    }
    return {
      figures: measured.flatMap(({ flood, before, during }) => figuresOf(flood, before, during)),
      failures: measured.flatMap(({ before, during }) => [...failuresOf(before), ...failuresOf(during)]),
      notes: [
        ...wanted.map(({ name, title }) => `${name}: ${title}`),
        ...measured.flatMap(({ flood, before, during, result }) => [
          `${flood.name}: ${result.sent.toLocaleString('en')} sent; answers: ${Object.entries(result.answers)
            .map(([answer, count]) => `${answer} ${count.toLocaleString('en')}`)
            .join(', ')}`,
          usageNote(before),
          usageNote(during),
        ]),
      ],
      detail: measured,
    };
  },
};

/** Begins when the crowd is there, before its sockets are opened and warmed up. */
function floodOf(run: Run, { name, perSecond }: Flood, nodeUrls: readonly string[]): { backend: Backend; end(): Promise<FloodResult> } {
  const child = run.fork(floodEntry, 'flood');
  const tell = (message: ToFlood): void => void child.send(message);
  const backend = trunkline(run);
  return {
    backend: {
      ...backend,
      async makeCrowd(...given): Promise<Crowd> {
        const crowd = await backend.makeCrowd(...given);
        tell({ kind: 'begin', plan: { kind: name, perSecond, nodeUrls, people: crowd.receivers } });
        return crowd;
      },
    },
    async end() {
      const result = once(child, 'message') as Promise<[FloodResult]>;
      tell({ kind: 'end' });
      return (await result)[0];
    },
  };
}

function figuresOf({ name }: Flood, before: LoadReport, during: LoadReport): Figure[] {
  const latency = (percentile: 'p50' | 'p99'): Figure => ({
    name: `${name}, messages of others ${percentile}`,
    value: during.result.deliveryMs[percentile],
    unit: 'ms',
    against: [{ name: 'before', value: before.result.deliveryMs[percentile], goal: { atMost: 2 } }],
  });
  const nodeMiB = ({ processes }: LoadReport) =>
    Math.max(...processes.filter((process) => process.name.startsWith('node')).map(({ residentMiB }) => residentMiB ?? Number.NaN));
  return [
    latency('p50'),
    latency('p99'),
    {
      name: `${name}, memory of the larger node`,
      value: nodeMiB(during),
      unit: 'MiB',
      against: [{ name: 'before', value: nodeMiB(before), goal: { atMost: 2 } }],
    },
  ];
}
