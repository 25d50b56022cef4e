/** A program in a pseudo-terminal, and the screen that a person would see. */
import { spawn, type IPty } from '@lydell/node-pty';
import xterm from '@xterm/headless';

export class TestTerminal {
  readonly exit: Promise<number>;
  private readonly screen: xterm.Terminal;
  private readonly process: IPty;

  constructor(args: readonly string[], env: Readonly<Record<string, string>>, cols: number, rows: number) {
    this.screen = new xterm.Terminal({ cols, rows, allowProposedApi: true, scrollback: 10_000 });
    this.process = spawn(process.execPath, [...args], { cols, rows, name: 'xterm-256color', env: { ...process.env, ...env } });
    this.process.onData((data) => this.screen.write(data));
    this.screen.onData((reply) => this.process.write(reply));
    this.exit = new Promise((ended) => this.process.onExit(({ exitCode }) => ended(exitCode)));
  }

  type(keys: string): void {
    this.process.write(keys);
  }

  resize(cols: number, rows: number): void {
    this.screen.resize(cols, rows);
    this.process.resize(cols, rows);
  }

  kill(): void {
    this.process.kill('SIGKILL');
  }

  /** All rows, with those that scrolled off; what the terminal wrapped is one line. */
  lines(): string[] {
    const { active } = this.screen.buffer;
    const lines: string[] = [];
    for (let at = 0; at < active.length; at++) {
      const row = active.getLine(at);
      if (row === undefined) continue;
      if (row.isWrapped && lines.length > 0) lines[lines.length - 1] += row.translateToString(true);
      else lines.push(row.translateToString(true));
    }
    return lines;
  }

  /** What stands from the last prompt on, its rows joined. */
  typed(prompt: string): string | undefined {
    const lines = this.lines();
    const first = lines.findLastIndex((line) => line.startsWith(prompt.trimEnd()));
    return first < 0 ? undefined : lines.slice(first).join('').slice(prompt.length).trimEnd();
  }

  /** The text left of the cursor in its row. */
  beforeCursor(): string {
    const { active } = this.screen.buffer;
    return active.getLine(active.baseY + active.cursorY)?.translateToString(false, 0, active.cursorX) ?? '';
  }
}
