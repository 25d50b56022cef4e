/**
 * Writes docs/asyncapi.yaml, and the tables of docs/protocol.md, each between its two markers, from src/protocol. Run it by
 * `npm run docs:protocol` after a change there; a test compares.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { asyncApiYaml } from '../src/docs/asyncapi.js';
import { closeCodes } from '../src/protocol/close-codes.js';
import { errorCodes } from '../src/protocol/errors.js';
import { roomEventKinds } from '../src/protocol/room-event.js';

const document = resolve(import.meta.dirname, '../docs/protocol.md');

const tables: Readonly<Record<string, readonly (readonly string[])[]>> = {
  'room events': [['Kind', 'What it says'], ...Object.entries(roomEventKinds).map(([kind, meaning]) => [`\`${kind}\``, meaning])],
  'error codes': [
    ['Code', 'Status', 'Temporary', 'What it says'],
    ...Object.entries(errorCodes).map(([code, { status, temporary, meaning }]) => [
      `\`${code}\``,
      String(status),
      temporary ? 'yes' : 'no',
      meaning,
    ]),
  ],
  'close codes': [
    ['Code', 'What it says'],
    ...Object.values(closeCodes)
      .toSorted((a, b) => a.code - b.code)
      .map(({ code, meaning }) => [String(code), meaning]),
  ],
};

/** A Markdown table, its columns padded as the formatter pads them. */
function markdown(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [...rows.slice(0, 1), widths.map((width) => '-'.repeat(width)), ...rows.slice(1)].map(line).join('\n');
}

/** @throws Error when the document has lost a marker. */
export function withProtocolTables(text: string): string {
  let result = text;
  for (const [name, rows] of Object.entries(tables)) {
    const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
    const [from, to] = [result.indexOf(begin), result.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`docs/protocol.md needs ${begin} and, below it, ${end}.`);
    result = `${result.slice(0, from)}${begin}\n\n${markdown(rows)}\n\n${result.slice(to)}`;
  }
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(document, withProtocolTables(await readFile(document, 'utf8')));
  await writeFile(resolve(import.meta.dirname, '../docs/asyncapi.yaml'), asyncApiYaml());
}
