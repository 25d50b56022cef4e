/**
 * The message writer: turns single sends into batches, because the scarce resource of PostgreSQL is notifying transactions, not rows.
 *
 * Promises: every accepted send is settled, with its outcome after the commit or with an error. The sends of one user to one room are stored and
 * answered in the order in which they were accepted. What waits is bounded: above the bound a send is refused, not lost, and a user whose share is
 * used up is refused before the node is full. Rooms are spread over lanes. Two batches that share a room are never in flight together: they could
 * commit in either order.
 *
 * Fairness: users take turns (`turns.ts`), so that the backlog of one user delays the send of another by about one batch. A lane has a second batch
 * in flight for two kinds of sends that would slow down the first: large ones, and the sends of a suspect, a user whose last sends were repeats or
 * refused. One repeat in a batch makes PostgreSQL store the batch in vain and judge each item. A send that repeats another one of its batch costs
 * no statement: the outcome of the first settles it.
 *
 * Whatever arrives while a batch is in flight is the next batch, and an idle node writes a lone message at once. As long as little waits, the lanes
 * share one batch: several small ones at a time would cost PostgreSQL several times as much, and wait for each other at the lock of NOTIFY. A lane
 * with at least 32 sends runs a batch of its own in parallel.
 *
 * When a batch fails, what PostgreSQL says decides (see `classify`): a refused batch is tried again in halves until the item that spoils it stands
 * alone; the rooms of a contended one are set aside, where each is tried alone, beside the lane's batches, so that a lock held by somebody else
 * stops its own room only; and where no answer came it may have been committed, so that only what carries a client_msg_id can be tried again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ClientError } from '../protocol/errors.js';
import { classify } from '../database/sql-error.js';
import type { NewMessage, Outcome } from './message.store.js';
import { linkRepeats, Turns, type Pending, type Verdict } from './turns.js';

const batchMaxMessages = 500;
const batchMaxBytes = 262_144;
/** A send of more goes by the lane's second batch, which has fewer bytes: it holds its rooms for as long as it takes. */
const largeBytes = 16_384;
const secondBatchMaxBytes = 65_536;
/** A send that had to wait for its room so many times has it next. */
const waitsMax = 3;
/** So long after a repeat or a refusal, the sends of its user go by the lane's second batch. */
const suspectMs = 10_000;
const suspectsMax = 10_000;
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
  /**
   * Stores a batch: `appendMessages` on this node's database.
   * @param retriesLikely the batch is of users whose last sends were repeats
   */
  append(batch: readonly NewMessage[], retriesLikely: boolean): Promise<Outcome[]>;
  onBatchFailed(error: unknown, messages: number): void;
  onBatchStored(batch: StoredBatch): void;
  /** A send of which one try had no answer is settled. */
  onDoubtEnded(end: DoubtEnd): void;
  readonly clock?: Clock;
}

/** What one user has waiting or in flight. */
interface Held {
  messages: number;
  bytes: number;
}

export class MessageWriter {
  private readonly lanes: Lane[];
  private readonly clock: Clock;
  private waiting = 0;
  private waitingBytes = 0;
  private readonly held = new Map<string, Held>();
  /** Until when each is one, by user; the one that became a suspect last is the last. */
  private readonly suspects = new Map<string, number>();
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
   * @param settle is told once, in the order of the sends of a user to a room (but for `overloaded`, at once); it must not throw. A function and not
   *   a promise: a node that made several for each send took a sixth more CPU.
   */
  append(message: NewMessage, settle: (settled: Settled) => void): void {
    const bytes = sizeOf(message);
    const held = this.hold(message.userId, bytes);
    if (held === undefined) {
      return settle(failed(new ClientError('overloaded', undefined, { retryAfterMs: overloadedRetryAfterMs })));
    }
    const pending: Pending = {
      message,
      bytes,
      deadline: this.clock.now() + sendDeadlineMs,
      inDoubt: false,
      failure: undefined,
      repeats: undefined,
      outcome: undefined,
      next: undefined,
      settle,
    };
    this.laneOf(message.roomId).push(pending, this.goesBeside(pending));
    this.startSoon();
  }

  /** Messages that wait in each lane, without those in flight. */
  get queued(): readonly number[] {
    return this.lanes.map((lane) => lane.queued);
  }

  /** True while more waits than one full batch for each lane, of each user no more counted than its share of a batch. */
  get isBackedUp(): boolean {
    return this.lanes.reduce((sum, { first }) => sum + first.fairCount, 0) > this.lanes.length * batchMaxMessages;
  }

  /** From `withinMs` on nothing waits any more: what could not be stored by then is answered with `unavailable`. */
  giveUpAfter(withinMs: number): void {
    this.lastDeadline = this.clock.now() + withinMs;
  }

