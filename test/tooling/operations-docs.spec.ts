import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { loadConfig, settings } from '../../src/config.js';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFile(resolve(root, path), 'utf8');
const text = await read('docs/operations.md');
const all = (pattern: RegExp) => [...text.matchAll(pattern)].map(([, found = '']) => found);

it('docs/operations.md names scripts, commands and files that exist', async () => {
  const { scripts } = JSON.parse(await read('package.json')) as { scripts: Record<string, string> };
  expect(all(/npm run ([a-z:]+)/g).filter((name) => scripts[name] === undefined)).toEqual([]);
  expect(all(/node (?:--\S+ )?dist\/([a-z]+)\.js/g).filter((name) => !existsSync(resolve(root, `src/${name}.ts`)))).toEqual([]);
  const paths = all(/`((?:src|test|docs|nginx|migrations)\/[\w./-]*|[\w-]+\.md)`/g);
  expect(paths.length).toBeGreaterThan(5);
  expect(paths.filter((path) => !existsSync(resolve(root, path)))).toEqual([]);
});

it('docs/operations.md names settings that exist', () => {
  const names = all(/`([A-Z]+(?:_[A-Z]+)+)`/g);
  expect(names.length).toBeGreaterThan(5);
  expect(names.filter((name) => !(name in settings))).toEqual([]);
});

it('the limits of a user in docs/operations.md and docs/protocol.md are the defaults of the settings', async () => {
  const number = (words = ''): number => Number(words.replace(/,|\D+$/g, '')) * (words.endsWith('MiB') ? 1_048_576 : 1);
  const rows = [
    ...text.matchAll(/^\| [^|]+ \| ([\d,]+(?: MiB)?) +\| (?:(\d+) a second|as many an hour) +\| `(USER_\w+)`(?:, `(USER_\w+)`)? +\|$/gm),
  ];
  const numbers = rows.flatMap(([, atOnce, perSecond, first = '', second]) =>
    second === undefined
      ? [[first, number(atOnce)]]
      : [
          [first, number(atOnce)],
          [second, number(perSecond)],
        ],
  );
  const defaults = Object.entries(loadConfig({})).filter(([name]) => name.startsWith('USER_'));
  expect(Object.fromEntries(numbers)).toEqual(Object.fromEntries(defaults));
  const [, said = ''] = /`rate_limited`: (.*)$/m.exec(await read('docs/protocol.md')) ?? [];
  const inProtocol = [...said.matchAll(/([\d,]+(?: MiB)?) (?:messages|a second|of contents|rooms and|invitations|rooms,|changes)/g)];
  const sorted = (values: readonly unknown[]) => values.map(Number).toSorted((a, b) => a - b);
  expect(sorted(inProtocol.map(([, value]) => number(value)))).toEqual(sorted(defaults.map(([, value]) => value)));
});

it('the limits in docs/operations.md are those of the code', async () => {
  const [, table = ''] = /<!-- limits of a node -->([^]*)<!-- \/limits of a node -->/.exec(text) ?? [];
  const rows = [...table.matchAll(/\| ([\d_]+) +\| `([^`]+)` `(\w+)`/g)];
  expect(rows).toHaveLength(table.trim().split('\n').length - 2);
  for (const [, value, file = '', name] of rows) expect(await read(file)).toContain(`const ${name} = ${value};`);
});

it('the rate limits in docs/operations.md are those of the code', async () => {
  const source = await read('src/auth/rate-limits.ts');
  const [, table = ''] = /<!-- rate limits -->([^]*)<!-- \/rate limits -->/.exec(text) ?? [];
  const rules = (matches: Iterable<RegExpExecArray>) => Object.fromEntries([...matches].map(([, name = '', ...rule]) => [name, rule]));
  const inCode = rules(source.matchAll(/^ {2}(\w+): \{ points: ([\d_]+), duration: ([\d_]+) \}/gm));
  expect(rules(table.matchAll(/\| `(\w+)` +\| ([\d_]+) +\| ([\d_]+) /g))).toEqual(inCode);
  expect(Object.keys(inCode).length).toBeGreaterThan(5);
});
