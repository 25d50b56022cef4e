/**
 * The message writer: turns single sends into batches, because what is scarce in PostgreSQL is notifying transactions, not rows.
 *
 * Promises: every accepted send is settled, with its outcome after the commit or with an error; the sends of one room are stored and answered in
 * the order in which they were accepted; what waits is bounded, and above the bound a send is refused, not lost. Rooms are spread over lanes, and a
 * lane has one batch in flight: two batches that share a room could commit in either order.
 *
 * Whatever arrives while a batch is in flight is the next batch, and an idle node writes a lone message at once. As long as little waits, the lanes
 * share one batch: several small ones at a time would cost PostgreSQL several times as much, and wait for each other at the lock of NOTIFY. Who has
 * enough for a batch of its own goes beside it.
 *
 * When a batch fails, what PostgreSQL says decides (see `classify`): a refused batch is tried again in halves until the item that spoils it stands
 * alone; the rooms of a contended one are set aside, where each is tried alone, beside the lane's batches, so that a lock held by somebody else
 * stops its own room only; and where no answer came it may have been committed, so that only what carries a client_msg_id can be tried again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ClientError } from '../protocol/errors.js';
import { classify } from '../database/sql-error.js';
import type { NewMessage, Outcome } from './message.store.js';

const batchMaxMessages = 500;
const batchMaxBytes = 262_144;
/** As many messages as cost about as much as the batch that they are in: so many are worth one of their own, and fewer are not. */
const ownBatchMessages = 32;
/**
 * Where more than one waits when a shared batch is answered, more are coming: the next one waits for them, half as long as the last one took and
 * no longer than this.
 */
const gatherMaxMs = 4;
/** A shared batch that takes so long may be waiting for a room that somebody else has locked: lanes that are not in it share another one. */
const stuckAfterMs = 50;
/** How long a send may wait and be retried before its sender is told `unavailable`. */
const sendDeadlineMs = 10_000;
const retryFirstMs = 20;
const retryMaxMs = 1_000;
const overloadedRetryAfterMs = 250;

/** What became of a send: its outcome after the commit, or `overloaded` (nothing was stored), `unavailable` (unknown whether it was), `internal`. */
export type Settled = Outcome | { readonly status: 'failed'; readonly error: ClientError };

interface Pending {
  readonly message: NewMessage;
  readonly deadline: number;
  /** No answer came to a try of it, which may have been committed. */
  inDoubt: boolean;
  /** Why it is given up. It is answered after those that came before it in its room. */
  failure?: unknown;
  readonly settle: (settled: Settled) => void;
}

export interface Clock {
  /** In ms since any moment. */
  now(): number;
  delay(ms: number): Promise<unknown>;
  /** @returns what calls it off */
  after(ms: number, call: () => void): () => void;
}

