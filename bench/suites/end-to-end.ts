import type { Scenario } from '../scenarios.js';
import type { Figure, Goal, Suite } from '../suite.js';
import { messagesPerCpuSecond, playEach, usageNote, type LoadReport } from '../under-load.js';

interface Load extends Scenario {
  readonly goals: { readonly messages?: Goal; readonly deliveries?: Goal };
}

const tenRooms = {
  rooms: 10,
  senders: 20,
  receivers: 200,
  offer: { kind: 'closed', unansweredPerSender: 100 },
  sampleEvery: 16,
} as const;

const loads: readonly Load[] = [
  {
    ...tenRooms,
    name: '10-rooms',
    title: '10 rooms, 20 senders x 100 unanswered, 200 receivers',
    clientMsgIds: false,
    goals: { messages: { atLeast: 38_000 }, deliveries: { atLeast: 750_000 } },
  },
  {
    ...tenRooms,
    name: '10-rooms-ids',
    title: 'the same with a client_msg_id on each message',
    clientMsgIds: true,
    goals: { messages: { atLeast: 32_000 } },
  },
  {
    ...tenRooms,
    name: '50-rooms',
    title: '50 rooms, 100 senders x 100 unanswered, 200 receivers',
    rooms: 50,
    senders: 100,
    clientMsgIds: false,
    goals: { messages: { atLeast: 50_000 } },
  },
  {
    name: '1-room',
    title: '1 room, 120 senders x 2 unanswered, 300 receivers',
    rooms: 1,
    senders: 120,
    receivers: 300,
    offer: { kind: 'closed', unansweredPerSender: 2 },
    clientMsgIds: false,
    sampleEvery: 16,
    goals: { deliveries: { atLeast: 2_000_000 } },
  },
];
const quickLoads: ReadonlySet<string> = new Set(['10-rooms', '10-rooms-ids']);

export const endToEnd: Suite = {
  name: 'end-to-end',
  title: 'two nodes, closed loop: as many messages as senders get answers for',
  parts: loads.map(({ name }) => name),
  async run(run) {
    const wanted = loads.filter(({ name }) => run.wants(name));
    const played = wanted.filter(({ name }) => !run.quick || quickLoads.has(name));
    const { reports, ...result } = await playEach(run, played, figuresOf);
    const leftOut = wanted.filter((load) => !played.includes(load)).map(({ name }) => name);
    return {
      ...result,
      notes: [
        ...played.map(({ name, title }) => `${name}: ${title}`),
        ...reports.map(usageNote),
        ...(leftOut.length > 0 ? [`left out: ${leftOut.join(', ')}`] : []),
      ],
      detail: reports,
    };
  },
};

function figuresOf(report: LoadReport, { name, goals }: Load): Figure[] {
  const { acked, deliveries, seconds, deliveryMs } = report.result;
  return [
    { name: `${name}, durable`, value: acked / seconds, unit: 'messages/s', ...(goals.messages && { goal: goals.messages }) },
    { name: `${name}, delivered`, value: deliveries / seconds, unit: 'deliveries/s', ...(goals.deliveries && { goal: goals.deliveries }) },
    { name: `${name}, per CPU second`, value: messagesPerCpuSecond(report), unit: 'messages' },
    { name: `${name}, send to receipt p50`, value: deliveryMs.p50, unit: 'ms' },
    { name: `${name}, send to receipt p99`, value: deliveryMs.p99, unit: 'ms' },
  ];
}
