import type { Scenario } from '../scenarios.js';
import type { Figure, Goal, Suite } from '../suite.js';
import { playEach, usageNote, type LoadReport } from '../under-load.js';

interface Load extends Scenario {
  readonly goals: { readonly p50: Goal; readonly p99: Goal };
}

/** The first thousands of messages of a node that was just started take half as long again: their code is not compiled yet. */
const afterBusy = { seconds: 5, messagesPerSecond: 4_000 };

export const fiftyRooms = {
  rooms: 50,
  senders: 50,
  receivers: 200,
  offer: { kind: 'open', messagesPerSecond: 200, afterBusy },
  clientMsgIds: false,
  sampleEvery: 1,
} as const;

const loads: readonly Load[] = [
  {
    ...fiftyRooms,
    name: '200/s',
    title: '200 messages/s in 50 rooms, 200 receivers',
    goals: { p50: { atMost: 2 }, p99: { atMost: 8 } },
  },
  {
    ...fiftyRooms,
    name: '5000/s',
    title: '5,000 messages/s in 10 rooms, 200 receivers; the 20 ms window alone makes 10 and 20 ms',
    rooms: 10,
    offer: { kind: 'open', messagesPerSecond: 5_000, afterBusy },
    goals: { p50: { atMost: 13 }, p99: { atMost: 30 } },
  },
];

export const latency: Suite = {
  name: 'latency',
  title: 'two nodes, open loop, after 5 s of 4,000 messages/s: from the moment at which a message is due to its receipt',
  parts: loads.map(({ name }) => name),
  async run(run) {
    const wanted = loads.filter(({ name }) => run.wants(name));
    const { reports, ...result } = await playEach(run, wanted, figuresOf);
    return {
      ...result,
      notes: [...wanted.map(({ name, title }) => `${name}: ${title}`), ...reports.map(lateNote), ...reports.map(usageNote)],
      detail: reports,
    };
  },
};

function figuresOf({ result: { deliveryMs, ackMs } }: LoadReport, { name, goals }: Load): Figure[] {
  return [
    { name: `${name}, send to receipt p50`, value: deliveryMs.p50, unit: 'ms', goal: goals.p50 },
    { name: `${name}, send to receipt p99`, value: deliveryMs.p99, unit: 'ms', goal: goals.p99 },
    { name: `${name}, send to ack p50`, value: ackMs.p50, unit: 'ms' },
    { name: `${name}, send to ack p99`, value: ackMs.p99, unit: 'ms' },
  ];
}

const lateNote = ({ scenario, result: { lateMs } }: LoadReport): string =>
  `${scenario.name}: of this the generator itself was late by ${lateMs.p50.toFixed(1)} ms (p50) and ${lateMs.p99.toFixed(1)} ms (p99)`;