/** Whatever is done to the system's clock, a wait is as long as it is. */
const realClock: Clock = {
  now: () => performance.now(),
  delay,
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

/** A batch whose outcomes are known. Durations are in ms. */
export interface StoredBatch {
  readonly messages: number;
  /** From the statement to its answer, which comes after the commit. */
  readonly roundTripMs: number;
  /** Of the message that waited longest: from its acceptance to the answer. */
  readonly longestMs: number;
  /** One that is in its room's log now; undefined where the batch stored none. */
  readonly sample: { readonly roomId: string; readonly seq: number } | undefined;
}

/** What became of a send of which one try had no answer: it was stored by a later try, or found stored; or refused; or its sender was told `unavailable`. */
export type DoubtEnd = 'stored' | 'found' | 'refused' | 'unknown';

export interface WriterOptions {
  readonly lanes: number;
  /** Messages that may wait on this node; their contents are bounded by 1 KiB times as many. */
  readonly queueMaxMessages: number;
  laneOf(roomId: string, lanes: number): number;
  /** Stores a batch: `appendMessages` on this node's database. */
  append(batch: readonly NewMessage[]): Promise<Outcome[]>;
  onBatchFailed(error: unknown, messages: number): void;
  onBatchStored(batch: StoredBatch): void;
  /** A send of which one try had no answer is settled. */
  onDoubtEnded(end: DoubtEnd): void;
  readonly clock?: Clock;
}

export class MessageWriter {
  private readonly lanes: Lane[];
  private readonly clock: Clock;
  private waiting = 0;
  private waitingBytes = 0;
  private starting = false;
  /** Of the batch that lanes share; undefined while none is in flight or gathered for, or the one that is takes too long. */
  private shared: symbol | undefined;
  /** No send waits for longer, whatever its own deadline. */
  private lastDeadline = Number.POSITIVE_INFINITY;
  private onDrained: (() => void)[] = [];

  constructor(private readonly options: WriterOptions) {
    this.clock = options.clock ?? realClock;
    this.lanes = Array.from({ length: options.lanes }, () => new Lane());
  }

  /**
   * Accepts a message for its room's next batch.
   * @param settle is told once, in the order of the sends of a room (but for `overloaded`, at once); it must not throw. A function and not a promise: a node
   *   that made several for each send took a sixth more CPU.
   */
  append(message: NewMessage, settle: (settled: Settled) => void): void {
    const bytes = sizeOf(message);
    if (this.waiting >= this.options.queueMaxMessages || this.waitingBytes + bytes > this.options.queueMaxMessages * 1_024) {
      return settle(failed(new ClientError('overloaded', undefined, { retryAfterMs: overloadedRetryAfterMs })));
    }
    this.waiting++;
    this.waitingBytes += bytes;
    this.laneOf(message.roomId).queue.push({
      message,
      deadline: this.clock.now() + sendDeadlineMs,
      inDoubt: false,
      settle: (settled) => {
        this.waiting--;
        this.waitingBytes -= bytes;
        settle(settled);
        if (this.waiting === 0) for (const drained of this.onDrained.splice(0)) drained();
      },
    });
    this.startSoon();
  }

  /** Messages that wait in each lane, without those in flight. */
  get queued(): readonly number[] {
    return this.lanes.map((lane) => lane.queued);
  }

  /** True while more waits than one full batch for each lane. */
  get isBackedUp(): boolean {
    return this.waiting > this.lanes.length * batchMaxMessages;
  }

  /** From `withinMs` on nothing waits any more: what could not be stored by then is answered with `unavailable`. */
  giveUpAfter(withinMs: number): void {
    this.lastDeadline = this.clock.now() + withinMs;
  }

  /** Resolves when everything accepted so far is settled. */
  async drain(): Promise<void> {
    if (this.waiting > 0) await new Promise<void>((drained) => this.onDrained.push(drained));
  }

  private laneOf(roomId: string): Lane {
    const lane = this.lanes[this.options.laneOf(roomId, this.lanes.length)];
    if (lane === undefined) throw new RangeError(`room ${roomId} has no lane`);
    return lane;
  }

  /** After one turn of the event loop, so that what other sockets have ready now is in the same batch. */
  private startSoon(): void {
    if (this.starting) return;
    this.starting = true;
    setImmediate(() => {
      this.starting = false;
      this.start();
    });
  }

  private start(): void {
    const small: Lane[] = [];
    for (const lane of this.lanes) {
      if (lane.inFlight) continue; // it may hold earlier ones of a room that will be set aside
      lane.divert();
      if (lane.queue.length >= ownBatchMessages) void this.run([lane]);
      else if (lane.queue.length > 0) small.push(lane);
    }
    if (small.length > 0 && this.shared === undefined) void this.share(small);
  }

  private async share(lanes: readonly Lane[]): Promise<void> {
    const shared = Symbol('a batch');
    const over = (): void => {
      if (this.shared === shared) this.shared = undefined;
      this.start();
    };
    this.shared = shared;
    const callOff = this.clock.after(stuckAfterMs, over);
    const sentAt = this.clock.now();
    await this.run(lanes);
    callOff();
    await this.gather(this.clock.now() - sentAt);
    over();
  }

  private async gather(roundTripMs: number): Promise<void> {
    const waitMs = Math.min(gatherMaxMs, Math.ceil(roundTripMs / 2));
    const count = this.lanes.reduce((sum, { inFlight, queue }) => sum + (inFlight ? 0 : queue.length), 0);
    if (waitMs > 0 && count > 1 && count < ownBatchMessages) await this.clock.delay(waitMs);
  }

  /** Stores one batch of what waits in lanes that have none in flight. */
  private async run(lanes: readonly Lane[]): Promise<void> {
    for (const lane of lanes) lane.inFlight = true;
    const contended = await this.store(takeOf(lanes));
    for (const pending of contended) listOf(this.laneOf(pending.message.roomId).aside, pending.message.roomId).push(pending);
    for (const lane of lanes) {
      lane.inFlight = false;
      if (lane.aside.size > 0 && !lane.isTryingAside) void this.tryAside(lane);
    }
    this.start();
  }

  /** Tries the rooms of a lane that are set aside, one at a time, in turn; a room goes back to the lane when nothing of it waits here. */
  private async tryAside(lane: Lane): Promise<void> {
    lane.isTryingAside = true;
    for (const [roomId, waiting] of lane.aside) {
      const contended = await this.store(take(waiting));
      waiting.unshift(...contended);
      if (contended.length > 0) await this.clock.delay(backoffMs(0)); // the try itself waited for the lock
      lane.aside.delete(roomId);
      if (waiting.length > 0) lane.aside.set(roomId, waiting); // at the end: the loop comes to it after the others
    }
    lane.isTryingAside = false;
  }

  /** Settles every item of the batch but those that it returns, in order: the ones that could not be stored now because of somebody's lock. */
  private async store(batch: readonly Pending[], attempt = 0): Promise<readonly Pending[]> {
    const now = this.clock.now();
    const live = batch.filter((pending) => {
      const isLate = now > Math.min(pending.deadline, this.lastDeadline);
      if (isLate) this.giveUp(pending);
      return !isLate;
    });
    const open = live.filter(({ failure }) => failure === undefined);
    let outcomes: Outcome[] = [];
    if (open.length > 0) {
      try {
        outcomes = await this.options.append(open.map(({ message }) => message));
      } catch (error) {
        this.options.onBatchFailed(error, open.length);
        return this.recover(live, error, attempt);
      }
      this.report(open, outcomes, now);
    }
    let n = 0;
    for (const pending of live) {
      const outcome = pending.failure === undefined ? outcomes[n++] : undefined;
      if (outcome === undefined) {
        this.giveUp(pending, pending.failure);
        continue;
      }
      if (pending.inDoubt) this.options.onDoubtEnded(doubtEnd(outcome));
      pending.settle(outcome);
    }
    return [];
  }

  private giveUp(pending: Pending, cause?: unknown): void {
    if (pending.inDoubt) this.options.onDoubtEnded('unknown');
    pending.settle(failed(unavailable(cause)));
  }

  private report(batch: readonly Pending[], outcomes: readonly Outcome[], sentAt: number): void {
    const now = this.clock.now();
    const acceptedAt = batch.reduce((first, { deadline }) => Math.min(first, deadline), Infinity) - sendDeadlineMs;
    const last = outcomes.findLastIndex(({ status }) => status === 'stored');
    const [message, outcome] = [batch[last]?.message, outcomes[last]];
    const sample = message && outcome?.status === 'stored' ? { roomId: message.roomId, seq: outcome.seq } : undefined;
    this.options.onBatchStored({ messages: batch.length, roundTripMs: now - sentAt, longestMs: now - acceptedAt, sample });
  }

  private async recover(batch: readonly Pending[], error: unknown, attempt: number): Promise<readonly Pending[]> {
    switch (classify(error)) {
      case 'refused': {
        const [only] = batch;
        if (only !== undefined && batch.length === 1) {
          if (only.inDoubt) this.options.onDoubtEnded('refused');
          only.settle(failed(new ClientError('internal', 'The database refused this message.', { cause: error })));
          return [];
        }
        const half = Math.ceil(batch.length / 2);
        const contended = await this.store(batch.slice(0, half));
        // The second half may be of the same rooms, and must not overtake the first.
        return contended.length > 0 ? [...contended, ...batch.slice(half)] : this.store(batch.slice(half));
      }
      case 'contended':
        return batch;
      case 'unavailable': {
        const waiting = new Set<string>();
        const again = batch.filter((pending) => {
          const { clientMsgId, roomId } = pending.message;
          pending.inDoubt = true;
          if (clientMsgId !== undefined) waiting.add(roomId);
          else pending.failure ??= error;
          if (!waiting.has(roomId)) this.giveUp(pending, error);
          return waiting.has(roomId);
        });
        await this.clock.delay(backoffMs(attempt));
        return this.store(again, attempt + 1);
      }
    }
  }
}

class Lane {
  queue: Pending[] = [];
  inFlight = false;
  /** Rooms that are left out of the lane's batches, each with its sends in order, until all of them are settled. */
  readonly aside = new Map<string, Pending[]>();
  isTryingAside = false;

  get queued(): number {
    let count = this.queue.length;
    for (const waiting of this.aside.values()) count += waiting.length;
    return count;
  }

  /** Moves what came for a room that is set aside behind what waits there. Not while a batch is in flight, which may hold earlier ones. */
  divert(): void {
    if (this.aside.size === 0) return;
    this.queue = this.queue.filter((pending) => {
      const waiting = this.aside.get(pending.message.roomId);
      waiting?.push(pending);
      return waiting === undefined;
    });
  }
}

/** Takes the next batch off the queues of lanes, from the one that has waited longest on. */
function takeOf(lanes: readonly Lane[]): Pending[] {
  const inTurn = lanes.toSorted((a, b) => (a.queue[0]?.deadline ?? 0) - (b.queue[0]?.deadline ?? 0));
  const batch: Pending[] = [];
  for (const { queue } of inTurn) batch.push(...take(queue, batch));
  return batch;
}

/**
 * Takes off a queue what fits into a batch that has some already: bounded, and ended before a second send with the same client_msg_id, which is to be
 * judged after the first.
 */
function take(queue: Pending[], taken: readonly Pending[] = []): Pending[] {
  const keys = new Set<string>();
  let bytes = taken.reduce((sum, { message }) => sum + sizeOf(message), 0);
  let count = 0;
  for (const { message } of queue) {
    if (taken.length + count === batchMaxMessages || (bytes > 0 && bytes + sizeOf(message) > batchMaxBytes)) break;
    if (message.clientMsgId !== undefined) {
      const key = `${message.clientMsgId}${message.userId}${message.roomId}`;
      if (keys.has(key)) break;
      keys.add(key);
    }
    bytes += sizeOf(message);
    count++;
  }
  return queue.splice(0, count);
}

function listOf(lists: Map<string, Pending[]>, roomId: string): Pending[] {
  const list = lists.get(roomId) ?? [];
  lists.set(roomId, list);
  return list;
}

const doubtEnd = ({ status }: Outcome): DoubtEnd => (status === 'stored' ? 'stored' : status === 'duplicate' ? 'found' : 'refused');

const failed = (error: ClientError): Settled => ({ status: 'failed', error });
const unavailable = (cause?: unknown): ClientError => new ClientError('unavailable', undefined, { retryAfterMs: retryMaxMs, cause });

/** UTF-16 units, and a fixed part for the ids: near enough for a bound. */
const sizeOf = (message: NewMessage): number => message.content.length + 100;

const backoffMs = (attempt: number): number => Math.min(retryMaxMs, retryFirstMs * 2 ** attempt) * (0.5 + Math.random() / 2);
