import type { ArrivalsResult, LoadResult, Percentiles } from './plan.js';
import type { Scenario } from './scenarios.js';
import type { Statement } from './statements.js';

export interface Report {
  readonly scenario: Scenario;
  readonly result: LoadResult;
  /** Sends that were answered with an error, by its code. */
  readonly refused: Readonly<Record<string, number>>;
  /** What the tables say that can't be. */
  readonly problems: readonly string[];
  /** `machine` is all of them and whatever else ran. */
  readonly processes: readonly { readonly name: string; readonly residentMiB: number | null; readonly cpuPercent: number }[];
  /** While users came online. */
  readonly statements?: readonly Statement[];
}

export interface Machine {
  readonly cores: number;
  readonly model: string;
  readonly node: string;
  readonly bareRowsPerSecond: number;
}

export const machineLine = ({ cores, model, node, bareRowsPerSecond }: Machine): string =>
  `${cores} cores (${model.trim()}), Node ${node}; bare multi-row INSERT: ${thousands(bareRowsPerSecond)} rows/s`;

export function table(reports: readonly Report[]): string {
  const head = [
    'scenario',
    'messages/s',
    'deliveries/s',
    'p50 ms',
    'p95 ms',
    'p99 ms',
    'max ms',
    'ack p50',
    'ack p99',
    'per CPU s',
    'lost',
    'doubled',
    'reordered',
  ];
  const rows = reports.map(({ scenario, result, processes }) => [
    scenario.name,
    thousands(result.acked / result.seconds),
    thousands(result.deliveries / result.seconds),
    ...[result.deliveryMs.p50, result.deliveryMs.p95, result.deliveryMs.p99, result.deliveryMs.max, result.ackMs.p50, result.ackMs.p99].map(
      (ms) => ms.toFixed(1),
    ),
    thousands(result.acked / result.seconds / ownCores(processes)),
    String(result.lost),
    String(result.doubled),
    String(result.reordered + result.acksOutOfOrder),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) => cells.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  ');
  const notes = reports.map(({ scenario, result, processes, statements }) => {
    const used = processes.map(
      ({ name, residentMiB, cpuPercent }) => `${name} ${residentMiB === null ? '' : `${residentMiB} MiB `}${cpuPercent}% CPU`,
    );
    return `${scenario.name.padStart(2)}: ${scenario.title}\n    ${used.join(', ')}\n    ${goals({ scenario, result })}${
      result.arrivals === undefined ? '' : `\n${arrivalsNote(result, result.arrivals, statements)}`
    }`;
  });
  return `${[line(head), ...rows.map(line)].join('\n')}\n\n${notes.join('\n')}`;
}

const statementsShown = 12;
const statementChars = 90;

/** What it meant for messages, the database and the sockets that users came online. */
function arrivalsNote(
  result: LoadResult,
  { before, after, joinMs, allToldMs, frames, bytes }: ArrivalsResult,
  statements?: readonly Statement[],
): string {
  const latency = ({ p50, p99, max }: Percentiles) => `${p50.toFixed(1)} / ${p99.toFixed(1)} / ${max.toFixed(1)}`;
  const lines = [
    `messages, p50 / p99 / max ms: before ${latency(before)}, while they came ${latency(result.deliveryMs)}, after ${latency(after)}`,
    `of this the generator itself was late while they came: ${latency(result.lateMs)}`,
    `a newcomer was in all its rooms after, p50 / p99 / max ms: ${latency(joinMs)}`,
    `each knew of all others ${allToldMs === null ? 'NEVER' : `${(allToldMs / 1_000).toFixed(1)} s after the first came`}`,
    `frames to newcomers: ${Object.entries(frames)
      .map(([event, count]) => `${event} ${thousands(count)}`)
      .join(', ')}; ${thousands(bytes / 1_048_576)} MiB`,
  ];
  if (statements === undefined) lines.push('statements were not counted: the server has no pg_stat_statements loaded');
  else {
    const sum = (of: (statement: Statement) => number) => statements.reduce((total, statement) => total + of(statement), 0);
    lines.push(`statements: ${thousands(sum(({ calls }) => calls))}, ${thousands(sum(({ ms }) => ms))} ms of the server's time`);
    for (const { text, calls, ms } of statements.slice(0, statementsShown)) {
      lines.push(`  ${thousands(calls).padStart(7)} x ${(ms / calls).toFixed(3)} ms  ${text.slice(0, statementChars)}`);
    }
  }
  return lines.map((line) => `    ${line}`).join('\n');
}

function goals({ scenario, result }: { scenario: Scenario; result: LoadResult }): string {
  const { messagesPerSecond, deliveriesPerSecond, p50Ms, p99Ms } = scenario.goal;
  const said: string[] = [];
  const judge = (text: string, reached: boolean) => said.push(`${text} ${reached ? 'reached' : 'MISSED'}`);
  if (messagesPerSecond !== undefined)
    judge(`${thousands(messagesPerSecond)} messages/s`, result.acked / result.seconds >= messagesPerSecond);
  if (deliveriesPerSecond !== undefined)
    judge(`${thousands(deliveriesPerSecond)} deliveries/s`, result.deliveries / result.seconds >= deliveriesPerSecond);
  if (p50Ms !== undefined) judge(`p50 of ${p50Ms} ms`, result.deliveryMs.p50 <= p50Ms);
  if (p99Ms !== undefined) judge(`p99 of ${p99Ms} ms`, result.deliveryMs.p99 <= p99Ms);
  return said.length === 0 ? 'no goals' : `goals: ${said.join(', ')}`;
}

/** What must not be, in words. That a goal of speed was missed is no failure. */
export function failures({ scenario, result, refused, problems }: Report): string[] {
  const { lost, doubled, reordered, acksOutOfOrder, unexpected } = result;
  const counts: Record<string, number> = { lost, doubled, reordered, 'acks out of order': acksOutOfOrder, ...unexpected };
  for (const [code, count] of Object.entries(refused)) counts[`sends refused with ${code}`] = count;
  const wrong = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([what, count]) => `${what}: ${count}`);
  return [...wrong, ...problems].map((what) => `scenario ${scenario.name}: ${what}`);
}

/** Cores that the run itself used: what others took from the machine falls out of a figure that is divided by it. */
const ownCores = (processes: Report['processes']): number =>
  processes.filter(({ name }) => name !== 'machine').reduce((sum, { cpuPercent }) => sum + cpuPercent, 0) / 100;

const thousands = (value: number): string => Math.round(value).toLocaleString('en');
