/** Says in words how the run went, and writes the figures beside the chart. */
import { plan } from './plan.js';

/** k6's handleSummary: text for the terminal, and `summary.json` in the results' folder. */
export function summarize({ metrics, state }) {
  const failed = Object.entries(metrics).flatMap(([name, { thresholds = {} }]) =>
    Object.entries(thresholds)
      .filter(([, { ok }]) => !ok)
      .map(([expression]) => `${name}: ${expression}`),
  );
  const verdict = failed.length === 0 ? 'passed' : 'failed';
  const { title, baseUrl, roles, rooms, durationMs } = plan;
  const crowd = Object.entries(roles).map(([role, { count }]) => `${count} ${role}`);
  const value = (name, what) => metrics[name]?.values[what] ?? 0;
  const count = (name) => thousands(value(name, 'count'));
  const share = (name) => `${thousands(value(name, 'passes'))} of ${thousands(value(name, 'passes') + value(name, 'fails'))}`;
  const delivered = `${thousands(value('required', 'count') - value('missed', 'count'))} of ${count('required')}`;
  const times = (name) => ['med', 'p(95)', 'p(99)', 'max'].map((what) => `${what} ${Math.round(value(name, what))}`).join(', ');
  const lines = [
    ['Sent', `${count('sent')} messages`],
    ['Delivered', `${delivered} that were required (${percent(value('delivered', 'avg'))})`],
    ['To their senders', `${share('own_delivered')} (${percent(value('own_delivered', 'rate'))})`],
    ['Send to receipt', `${times('delivery_ms')} ms`],
    ['Connect to joined', `${times('connect_ms')} ms`],
    ...(metrics.typing_delivered ? [['Typing seen', `${share('typing_delivered')}; ${times('typing_ms')} ms`]] : []),
    [
      'Wrong',
      `${count('duplicates')} duplicates, ${count('out_of_order')} out of order, ${count('bad_payloads')} changed, ${count('holes')} seqs skipped`,
    ],
    [
      'Connections',
      `${count('ws_sessions')} made, ${count('resumed')} of them to resume, ${count('dropped')} lost, ${count('connect_failed')} failed`,
    ],
    ['Answers', `${count('errors')} errors, ${count('resyncs')} resyncs`],
    ['Gave account', `${count('accounted')} clients`],
  ];
  const text = `
${title}, ${baseUrl}: ${crowd.join(', ')} in ${rooms.length} ${rooms.length === 1 ? 'room' : 'rooms'}, ${durationMs / 1_000} s

${lines.map(([what, words]) => `  ${what.padEnd(18)} ${words}`).join('\n')}

Verdict: ${verdict.toUpperCase()}${failed.map((threshold) => `\n  missed ${threshold}`).join('')}
`;
  const summary = { verdict, failed, plan: { ...plan, rooms: rooms.length }, ranMs: state.testRunDurationMs, metrics };
  return { stdout: text, [`${plan.resultsFolder}/summary.json`]: `${JSON.stringify(summary, undefined, 2)}\n` };
}

const thousands = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');

/** Cut, not rounded: only what is complete is 100 %. */
const percent = (part) => `${Math.floor(part * 1e6) / 1e4} %`;
