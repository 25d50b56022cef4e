/**
 * Writes what is said of the settings elsewhere: .env.example, and the table in README.md between its two markers. Run it by
 * `npm run docs:settings` after a change in src/config.ts; a test compares.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { allowed, settings } from '../src/config.js';

const root = resolve(import.meta.dirname, '..');
const begin = '<!-- settings -->';
const end = '<!-- /settings -->';

const rows = Object.entries(settings).map(([name, schema]) => {
  const { default: fallback, description } = schema as { default?: unknown; description?: string };
  const rule = allowed(schema)
    .replace(/^must (be |have )?/, '')
    .replace('not be empty', 'not empty');
  return { name, fallback: String(fallback), description: description ?? '', rule };
});

/** Every setting, commented out at its default. */
export function envExample(): string {
  const head =
    '# Every setting of Trunkline with its default. It reads the environment, not this file: `node --env-file=.env dist/main.js`.\n';
  return [
    head,
    ...rows.map(({ name, fallback, description, rule }) => `# ${description}\n# Allowed: ${rule}\n# ${name}=${fallback}\n`),
  ].join('\n');
}

/** A Markdown table, its columns padded as the formatter pads them. */
function settingsTable(): string {
  const cells = [
    ['Setting', 'Default', 'Allowed', 'What it is'],
    ...rows.map(({ name, fallback, description, rule }) => [`\`${name}\``, fallback === '' ? '' : `\`${fallback}\``, rule, description]),
  ].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const dashes = widths.map((width) => '-'.repeat(width));
  return [...cells.slice(0, 1), dashes, ...cells.slice(1)].map(line).join('\n');
}

/** @throws Error when README.md has lost its markers. */
export function withSettingsTable(readme: string): string {
  const [before, after] = [readme.indexOf(begin), readme.indexOf(end)];
  if (before < 0 || after < before) throw new Error(`README.md needs ${begin} and, below it, ${end}.`);
  return `${readme.slice(0, before)}${begin}\n\n${settingsTable()}\n\n${readme.slice(after)}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const readme = join(root, 'README.md');
  await writeFile(readme, withSettingsTable(await readFile(readme, 'utf8')));
  await writeFile(join(root, '.env.example'), envExample());
}
