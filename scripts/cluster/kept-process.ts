/**
 * A process that is started again when it ends, as `restart: unless-stopped` of compose does it: after 100 ms, twice as long each time, up to a
 * minute; who ran for ten seconds begins anew. It leads a process group of its own: a Ctrl-C at the terminal doesn't reach it, and what it leaves
 * behind when it is killed (Nginx its workers, who would keep the port) goes with it.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const firstDelayMs = 100;
const longestDelayMs = 60_000;
const steadyAfterMs = 10_000;

export class KeptProcess {
  private child: ChildProcess | undefined;
  private isWanted = false;
  private delayMs = firstDelayMs;
  private timer: NodeJS.Timeout | undefined;
  /** How it ended the last time. */
  private end: string | undefined;

  /**
   * @param spawnIt must be detached, with its output in pipes
   * @param print takes each line that it writes
   */
  constructor(
    readonly name: string,
    private readonly spawnIt: () => ChildProcess,
    private readonly print: (line: string) => void,
  ) {}

  /** Undefined while it doesn't run. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** How it ended since it was started by `start`. */
  get lastEnd(): string | undefined {
    return this.end;
  }

  start(): void {
    this.isWanted = true;
    this.end = undefined;
    this.delayMs = firstDelayMs;
    this.run();
  }

  /** Ends it for good, in the orderly way or, after the deadline, in the other. */
  async stop(deadlineMs: number): Promise<void> {
    this.isWanted = false;
    clearTimeout(this.timer);
    const { child } = this;
    if (child === undefined) return;
    const ended = once(child, 'close');
    child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), deadlineMs);
    await ended;
    clearTimeout(timer);
  }

  /** At once, with all its children. */
  kill(): void {
    killGroup(this.child);
  }

  private run(): void {
    const child = this.spawnIt();
    this.child = child;
    const startedAt = Date.now();
    for (const stream of [child.stdout, child.stderr]) if (stream) createInterface({ input: stream }).on('line', this.print);
    child.on('error', (error) => this.print(error.message));
    child.on('exit', () => killGroup(child));
    child.on('close', (code, signal) => {
      this.child = undefined;
      this.end = `ended with ${signal ?? `exit code ${code}`}`;
      if (!this.isWanted) return;
      if (Date.now() - startedAt > steadyAfterMs) this.delayMs = firstDelayMs;
      this.print(`${this.end}; it starts again in ${this.delayMs} ms`);
      this.timer = setTimeout(() => this.run(), this.delayMs);
      this.delayMs = Math.min(longestDelayMs, this.delayMs * 2);
    });
  }
}

function killGroup(leader: ChildProcess | undefined): void {
  try {
    if (leader?.pid !== undefined) process.kill(-leader.pid, 'SIGKILL');
  } catch {
    // nobody is left
  }
}