  /** Resolves when everything accepted so far is settled. */
  async drain(): Promise<void> {
    if (this.waiting > 0) await new Promise<void>((drained) => this.onDrained.push(drained));
  }

  /**
   * A user may hold no more than what is left for all: alone, half of the node's bounds; where n users hold all they may, each has 1 / (n + 1) of them,
   * and as much is left for the next one.
   * @returns undefined where the send would exceed that
   */
  private hold(userId: string, bytes: number): Held | undefined {
    const { queueMaxMessages } = this.options;
    let held = this.held.get(userId);
    const heldMessages = held?.messages ?? 0;
    const heldBytes = held?.bytes ?? 0;
    const messagesLeft = queueMaxMessages - this.waiting;
    const bytesLeft = queueMaxMessages * 1_024 - this.waitingBytes;
    if (heldMessages >= messagesLeft || heldBytes + bytes > bytesLeft) return undefined;
    if (held === undefined) this.held.set(userId, (held = { messages: 0, bytes: 0 }));
    held.messages++;
    held.bytes += bytes;
    this.waiting++;
    this.waitingBytes += bytes;
    return held;
  }

  /** Before its sender is told, so that it finds the place free. */
  private release({ message: { userId }, bytes }: Pending): void {
    this.waiting--;
    this.waitingBytes -= bytes;
    const held = this.held.get(userId);
    if (held === undefined) return;
    held.bytes -= bytes;
    if (--held.messages === 0) this.held.delete(userId);
  }

  private settle(pending: Pending, settled: Settled): void {
    this.release(pending);
    pending.settle(settled);
    if (this.waiting === 0) for (const drained of this.onDrained.splice(0)) drained();
  }

  /** Whether it belongs into the lane's second batch. */
  private goesBeside({ bytes, message }: Pending): boolean {
    return bytes > largeBytes || this.isSuspect(message.userId);
  }

  private isSuspect(userId: string): boolean {
    const until = this.suspects.size === 0 ? undefined : this.suspects.get(userId);
    return until !== undefined && until > this.clock.now();
  }

