/**
 * Trunkline beside what people would write instead: the same rooms, people, load and checks, on the same server, in the same run. Each peer has as many
 * unanswered sends as it does best with. Trunkline's promise of order is not theirs: what came out of order is said of them, and fails nothing.
 */
import { commitsPerSecond } from '../peers/commits.js';
import { makePeerCrowd, peers, readPeerStored, startPeerNodes, type Peer } from '../peers/peer.js';
import type { Scenario } from '../scenarios.js';
import type { Figure, Goal, Run, Suite } from '../suite.js';
import { failuresOf, playScenario, usageNote, type LoadReport } from '../under-load.js';

const windows = [1, 3, 10, 30, 100] as const;
const quickWindow = 10;
const trial = { seconds: 2, warmUp: 1 } as const;
const commitsMs = 1_000;
const openRate = 200;

const goals: Readonly<Record<string, Goal>> = { 'one-transaction': { atLeast: 25 }, 'socket.io': { atLeast: 20 } };

const people = { rooms: 10, senders: 20, receivers: 200, clientMsgIds: false } as const;

const closed = (name: string, unansweredPerSender: number): Scenario => ({
  ...people,
  name,
  title: `10 rooms, 20 senders x ${unansweredPerSender} unanswered, 200 receivers`,
  offer: { kind: 'closed', unansweredPerSender },
  sampleEvery: 16,
});
const open = (name: string): Scenario => ({
  ...people,
  name: `${name} at ${openRate}/s`,
  title: `10 rooms, ${openRate} messages/s in all, 200 receivers`,
  offer: { kind: 'open', messagesPerSecond: openRate },
  sampleEvery: 1,
});

interface Measured {
  readonly full: LoadReport;
  /** Undefined where the rate is above what it does. */
  readonly atRate: LoadReport | undefined;
}

interface MeasuredPeer extends Measured {
  readonly name: string;
  readonly window: number;
  readonly trials: readonly Trial[];
  /** Of this disk, one transaction after the other. */
  readonly commitsPerSecond: number;
}

interface Trial {
  readonly window: number;
  readonly messagesPerSecond: number;
}

export const peersSuite: Suite = {
  name: 'peers',
  title: 'the same load on two nodes of Trunkline, of the usual one-transaction design, and of Socket.IO with its PostgreSQL adapter',
  parts: peers.map(({ name }) => name),
  isLong: true,
  async run(run) {
    const nodes = await run.startNodes(2);
    const ours: Measured = {
      full: await playScenario(run, closed('trunkline', 100), nodes),
      atRate: await playScenario(run, open('trunkline'), nodes),
    };
    await run.stopNodes();
    const theirs: MeasuredPeer[] = [];
    for (const peer of peers.filter(({ name }) => run.wants(name))) theirs.push(await measurePeer(run, peer));
    return {
      figures: [...ourFigures(ours, theirs), ...theirs.flatMap(peerFigures)],
      failures: [...reportsOf(ours), ...theirs.flatMap(reportsOf).map(withoutOrder)].flatMap(failuresOf),
      notes: [...theirs.flatMap(peerNotes), ...[ours, ...theirs].flatMap(reportsOf).map(usageNote)],
      detail: { ours, theirs },
    };
  },
};

async function measurePeer(run: Run, peer: Peer): Promise<MeasuredPeer> {
  const databaseUrl = await run.newDatabase(peer.tables);
  const { nodes, stop } = await startPeerNodes(run, peer, databaseUrl);
  const backend = { ...peer, databaseUrl, makeCrowd: makePeerCrowd, readStored: readPeerStored };
  const play = (scenario: Scenario, during: Run = run) => playScenario(during, scenario, nodes, backend);

  const trials: Trial[] = [];
  for (const window of run.quick ? [quickWindow] : windows) {
    const report = await play(closed(`${peer.name}, trial of ${window}`, window), { ...run, ...trial });
    trials.push({ window, messagesPerSecond: messagesPerSecond(report) });
  }
  const { window } = trials.reduce((best, one) => (one.messagesPerSecond > best.messagesPerSecond ? one : best));
  const full = await play(closed(peer.name, window));
  const atRate = messagesPerSecond(full) > openRate ? await play(open(peer.name)) : undefined;
  stop();
  return { name: peer.name, full, atRate, window, trials, commitsPerSecond: await commitsPerSecond(databaseUrl, commitsMs) };
}

function ourFigures({ full, atRate }: Measured, theirs: readonly MeasuredPeer[]): Figure[] {
  const against = (value: (peer: MeasuredPeer) => number | undefined, goalOf: (name: string) => Goal | undefined = () => undefined) =>
    theirs.flatMap((peer) => {
      const theirValue = value(peer);
      const goal = goalOf(peer.name);
      return theirValue === undefined ? [] : [{ name: peer.name, value: theirValue, ...(goal && { goal }) }];
    });
  return [
    {
      name: 'trunkline, durable',
      value: messagesPerSecond(full),
      unit: 'messages/s',
      against: against(
        (peer) => messagesPerSecond(peer.full),
        (name) => goals[name],
      ),
    },
    {
      name: 'trunkline, delivered',
      value: deliveriesPerSecond(full),
      unit: 'deliveries/s',
      against: against((peer) => deliveriesPerSecond(peer.full)),
    },
    ...percentiles.map((percentile) => ({
      name: `trunkline, send to receipt ${percentile} at ${openRate}/s`,
      value: atRate?.result.deliveryMs[percentile] ?? Number.NaN,
      unit: 'ms',
      against: against((peer) => peer.atRate?.result.deliveryMs[percentile]),
    })),
  ];
}

function peerFigures({ name, full, atRate, commitsPerSecond: commits }: MeasuredPeer): Figure[] {
  return [
    {
      name: `${name}, durable`,
      value: messagesPerSecond(full),
      unit: 'messages/s',
      against: [{ name: 'single-row commits one after the other', value: commits }],
    },
    { name: `${name}, delivered`, value: deliveriesPerSecond(full), unit: 'deliveries/s' },
    ...percentiles.map((percentile) => ({
      name: `${name}, send to receipt ${percentile}`,
      value: full.result.deliveryMs[percentile],
      unit: 'ms',
    })),
    ...(atRate === undefined
      ? []
      : percentiles.map((percentile) => ({
          name: `${name}, send to receipt ${percentile} at ${openRate}/s`,
          value: atRate.result.deliveryMs[percentile],
          unit: 'ms',
        }))),
  ];
}

function peerNotes({ name, full, atRate, window, trials }: MeasuredPeer): string[] {
  const { reordered, acksOutOfOrder } = full.result;
  const tried = trials.map((one) => `${one.window}: ${Math.round(one.messagesPerSecond).toLocaleString('en')}`).join(', ');
  return [
    `${name}: ${window} unanswered sends each (messages/s in trials of ${trial.seconds} s: ${tried})`,
    `${name}: out of order came ${reordered} deliveries and ${acksOutOfOrder} acks`,
    ...(atRate === undefined ? [`${name}: ${openRate} messages/s are more than it does here`] : []),
  ];
}

const percentiles = ['p50', 'p99'] as const;
const messagesPerSecond = ({ result }: LoadReport): number => result.acked / result.seconds;
const deliveriesPerSecond = ({ result }: LoadReport): number => result.deliveries / result.seconds;
const reportsOf = ({ full, atRate }: Measured): LoadReport[] => (atRate === undefined ? [full] : [full, atRate]);
const withoutOrder = (report: LoadReport): LoadReport => ({ ...report, result: { ...report.result, reordered: 0, acksOutOfOrder: 0 } });
