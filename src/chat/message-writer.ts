/**
 * The message writer: turns single sends into batches, because what is scarce in PostgreSQL is notifying transactions, not rows.
 *
 * Promises: every accepted send is settled, with its outcome after the commit or with an error; the sends of one room are stored and answered in
 * the order in which they were accepted; what waits is bounded, and above the bound a send is refused, not lost. A lane has one batch in flight:
 * two batches that share a room could commit in either order. There is no timer: whatever arrives while a batch is in flight is the next batch, and an
 * idle lane writes a lone message at once.
 *
 * When a batch fails, what PostgreSQL says decides (see `classify`): a refused batch is tried again in halves until the item that spoils it stands
 * alone; a contended one room by room, so that a lock held by somebody else stops its own room only; and where no answer came it may have been
 * committed, so that only what carries a client_msg_id can be tried again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ClientError } from '../protocol/errors.js';
import { classify } from '../database/sql-error.js';
import type { NewMessage, Outcome } from './message.store.js';

const batchMaxMessages = 500;
const batchMaxBytes = 262_144;
/** How long a send may wait and be retried before its sender is told `unavailable`. */
const sendDeadlineMs = 10_000;
const retryFirstMs = 20;
const retryMaxMs = 1_000;
const overloadedRetryAfterMs = 250;

interface Pending {
  readonly message: NewMessage;
  readonly deadline: number;
  settle(outcome: Outcome): void;
  fail(error: unknown): void;
}

export interface WriterOptions {
  readonly lanes: number;
  /** Messages that may wait on this node; their contents are bounded by 1 KiB times as many. */
  readonly queueMaxMessages: number;
  laneOf(roomId: string, lanes: number): number;
  /** Stores a batch: `appendMessages` on this node's database. */
  append(batch: readonly NewMessage[]): Promise<Outcome[]>;
  onBatchFailed(error: unknown, messages: number): void;
}

export class MessageWriter {
  private readonly lanes: Lane[];
  private waiting = 0;
  private waitingBytes = 0;

  constructor(private readonly options: WriterOptions) {
    this.lanes = Array.from({ length: options.lanes }, () => new Lane(options, (batch) => this.release(batch)));
  }

  /**
   * Accepts a message for its room's next batch.
   * @returns its outcome, after the commit
   * @throws ClientError overloaded (nothing was stored), unavailable (unknown whether it was), internal
   */
  append(message: NewMessage): Promise<Outcome> {
    const bytes = sizeOf(message);
    if (this.waiting >= this.options.queueMaxMessages || this.waitingBytes + bytes > this.options.queueMaxMessages * 1_024) {
      return Promise.reject(new ClientError('overloaded', undefined, { retryAfterMs: overloadedRetryAfterMs }));
    }
    this.waiting++;
    this.waitingBytes += bytes;
    return new Promise((settle, fail) => {
      const lane = this.lanes[this.options.laneOf(message.roomId, this.lanes.length)];
      lane?.push({ message, deadline: Date.now() + sendDeadlineMs, settle, fail });
    });
  }

  /** Resolves when everything accepted so far is settled. */
  async drain(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.idle()));
  }

  private release(batch: readonly Pending[]): void {
    this.waiting -= batch.length;
    for (const { message } of batch) this.waitingBytes -= sizeOf(message);
  }
}

class Lane {
  private queue: Pending[] = [];
  private running: Promise<void> | undefined;

  constructor(
    private readonly options: WriterOptions,
    private readonly release: (batch: readonly Pending[]) => void,
  ) {}

  push(pending: Pending): void {
    this.queue.push(pending);
    this.running ??= this.run();
  }

  async idle(): Promise<void> {
    while (this.running !== undefined) await this.running;
  }

  private async run(): Promise<void> {
    // One turn of the event loop, so that what other sockets have ready now is in the same batch.
    await new Promise((turn) => setImmediate(turn));
    while (this.queue.length > 0) {
      const batch = this.take();
      await this.store(batch);
      this.release(batch);
    }
    this.running = undefined;
  }

  /** The next batch: bounded, and ended before a second send with the same client_msg_id, which is to be judged after the first. */
  private take(): Pending[] {
    const keys = new Set<string>();
    let bytes = 0;
    let count = 0;
    for (const { message } of this.queue) {
      if (count === batchMaxMessages || (bytes > 0 && bytes + sizeOf(message) > batchMaxBytes)) break;
      if (message.clientMsgId !== undefined) {
        const key = `${message.clientMsgId}${message.userId}${message.roomId}`;
        if (keys.has(key)) break;
        keys.add(key);
      }
      bytes += sizeOf(message);
      count++;
    }
    return this.queue.splice(0, count);
  }

  /** Settles every item of the batch, whatever happens. */
  private async store(batch: readonly Pending[], attempt = 0): Promise<void> {
    const now = Date.now();
    for (const pending of batch) if (now > pending.deadline) pending.fail(new ClientError('unavailable', undefined, { retryAfterMs: retryMaxMs }));
    const live = batch.filter(({ deadline }) => now <= deadline);
    if (live.length === 0) return;
    let outcomes: Outcome[];
    try {
      outcomes = await this.options.append(live.map(({ message }) => message));
    } catch (error) {
      this.options.onBatchFailed(error, live.length);
      return this.recover(live, error, attempt);
    }
    for (const [n, outcome] of outcomes.entries()) live[n]?.settle(outcome);
  }

  private async recover(batch: readonly Pending[], error: unknown, attempt: number): Promise<void> {
    switch (classify(error)) {
      case 'refused': {
        if (batch.length === 1) return batch[0]?.fail(new ClientError('internal', 'The database refused this message.', { cause: error }));
        const half = Math.ceil(batch.length / 2);
        await this.store(batch.slice(0, half));
        return this.store(batch.slice(half));
      }
      case 'contended': {
        const rooms = [...new Set(batch.map(({ message }) => message.roomId))];
        if (rooms.length > 1) {
          for (const room of rooms) await this.store(batch.filter(({ message }) => message.roomId === room));
          return;
        }
        await delay(backoffMs(attempt));
        return this.store(batch, attempt + 1);
      }
      case 'unavailable': {
        for (const { message, fail } of batch) if (message.clientMsgId === undefined) fail(new ClientError('unavailable', undefined, { retryAfterMs: retryMaxMs, cause: error }));
        await delay(backoffMs(attempt));
        return this.store(
          batch.filter(({ message }) => message.clientMsgId !== undefined),
          attempt + 1,
        );
      }
    }
  }
}

/** UTF-16 units, and a fixed part for the ids: near enough for a bound. */
const sizeOf = (message: NewMessage): number => message.content.length + 100;

const backoffMs = (attempt: number): number => Math.min(retryMaxMs, retryFirstMs * 2 ** attempt) * (0.5 + Math.random() / 2);
