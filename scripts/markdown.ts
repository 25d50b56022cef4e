/** What scripts write into documents: tables, and texts between two markers. */

/** A table, its columns padded as the formatter pads them. The first row is the head. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [...cells.slice(0, 1), widths.map((width) => '-'.repeat(width)), ...cells.slice(1)].map(line).join('\n');
}

/** Puts a text between the two markers of that name: an HTML comment with the name, and one with a slash before it. @throws Error when one is missing. */
export function withSection(document: string, name: string, section: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`The document needs ${begin} and, below it, ${end}.`);
  return `${document.slice(0, from)}${begin}\n\n${section}\n\n${document.slice(to)}`;
}
