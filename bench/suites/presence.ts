import type { ArrivalsResult, LoadResult, Percentiles } from '../plan.js';
import type { Statement } from '../statements.js';
import type { Scenario } from '../scenarios.js';
import type { Suite } from '../suite.js';
import { failuresOf, playScenario, usageNote } from '../under-load.js';
import { fiftyRooms } from './latency.js';

const load: Scenario = {
  ...fiftyRooms,
  name: 'presence',
  title: 'as latency:200/s, while 10,000 users, each in 3 of 300 rooms, come online within 10 s',
  arrivals: { users: 10_000, withinMs: 10_000, rooms: 300, roomsEach: 3 },
};
const statementsShown = 12;
const statementChars = 90;

export const presence: Suite = {
  name: 'presence',
  title: load.title,
  isExtra: true,
  async run(run) {
    const report = await playScenario(run, load, await run.startNodes(2));
    const { result, statements } = report;
    const { arrivals } = result;
    const ms = (name: string, value: number) => ({ name, value, unit: 'ms' });
    return {
      figures: [
        ms('messages before they came, p99', arrivals?.before.p99 ?? Number.NaN),
        ms('messages while they came, p50', result.deliveryMs.p50),
        ms('messages while they came, p99', result.deliveryMs.p99),
        ms('join p50', arrivals?.joinMs.p50 ?? Number.NaN),
        ms('join p99', arrivals?.joinMs.p99 ?? Number.NaN),
        ms('until each was told of all others', arrivals?.allToldMs ?? Number.NaN),
      ],
      failures: failuresOf(report),
      notes: [usageNote(report), ...(arrivals === undefined ? [] : arrivalsNotes(result, arrivals, statements))],
      detail: report,
    };
  },
};

/** What it meant for messages, the database and the sockets that users came online. */
function arrivalsNotes(
  result: LoadResult,
  { before, after, frames, bytes }: ArrivalsResult,
  statements: readonly Statement[] | undefined,
): string[] {
  const latency = ({ p50, p99, max }: Percentiles) => `${p50.toFixed(1)} / ${p99.toFixed(1)} / ${max.toFixed(1)}`;
  const lines = [
    `messages, p50 / p99 / max ms: before ${latency(before)}, while they came ${latency(result.deliveryMs)}, after ${latency(after)}`,
    `of this the generator itself was late while they came: ${latency(result.lateMs)}`,
    `frames to newcomers: ${Object.entries(frames)
      .map(([event, count]) => `${event} ${thousands(count)}`)
      .join(', ')}; ${thousands(bytes / 1_048_576)} MiB`,
  ];
  if (statements === undefined) return [...lines, 'statements were not counted: the server has no pg_stat_statements loaded'];
  const sum = (of: (statement: Statement) => number) => statements.reduce((total, statement) => total + of(statement), 0);
  lines.push(`statements: ${thousands(sum(({ calls }) => calls))}, ${thousands(sum((statement) => statement.ms))} ms of the server's time`);
  for (const { text, calls, ms } of statements.slice(0, statementsShown)) {
    lines.push(`  ${thousands(calls).padStart(7)} x ${(ms / calls).toFixed(3)} ms  ${text.slice(0, statementChars)}`);
  }
  return lines;
}

const thousands = (value: number): string => Math.round(value).toLocaleString('en');
