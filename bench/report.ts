/** What the bench prints, and the file of `--json` that it can be compared with. */
import type { Machine } from './machine.js';
import { isReached, type Figure, type Goal, type SuiteResult } from './suite.js';

export interface MeasuredSuite extends SuiteResult {
  readonly name: string;
  readonly title: string;
}

/** The file of `--json`. */
export interface Bench {
  /** ISO 8601. */
  readonly at: string;
  /** As it was called, after `npm run bench -- `. */
  readonly arguments: string;
  readonly machine: Machine;
  readonly seconds: number;
  readonly warmUp: number;
  readonly contentChars: number;
  readonly suites: readonly MeasuredSuite[];
}

export const numberText = (value: number): string =>
  Number.isFinite(value)
    ? value.toLocaleString('en', Math.abs(value) >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 })
    : 'none';

export const goalText = (goal: Goal): string =>
  'atLeast' in goal ? `at least ${numberText(goal.atLeast)}` : `at most ${numberText(goal.atMost)}`;

const verdict = (goal: Goal, value: number): string => (isReached(goal, value) ? 'reached' : 'MISSED');

/** @param earlier figures of another run, by name */
export function suiteText({ name, title, figures, notes }: MeasuredSuite, earlier?: ReadonlyMap<string, number>): string {
  const nameWidth = Math.max(...figures.map((figure) => figure.name.length));
  const valueWidth = Math.max(...figures.map(({ value }) => numberText(value).length));
  const lines = figures.flatMap((figure) => {
    const { value, unit, goal, against = [] } = figure;
    const before = earlier?.get(figureKey(name, figure));
    const said = [
      ...(goal === undefined ? [] : [`goal: ${goalText(goal)}, ${verdict(goal, value)}`]),
      ...(before === undefined ? [] : [`${ratioText(value / before)} the earlier ${numberText(before)}`]),
    ];
    const line = `  ${figure.name.padEnd(nameWidth)}  ${numberText(value).padStart(valueWidth)} ${unit}${said.map((text) => `  ${text}`).join('')}`;
    const references = against.map(
      (reference) =>
        `  ${' '.repeat(nameWidth)}  ${ratioText(value / reference.value)} ${reference.name}, ${numberText(reference.value)} ${unit}${
          reference.goal === undefined ? '' : `  goal: ${goalText(reference.goal)} x, ${verdict(reference.goal, value / reference.value)}`
        }`,
    );
    return [line, ...references];
  });
  return [`${name}: ${title}`, ...lines, ...notes.map((note) => `    ${note}`)].join('\n');
}

export const ratioText = (ratio: number): string => `${numberText(ratio)} x`;

const figureKey = (suite: string, { name }: Pick<Figure, 'name'>): string => `${suite}: ${name}`;

/** Figures of a file of `--json`, as suiteText takes them. */
export const figuresByName = ({ suites }: Pick<Bench, 'suites'>): Map<string, number> =>
  new Map(suites.flatMap(({ name, figures }) => figures.map((figure) => [figureKey(name, figure), figure.value])));
