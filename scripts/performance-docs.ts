/**
 * Writes the tables of docs/performance.md, each between its two markers, and the chart beside it, from docs/performance.json: a file of
 * `npm run bench -- --json docs/performance.json`. Run it by `npm run docs:performance`; a test compares. What is said between the tables is written by hand.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machineLine } from '../bench/machine.js';
import { goalText, numberText, ratioText, type Bench, type MeasuredSuite } from '../bench/report.js';
import { isReached, type Figure, type Goal } from '../bench/suite.js';
import { markdownTable, withSection } from './markdown.js';
import { performanceChart } from './performance-chart.js';

const docs = resolve(import.meta.dirname, '../docs');

const valueText = ({ value, unit }: Pick<Figure, 'value' | 'unit'>): string => `${numberText(value)} ${unit}`;
const verdict = (goal: Goal | undefined, value: number): string =>
  goal === undefined ? '' : `${goalText(goal)}: ${isReached(goal, value) ? 'reached' : '**missed**'}`;

/** A row for each figure, and one for each that it is set against. */
const suiteTable = ({ figures }: MeasuredSuite): string =>
  markdownTable([
    ['figure', 'measured', 'goal'],
    ...figures.flatMap((figure) => [
      [figure.name, valueText(figure), verdict(figure.goal, figure.value)],
      ...(figure.against ?? []).map((reference) => [
        `– against ${reference.name}`,
        `${ratioText(figure.value / reference.value)} of ${valueText({ value: reference.value, unit: figure.unit })}`,
        verdict(reference.goal, figure.value / reference.value),
      ]),
    ]),
  ]);

const machineText = (bench: Bench): string =>
  [
    `${machineLine(bench.machine)}. PostgreSQL, the nodes and the load share these cores.`,
    `Measured ${bench.at.slice(0, 10)} by \`npm run bench -- ${bench.arguments}\`: each load for ${bench.seconds} s after ${bench.warmUp} s of warming up,`,
    `messages of ${bench.contentChars} characters. Nothing was lost, doubled or put out of order: a suite that finds that fails.`,
  ].join('\n');

/** @throws Error when the document has no place for a suite that was measured. */
export const withFigures = (text: string, bench: Bench): string =>
  bench.suites.reduce(
    (document, suite) => withSection(document, `suite ${suite.name}`, suiteTable(suite)),
    withSection(text, 'machine', machineText(bench)),
  );

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const bench = JSON.parse(await readFile(join(docs, 'performance.json'), 'utf8')) as Bench;
  const path = join(docs, 'performance.md');
  await writeFile(path, withFigures(await readFile(path, 'utf8'), bench));
  await writeFile(join(docs, 'performance.svg'), performanceChart(bench));
}
