/**
 * Whether messages can be stored at all, for /health/ready: while none is, a write that stores nothing is tried every two seconds. It takes the
 * locks and needs the rights of a send, and its commit waits for what every commit waits for: the disk, a synchronous standby.
 *
 * Two tries in a row decide either way, so that a connection that was lost, or one commit that was slow, changes nothing.
 */
import { classify, NoAnswer, sqlState } from '../database/sql-error.js';

const intervalMs = 2_000;
/** After a try that says otherwise than the ones before. */
const againMs = 500;
/** A failed batch says so much longer that the database stores nothing. */
const failedForMs = 5_000;

export interface WriteWatchOptions {
  /** Tries to write; rejects as the writer's statements do. */
  tryToWrite(): Promise<void>;
  onBug(error: unknown): void;
}

export class WriteWatch {
  /** Why nothing can be stored now; undefined when it can. */
  problem: string | undefined;
  private before: boolean | undefined;
  private storedAt = Number.NEGATIVE_INFINITY;
  private fullAt = Number.NEGATIVE_INFINITY;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(private readonly options: WriteWatchOptions) {}

  start(): void {
    void this.look();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  /** A batch was stored: then nothing has to be tried. */
  noteStored(): void {
    this.storedAt = performance.now();
  }

  /** A batch failed. What only a batch can meet, a disk without room for more rows, is taken from it. */
  noteFailed(error: unknown): void {
    if (sqlState(error)?.startsWith('53') !== true) return;
    this.fullAt = performance.now();
    this.problem = reasonOf(error);
  }

  private async look(): Promise<void> {
    const now = performance.now();
    let reason: string | undefined;
    if (now - this.fullAt < failedForMs && this.storedAt < this.fullAt) reason = this.problem;
    else if (now - this.storedAt > intervalMs) reason = await this.attempt();
    const isWell = reason === undefined;
    const isSame = this.before === isWell || (this.before === undefined && isWell);
    if (isSame) this.problem = reason;
    this.before = isWell;
    if (!this.closed) this.timer = setTimeout(() => void this.look(), isSame ? intervalMs : againMs).unref();
  }

  private async attempt(): Promise<string | undefined> {
    try {
      await this.options.tryToWrite();
      return undefined;
    } catch (error) {
      if (classify(error) === 'internal') this.options.onBug(error);
      return reasonOf(error);
    }
  }
}

/** What a load balancer, and so perhaps everybody, may read: no names, and none of the server's words. */
function reasonOf(error: unknown): string {
  const state = sqlState(error);
  if (state === '25006') return 'the database is read-only: make room on its disk, or reset default_transaction_read_only';
  if (state === '42501') return 'the role of the node may not write: see npm run doctor';
  if (state === '55P03') return 'messages can’t be stored: their tables are locked';
  if (state?.startsWith('53') === true) return 'the database has no room: make room on its disk';
  if (error instanceof NoAnswer)
    return 'the database finishes no commit: a synchronous standby is gone, or its disk or the way to it is stuck';
  if (state === undefined) return 'no connection to the database for writing is to be had';
  return `messages can’t be stored (SQLSTATE ${state})`;
}
