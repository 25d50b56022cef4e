/** Where lines come from and where text goes: a terminal, or pipes. */
import { createInterface, clearScreenDown, cursorTo, moveCursor, type Interface } from 'node:readline';
import { Writable } from 'node:stream';

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

/** A line at the foot of the terminal to type in; all else stands above it. */
export class LinePrompt implements Prompt {
  private lines: Interface | undefined;
  /** Rows of the terminal that the line under the cursor had when it was entered. */
  private enteredRows = 0;

  constructor(private readonly prompt: string) {}

  askPassword(question: string): Promise<string | undefined> {
    process.stdout.write(question);
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const asking = createInterface({ input: process.stdin, output: nowhere, terminal: true });
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
    const lines = createInterface({ input, output, prompt: this.prompt });
    this.lines = lines;
    // Before readline has the key, and moves on to the next row.
    input.prependListener('keypress', (_text, key: { name?: string } | undefined) => {
      if (key?.name === 'return') this.enteredRows = lines.getCursorPos().rows + 1;
    });
    lines.on('line', (line) => {
      // What was typed is shown when the room has it, in the place that the room gives it.
      moveCursor(output, 0, -this.enteredRows);
      clearScreenDown(output);
      lines.prompt();
      void take(line);
    });
    lines.on('SIGINT', () => lines.close());
    lines.on('close', () => end(false));
    lines.prompt();
  }

  show(text: string): void {
    const { stdout: output } = process;
    if (this.lines === undefined) return void output.write(`${text}\n`);
    moveCursor(output, 0, -this.lines.getCursorPos().rows);
    cursorTo(output, 0);
    clearScreenDown(output);
    output.write(`${text}\n`);
    this.lines.prompt(true);
  }

  aside(text: string): void {
    this.show(dim(text));
  }

  notice(text: string): void {
    this.show(dim(text));
  }

  close(): void {
    this.lines?.removeAllListeners('close');
    this.lines?.close();
    clearScreenDown(process.stdout);
  }
}

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
