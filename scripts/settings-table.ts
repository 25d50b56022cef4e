/**
 * Writes what is said of the settings elsewhere: .env.example, and the table in README.md between its two markers. Run it by
 * `npm run docs:settings` after a change in src/config.ts; a test compares.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { allowed, settings } from '../src/config.js';
import { markdownTable, withSection } from './markdown.js';

const root = resolve(import.meta.dirname, '..');

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

/** @throws Error when README.md has lost its markers. */
export function withSettingsTable(readme: string): string {
  const cells = rows.map(({ name, fallback, description, rule }) => [`\`${name}\``, fallback && `\`${fallback}\``, rule, description]);
  return withSection(readme, 'settings', markdownTable([['Setting', 'Default', 'Allowed', 'What it is'], ...cells]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const readme = join(root, 'README.md');
  await writeFile(readme, withSettingsTable(await readFile(readme, 'utf8')));
  await writeFile(join(root, '.env.example'), envExample());
}
