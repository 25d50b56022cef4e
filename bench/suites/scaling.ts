/** The same load on 1, 2 and 4 nodes, all on this machine with PostgreSQL and the load: what more processes bring on its cores, and what they cost. */
import type { Scenario } from '../scenarios.js';
import type { Figure, Run, Suite } from '../suite.js';
import { failuresOf, messagesPerCpuSecond, playScenario, usageNote, type LoadReport } from '../under-load.js';

const people = { rooms: 10, senders: 20, receivers: 200, clientMsgIds: false } as const;
const openRate = 2_000;

const loads = [1, 2, 4].map((nodes) => ({ nodes, name: nodes === 1 ? '1-node' : `${nodes}-nodes` }));
type Load = (typeof loads)[number];

interface Measured {
  readonly full: LoadReport;
  readonly atRate: LoadReport;
}

export const scaling: Suite = {
  name: 'scaling',
  title: `the same load on 1, 2 and 4 nodes: closed loop, and ${openRate.toLocaleString('en')} messages/s`,
  parts: loads.map(({ name }) => name),
  isLong: true,
  async run(run) {
    const figures: Figure[] = [];
    const reports: LoadReport[] = [];
    let first: Measured | undefined;
    for (const load of loads.filter(({ name }) => run.wants(name))) {
      const measured = await measure(run, load);
      figures.push(...figuresOf(load, measured, first));
      reports.push(measured.full, measured.atRate);
      first ??= measured;
    }
    return {
      figures,
      failures: reports.flatMap(failuresOf),
      notes: ['closed loop: 10 rooms, 20 senders x 100 unanswered, 200 receivers; the same people at the rate', ...reports.map(usageNote)],
      detail: reports,
    };
  },
};

async function measure(run: Run, { nodes: count, name }: Load): Promise<Measured> {
  const databaseUrl = await run.newDatabase();
  const onIt: Run = { ...run, databaseUrl };
  const nodes = await run.startNodes(count, { DATABASE_URL: databaseUrl });
  const play = (scenario: Pick<Scenario, 'name' | 'offer' | 'sampleEvery'>) =>
    playScenario(onIt, { ...people, title: name, ...scenario }, nodes);
  const full = await play({ name, offer: { kind: 'closed', unansweredPerSender: 100 }, sampleEvery: 16 });
  const atRate = await play({ name: `${name} at ${openRate}/s`, offer: { kind: 'open', messagesPerSecond: openRate }, sampleEvery: 1 });
  await run.stopNodes();
  return { full, atRate };
}

/** @param first what the others are set beside */
function figuresOf({ name }: Load, measured: Measured, first: Measured | undefined): Figure[] {
  const figure = (what: string, unit: string, value: (measured: Measured) => number): Figure => ({
    name: `${name}, ${what}`,
    value: value(measured),
    unit,
    ...(first !== undefined && { against: [{ name: first.full.scenario.name, value: value(first) }] }),
  });
  return [
    figure('durable', 'messages/s', ({ full: { result } }) => result.acked / result.seconds),
    figure('delivered', 'deliveries/s', ({ full: { result } }) => result.deliveries / result.seconds),
    figure('per CPU second', 'messages', ({ full }) => messagesPerCpuSecond(full)),
    figure('send to receipt p50', 'ms', ({ full }) => full.result.deliveryMs.p50),
    figure('send to receipt p99', 'ms', ({ full }) => full.result.deliveryMs.p99),
    figure(`send to receipt p50 at ${openRate}/s`, 'ms', ({ atRate }) => atRate.result.deliveryMs.p50),
    figure(`send to receipt p99 at ${openRate}/s`, 'ms', ({ atRate }) => atRate.result.deliveryMs.p99),
  ];
}
