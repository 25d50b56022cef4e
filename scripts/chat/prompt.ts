/** Where lines come from and where text goes: a terminal, or pipes. */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { lineFrame } from './line-frame.js';

export interface Prompt {
  /** @returns undefined where nobody can be asked */
  askPassword(question: string): Promise<string | undefined>;
  /**
   * @param take a line that was typed; the next one is read when it resolves
   * @param end called when no more lines come; `isFinal` when that is the end of what there is, and not somebody who wants to go
   */
  start(take: (line: string) => Promise<void>, end: (isFinal: boolean) => void): void;
  /** What was said in the room. */
  show(text: string): void;
  /** What happened in the room. */
  aside(text: string): void;
  /** From this program, not from the room. */
  notice(text: string): void;
  close(): void;
}

const dim = (text: string): string => (process.env['NO_COLOR'] ? text : `\x1b[2m${text}\x1b[22m`);

/**
 * A line at the foot of the terminal to type in; all else stands above it.
 *
 * Readline edits the line and draws nothing. The line is drawn here, in rows of our own with the
 * terminal's wrapping off, so that the number of rows to erase before a message is always known.
 */
export class LinePrompt implements Prompt {
  private lines: Interface | undefined;
  /** Rows between the first row of the drawn line and the cursor. */
  private rowsAbove = 0;
  private redraw: NodeJS.Immediate | undefined;

  constructor(private readonly prompt: string) {}

  askPassword(question: string): Promise<string | undefined> {
    process.stdout.write(question);
    const asking = createInterface({ input: process.stdin, output: nowhere(), terminal: true });
    return new Promise((answered) => {
      const answer = (password?: string) => {
        asking.removeAllListeners('close');
        asking.close();
        process.stdout.write('\n');
        answered(password);
      };
      asking.on('close', () => answer());
      asking.on('SIGINT', () => process.exit(130));
      asking.question('', answer);
    });
  }

  start(take: (line: string) => Promise<void>, end: (isFinal: boolean) => void): void {
    const { stdin: input, stdout: output } = process;
    const lines = createInterface({ input, output: nowhere(), terminal: true, tabSize: 4 });
    this.lines = lines;
    // During a paste readline unsets it, and then appends the characters wherever the cursor is.
    Object.defineProperty(lines, 'isCompletionEnabled', { get: () => true, set() {} });
    // After readline has the key. A paste is many keys, and drawn once.
    input.on('keypress', (_text, key: { name?: string; ctrl?: boolean } | undefined) => {
      if (key?.ctrl === true && key.name === 'l') this.write('\x1b[H\x1b[2J');
      this.redraw ??= setImmediate(() => this.write(''));
    });
    output.on('resize', () => this.write(''));
    // What was typed is shown when the room has it, in the place that the room gives it.
    lines.on('line', (line) => void take(line));
    lines.on('SIGINT', () => lines.close());
    lines.on('SIGCONT', () => {
      this.rowsAbove = 0;
      this.write('');
    });
    lines.on('close', () => end(false));
    this.write('');
  }

  show(text: string): void {
    this.write(`${text}\n`);
  }

  aside(text: string): void {
    this.show(dim(text));
  }

  notice(text: string): void {
    this.show(dim(text));
  }

  close(): void {
    const { lines } = this;
    if (lines === undefined) return;
    lines.removeAllListeners('close');
    lines.close();
    this.lines = undefined;
    clearImmediate(this.redraw);
    process.stdout.write(this.erased());
  }

  /** Writes above the line, and draws the line anew. */
  private write(above: string): void {
    const { stdout: output } = process;
    if (this.lines === undefined) return void output.write(above);
    clearImmediate(this.redraw);
    this.redraw = undefined;
    const { line, cursor } = this.lines;
    const erased = this.erased();
    const frame = lineFrame(this.prompt, line, cursor, output.columns || 80, Math.max(1, (output.rows || 24) - 1));
    this.rowsAbove = frame.cursorRow;
    const up = frame.rows.length - 1 - frame.cursorRow;
    // Where the terminal counts a character as wider than we do, the row is cut and not wrapped.
    const drawn = `\x1b[?7l${frame.rows.join('\r\n')}\x1b[?7h`;
    output.write(erased + above + drawn + rows(up) + `\r${frame.cursorColumn > 0 ? `\x1b[${frame.cursorColumn}C` : ''}`);
  }

  /**
   * The sequence that erases the drawn line. After the terminal was made narrower, it may have
   * wrapped what was drawn to more rows; then a rest of the line stays, but no message is erased.
   */
  private erased(): string {
    return `${rows(this.rowsAbove)}\r\x1b[J`;
  }
}

const rows = (up: number): string => (up > 0 ? `\x1b[${up}A` : '');
const nowhere = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() });

/** Lines from a pipe or a file; the room on standard output, notices on standard error. */
export class Pipe implements Prompt {
  private lines: Interface | undefined;

  askPassword(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  start(take: (line: string) => Promise<void>, end: (isFinal: boolean) => void): void {
    const lines = createInterface({ input: process.stdin, terminal: false });
    this.lines = lines;
    void (async () => {
      for await (const line of lines) await take(line);
      end(true);
    })();
  }

  show(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  aside(text: string): void {
    this.show(text);
  }

  notice(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  close(): void {
    this.lines?.close();
    process.stdin.destroy();
  }
}
