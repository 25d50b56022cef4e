/** The chart of docs/performance.md: each figure that has a goal as a multiple of it, on a logarithmic axis; above 1 the goal is reached. */
import { machineLine } from '../bench/machine.js';
import { goalText, numberText, type Bench } from '../bench/report.js';
import { isReached, type Goal } from '../bench/suite.js';

const width = 1_160;
const labelWidth = 440;
const rowHeight = 22;
const top = 64;
const axis = { from: 0.25, to: 8 };
const ticks = [0.25, 0.5, 1, 2, 4, 8];

interface Bar {
  readonly label: string;
  /** How many times as good as the goal. */
  readonly times: number;
  readonly text: string;
  readonly isReached: boolean;
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

function bar(label: string, value: number, unit: string, goal: Goal): Bar {
  const ratio = 'atLeast' in goal ? value / goal.atLeast : goal.atMost / value;
  const times = Number.isNaN(ratio) ? 1 : ratio; // none of what there is to be none of
  return { label, times, text: `${numberText(value)} ${unit} (goal ${goalText(goal)})`, isReached: isReached(goal, value) };
}

const barsOf = ({ suites }: Bench): Bar[] =>
  suites.flatMap((suite) =>
    suite.figures.flatMap(({ name, value, unit, goal, against = [] }) => [
      ...(goal === undefined ? [] : [bar(`${suite.name}: ${name}`, value, unit, goal)]),
      ...against.flatMap((reference) =>
        reference.goal === undefined
          ? []
          : [bar(`${suite.name}: ${name} against ${reference.name}`, value / reference.value, '×', reference.goal)],
      ),
    ]),
  );

/** @returns an SVG that stands on a ground of its own, so that it can be read on a dark page as well */
export function performanceChart(bench: Bench): string {
  const bars = barsOf(bench);
  const bottom = top + bars.length * rowHeight;
  const x = (times: number): number => {
    const place = Math.log(Math.min(axis.to, Math.max(axis.from, times)) / axis.from) / Math.log(axis.to / axis.from);
    return Math.round(labelWidth + place * (width - labelWidth - 110));
  };
  const text = (at: { x: number; y: number; anchor?: string; colour?: string }, content: string): string =>
    `<text x="${at.x}" y="${at.y}" text-anchor="${at.anchor ?? 'start'}" fill="${at.colour ?? '#222'}">${escaped(content)}</text>`;
  const grid = ticks.map(
    (times) =>
      `<line x1="${x(times)}" x2="${x(times)}" y1="${top - 6}" y2="${bottom}" stroke="${times === 1 ? '#222' : '#ddd'}"/>${text({ x: x(times), y: top - 12, anchor: 'middle' }, `${times} ×`)}`,
  );
  const rows = bars.flatMap(({ label, times, text: said, isReached: reached }, n) => {
    const y = top + n * rowHeight;
    const [left, right] = [Math.min(x(1), x(times)), Math.max(x(1), x(times))];
    return [
      text({ x: labelWidth - 10, y: y + 15, anchor: 'end' }, label),
      `<rect x="${left}" y="${y + 4}" width="${Math.max(2, right - left)}" height="${rowHeight - 8}" fill="${reached ? '#2f7d4f' : '#c0562f'}"><title>${escaped(said)}</title></rect>`,
      text({ x: right + 6, y: y + 15, colour: '#666' }, said),
    ];
  });
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${bottom + 32}" viewBox="0 0 ${width} ${bottom + 32}" font-family="system-ui, sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" rx="6" fill="#fff"/>`,
    `<g font-size="14">${text({ x: 16, y: 24 }, 'Each figure as a multiple of its goal: right of 1 × it is reached')}</g>`,
    ...grid,
    ...rows,
    text({ x: 16, y: bottom + 20, colour: '#666' }, `${machineLine(bench.machine)}; ${bench.at.slice(0, 10)}`),
    '</svg>',
  ].join('\n')}\n`;
}