  private suspect(userId: string): void {
    this.suspects.delete(userId);
    this.suspects.set(userId, this.clock.now() + suspectMs);
    if (this.suspects.size <= suspectsMax) return;
    for (const oldest of this.suspects.keys()) return void this.suspects.delete(oldest);
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
      if (lane.inFlight !== undefined || lane.first.count === 0) continue;
      if (lane.first.count >= ownBatchMessages) void this.run([lane], this.take([lane]));
      else small.push(lane);
    }
    if (small.length > 0 && this.shared === undefined) void this.share(small, this.take(small));
    for (const lane of this.lanes) if (lane.maySendSecond) void this.runSecond(lane);
  }

  private async share(lanes: readonly Lane[], batch: readonly Pending[]): Promise<void> {
    if (batch.length === 0) return;
    const shared = Symbol('a batch');
    const over = (): void => {
      if (this.shared === shared) this.shared = undefined;
      this.start();
    };
    this.shared = shared;
    const callOff = this.clock.after(stuckAfterMs, over);
    const sentAt = this.clock.now();
    await this.run(lanes, batch);
    callOff();
    await this.gather(this.clock.now() - sentAt);
    over();
  }

  private async gather(roundTripMs: number): Promise<void> {
    const waitMs = Math.min(gatherMaxMs, Math.ceil(roundTripMs / 2));
    const count = this.lanes.reduce((sum, { inFlight, first }) => sum + (inFlight === undefined ? first.count : 0), 0);
    if (waitMs > 0 && count > 1 && count < ownBatchMessages) await this.clock.delay(waitMs);
  }

  /** Takes the next first batch of lanes that have none in flight: empty where all that waits has to wait for second ones. */
  private take(lanes: readonly Lane[]): readonly Pending[] {
    let batch: readonly Pending[] = [];
    for (const lane of lanes.toSorted((a, b) => a.first.nextDeadline - b.first.nextDeadline)) {
      const rooms = lane.roomsOfSecond;
      const verdict = (pending: Pending): Verdict => {
        if (this.goesBeside(pending)) return 'move';
        const { roomId } = pending.message;
        return rooms?.has(roomId) === true || lane.owed.has(roomId) ? 'wait' : 'take';
      };
      batch = lane.first.take({ ...this.limits(batchMaxBytes), ...lane.rules(verdict, lane.second) }, batch);
      lane.hadFirst = true;
    }
    return batch;
  }

  private async run(lanes: readonly Lane[], batch: readonly Pending[]): Promise<void> {
    if (batch.length === 0) return;
    for (const lane of lanes) lane.inFlight = batch;
    this.setAside(await this.store(batch));
    for (const lane of lanes) {
      lane.inFlight = undefined;
      this.tryAsideOf(lane);
    }
    this.start();
  }

  /** Stores a batch of a lane's large sends and of suspects, in rooms that its first batch does not have. */
  private async runSecond(lane: Lane): Promise<void> {
    const rooms = new Set(lane.inFlight?.map(({ message }) => message.roomId));
    const firstCount = lane.first.count;
    lane.owed.clear();
    const batch = lane.second.take({
      ...this.limits(secondBatchMaxBytes),
      ...lane.rules((pending) => {
        if (!this.goesBeside(pending)) return 'move';
        return rooms.has(pending.message.roomId) ? 'wait' : 'take';
      }, lane.first),
      waited: ({ message: { roomId } }, count) => {
        if (count >= waitsMax) lane.owed.add(roomId);
      },
    });
    if (lane.first.count > firstCount) this.startSoon();
    if (batch.length === 0) return void (lane.hadFirst = false);
    lane.roomsOfSecond = new Set(batch.map(({ message }) => message.roomId));
    const areRetriesLikely = batch.some(({ message }) => this.isSuspect(message.userId));
    this.setAside(await this.store(batch, areRetriesLikely));
    lane.roomsOfSecond = undefined;
    lane.hadFirst = false;
    this.tryAsideOf(lane);
    this.start();
  }

  private limits(maxBytes: number): { maxMessages: number; maxBytes: number; isLate(pending: Pending): boolean } {
    const now = this.clock.now();
    return { maxMessages: batchMaxMessages, maxBytes, isLate: ({ deadline }) => now > Math.min(deadline, this.lastDeadline) };
  }

  private setAside(contended: readonly Pending[]): void {
    for (const pending of contended) this.laneOf(pending.message.roomId).setAside(pending);
  }

  private tryAsideOf(lane: Lane): void {
    if (lane.aside.size > 0 && !lane.isTryingAside) void this.tryAside(lane);
  }

  /** Tries the rooms of a lane that are set aside, one at a time, in turn; a room goes back to the lane when nothing of it waits here. */
  private async tryAside(lane: Lane): Promise<void> {
    lane.isTryingAside = true;
    for (const [roomId, waiting] of lane.aside) {
      const contended = await this.store(waiting.take(this.limits(batchMaxBytes)));
      waiting.putBack(contended);
      if (contended.length > 0) await this.clock.delay(backoffMs(0)); // the try itself waited for the lock
      lane.aside.delete(roomId);
      if (waiting.count > 0) lane.aside.set(roomId, waiting); // at the end: the loop comes to it after the others
    }
    lane.isTryingAside = false;
  }

  /** Settles every item of the batch but those that it returns, in order: the ones that could not be stored now because of somebody's lock. */
  private async store(batch: readonly Pending[], areRetriesLikely = false, attempt = 0): Promise<readonly Pending[]> {
    const now = this.clock.now();
    const live = batch.filter((pending) => {
      const isLate = now > Math.min(pending.deadline, this.lastDeadline);
      if (isLate) this.giveUp(pending);
      return !isLate;
    });
    if (live.length < batch.length) linkRepeats(live);
    const open = live.filter(({ failure, repeats }) => failure === undefined && repeats === undefined);
    let outcomes: Outcome[] = [];
    if (open.length > 0) {
      try {
        outcomes = await this.options.append(
          open.map(({ message }) => message),
          areRetriesLikely,
        );
      } catch (error) {
        this.options.onBatchFailed(error, open.length);
        return this.recover(live, error, areRetriesLikely, attempt);
      }
      this.report(open, outcomes, now);
    }
    let n = 0;
    for (const pending of live) {
      const outcome =
        pending.repeats !== undefined
          ? repeated(pending.repeats.outcome)
          : pending.failure === undefined
            ? (pending.outcome = outcomes[n++])
            : undefined;
      if (outcome === undefined) {
        this.giveUp(pending, pending.failure);
        continue;
      }
      if (outcome.status !== 'stored' && pending.repeats === undefined && !pending.inDoubt) this.suspect(pending.message.userId);
      if (pending.inDoubt) this.options.onDoubtEnded(doubtEnd(outcome));
      this.settle(pending, outcome);
    }
    return [];
  }

  private giveUp(pending: Pending, cause?: unknown): void {
    if (pending.inDoubt) this.options.onDoubtEnded('unknown');
    this.settle(pending, failed(unavailable(cause)));
  }

  private report(batch: readonly Pending[], outcomes: readonly Outcome[], sentAt: number): void {
    const now = this.clock.now();
    const acceptedAt = batch.reduce((first, { deadline }) => Math.min(first, deadline), Infinity) - sendDeadlineMs;
    const last = outcomes.findLastIndex(({ status }) => status === 'stored');
    const [message, outcome] = [batch[last]?.message, outcomes[last]];
    const sample = message && outcome?.status === 'stored' ? { roomId: message.roomId, seq: outcome.seq } : undefined;
    this.options.onBatchStored({ messages: batch.length, roundTripMs: now - sentAt, longestMs: now - acceptedAt, sample });
  }

  private async recover(
    batch: readonly Pending[],
    error: unknown,
    areRetriesLikely: boolean,
    attempt: number,
  ): Promise<readonly Pending[]> {
    switch (classify(error)) {
      case 'refused': {
        const [only] = batch;
        if (only !== undefined && batch.length === 1) {
          if (only.inDoubt) this.options.onDoubtEnded('refused');
          this.suspect(only.message.userId);
          this.settle(only, failed(new ClientError('internal', 'The database refused this message.', { cause: error })));
          return [];
        }
        const half = Math.ceil(batch.length / 2);
        const [first, second] = [batch.slice(0, half), batch.slice(half)];
        linkRepeats(first);
        linkRepeats(second);
        const contended = await this.store(first, areRetriesLikely);
        // The second half may be of the same rooms, and must not overtake the first.
        return contended.length > 0 ? [...contended, ...second] : this.store(second, areRetriesLikely);
      }
      case 'contended':
        return batch;
      case 'internal':
        for (const pending of batch) {
          if (pending.inDoubt) this.options.onDoubtEnded('unknown');
          this.settle(pending, failed(new ClientError('internal', undefined, { cause: error })));
        }
        return [];
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
        return this.store(again, areRetriesLikely, attempt + 1);
      }
    }
  }
}

