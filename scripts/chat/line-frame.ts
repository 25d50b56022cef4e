/** The rows of a terminal that a line takes while it is typed. Widths in cells, as the terminal counts them. */
import stringWidth from 'string-width';
import { plainText } from './text.js';

export interface LineFrame {
  readonly rows: readonly string[];
  readonly cursorRow: number;
  readonly cursorColumn: number;
}

const graphemes = new Intl.Segmenter();
const tab = '    ';

/**
 * Breaks `prompt + line` into rows that the terminal need not wrap.
 * @param cursor index into `line`
 * @param maxRows of the terminal that the frame may take: of a longer line it shows those around the cursor
 */
export function lineFrame(prompt: string, line: string, cursor: number, columns: number, maxRows: number): LineFrame {
  const text = prompt + line;
  const cursorAt = prompt.length + cursor;
  const rows: string[] = [];
  let row = '';
  let width = 0;
  let cursorRow: number | undefined;
  let cursorColumn = 0;
  const placeCursor = () => {
    cursorRow = rows.length;
    cursorColumn = width;
  };
  for (const { segment, index } of graphemes.segment(text)) {
    const shown = segment === '\t' ? tab : plainText(segment);
    const cells = Math.min(stringWidth(shown), columns);
    if (width + cells > columns) {
      rows.push(row);
      row = '';
      width = 0;
    }
    if (cursorRow === undefined && cursorAt < index + segment.length) placeCursor();
    row += shown;
    width += cells;
  }
  if (width >= columns) {
    rows.push(row);
    row = '';
    width = 0;
  }
  if (cursorRow === undefined) placeCursor();
  rows.push(row);
  const first = Math.min(Math.max(0, rows.length - maxRows), cursorRow ?? 0);
  return { rows: rows.slice(first, first + maxRows), cursorRow: (cursorRow ?? 0) - first, cursorColumn };
}
