import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Bench } from '../../bench/report.js';
import { performanceChart } from '../../scripts/performance-chart.js';
import { withFigures } from '../../scripts/performance-docs.js';

const read = (name: string) => readFile(resolve(import.meta.dirname, '../../docs', name), 'utf8');
const bench = JSON.parse(await read('performance.json')) as Bench;

it('docs/performance.md and its chart are as docs/performance.json says (npm run docs:performance)', async () => {
  const text = await read('performance.md');
  expect(withFigures(text, bench)).toBe(text);
  expect(await read('performance.svg')).toBe(performanceChart(bench));
});

it('a missed goal is called missed, and drawn left of the line', () => {
  const figure = (value: number) => ({ name: 'f', value, unit: 'ms', goal: { atMost: 10 } });
  const of = (value: number): Bench => ({
    ...bench,
    suites: [{ name: 's', title: '', figures: [figure(value)], failures: [], notes: [] }],
  });
  const document = '<!-- machine --><!-- /machine --><!-- suite s --><!-- /suite s -->';
  expect(withFigures(document, of(20))).toContain('**missed**');
  expect(withFigures(document, of(5))).not.toContain('missed');
  const left = (value: number) => Number(/<rect x="(\d+)"/.exec(performanceChart(of(value)))?.[1]);
  expect(left(20)).toBeLessThan(left(5));
});