class Lane {
  readonly first = new Turns();
  /** Users whose next send is a large one, and suspects: with all that they sent, so that their order stays. */
  readonly second = new Turns();
  /** Its first batch, which may be shared with other lanes. */
  inFlight: readonly Pending[] | undefined;
  /** Of its second batch in flight, and of nothing else. */
  roomsOfSecond: ReadonlySet<string> | undefined;
  /** A first batch was taken since the last second one ended: the second one must not have the same room again before that. */
  hadFirst = false;
  /** Rooms that the next second batch has before the first. */
  readonly owed = new Set<string>();
  /** Rooms that are left out of both batches, each with its sends, until all of them are settled. */
  readonly aside = new Map<string, Turns>();
  isTryingAside = false;

  get queued(): number {
    let count = this.first.count + this.second.count;
    for (const waiting of this.aside.values()) count += waiting.count;
    return count;
  }

  get maySendSecond(): boolean {
    return this.roomsOfSecond === undefined && this.second.count > 0 && (this.hadFirst || this.first.count === 0);
  }

  push(pending: Pending, goesBeside: boolean): void {
    const { userId } = pending.message;
    const isBeside = this.second.has(userId) || (goesBeside && !this.first.has(userId));
    (isBeside ? this.second : this.first).push(pending);
  }

  setAside(pending: Pending): void {
    const { roomId } = pending.message;
    const waiting = this.aside.get(roomId) ?? new Turns();
    this.aside.set(roomId, waiting);
    waiting.push(pending);
  }

  /** What is for a room set aside goes there: no batch of the lane has the room then. */
  rules(verdict: (pending: Pending) => Verdict, moveTo: Turns) {
    return {
      verdict: (pending: Pending): Verdict => (this.aside.has(pending.message.roomId) ? 'divert' : verdict(pending)),
      divert: (pending: Pending): void => this.setAside(pending),
      moveTo,
    };
  }
}

/** What the outcome of a send says of another one with the same client_msg_id and content. */
const repeated = (outcome: Settled | undefined): Outcome | undefined =>
  outcome?.status === 'stored' ? { ...outcome, status: 'duplicate' } : outcome?.status === 'failed' ? undefined : outcome;

const doubtEnd = ({ status }: Outcome): DoubtEnd => (status === 'stored' ? 'stored' : status === 'duplicate' ? 'found' : 'refused');

const failed = (error: ClientError): Settled => ({ status: 'failed', error });
const unavailable = (cause?: unknown): ClientError => new ClientError('unavailable', undefined, { retryAfterMs: retryMaxMs, cause });

/** UTF-16 units, and a fixed part for the ids: near enough for a bound. */
const sizeOf = (message: NewMessage): number => message.content.length + 100;

const backoffMs = (attempt: number): number => Math.min(retryMaxMs, retryFirstMs * 2 ** attempt) * (0.5 + Math.random() / 2);
