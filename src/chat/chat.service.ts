/**
 * What can be done in a room by a member: for now, to send. Knows nothing of sockets or of the bus; a message that was stored here
 * comes back to this node as it comes to every other, from PostgreSQL.
 */
import { Inject, Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { BatchedReads } from '../database/batched-reads.js';
import { Database } from '../database/database.js';
import { classify } from '../database/sql-error.js';
import { UserLimits } from '../limits/user-limits.js';
import { LOGGER, seldom } from '../logger.js';
import { ClientError, type ErrorCode } from '../protocol/errors.js';
import { findMemberships, type Membership, type MembershipKey } from '../rooms/room.store.js';
import { appendMessages, laneOf, probeWrites, type NewMessage, type Outcome } from './message.store.js';
import { MessageWriter, type DoubtEnd, type Settled, type StoredBatch } from './message-writer.js';
import { WriteWatch } from './write-watch.js';

export type Send = NewMessage;

export interface Stored {
  readonly id: number;
  readonly seq: number;
  /** ISO 8601, milliseconds, UTC. */
  readonly createdAt: string;
  /** True when an earlier send with the same client_msg_id was found; then id, seq and createdAt are the earlier one's. */
  readonly duplicate: boolean;
}

/** What became of the sends of this node, since it was started. */
export interface SendCounters {
  stored: number;
  duplicate: number;
  refused: Partial<Record<ErrorCode, number>>;
  /** Statements that failed; their messages were tried again or refused. */
  failedBatches: number;
  /** Sends of which one try had no answer, by what became of them. */
  inDoubt: Record<DoubtEnd, number>;
}

/** Follows messages from the requests that they came by into the batches that they are stored in. */
export interface SendTracer {
  /** Calls `accept`, by which a message leaves its request for what serves many. */
  sending(send: Send, accept: () => void): void;
  /** Calls `store`, one try at storing a batch, and passes on what comes of it. The messages are the objects that `sending` was given. */
  storing(batch: readonly Send[], store: () => Promise<Outcome[]>): Promise<Outcome[]>;
}

@Injectable()
export class ChatService implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly counters: SendCounters = {
    stored: 0,
    duplicate: 0,
    refused: {},
    failedBatches: 0,
    inDoubt: { stored: 0, found: 0, refused: 0, unknown: 0 },
  };
  private readonly writer: MessageWriter;
  private readonly writes: WriteWatch;
  private readonly memberships: BatchedReads<MembershipKey, Membership | undefined>;
  private observe: ((batch: StoredBatch) => void) | undefined;
  private tracer: SendTracer | undefined;

  constructor(
    db: Database,
    private readonly limits: UserLimits,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) log: Logger,
  ) {
    this.writes = new WriteWatch({
      tryToWrite: () => probeWrites(db),
      onBug: seldom((error) => log.error({ err: error }, 'whether messages can be stored could not be tried')),
    });
    this.writer = new MessageWriter({
      lanes: config.WRITER_LANES,
      queueMaxMessages: config.WRITER_QUEUE_MESSAGES,
      laneOf,
      append: (batch, retriesLikely) => {
        const store = () => appendMessages(db, batch, retriesLikely);
        return this.tracer?.storing(batch, store) ?? store();
      },
      onBatchFailed: (error, messages) => {
        this.counters.failedBatches++;
        this.writes.noteFailed(error);
        const isBug = classify(error) === 'internal';
        log[isBug ? 'error' : 'warn'](
          { err: error, messages },
          `a batch of messages failed ${isBug ? 'by a bug' : 'and is tried again or refused'}`,
        );
      },
      onBatchStored: (batch) => {
        if (batch.sample !== undefined) this.writes.noteStored();
        this.observe?.(batch);
      },
      onDoubtEnded: (end) => this.counters.inDoubt[end]++,
    });
    // Thousands who come ask one by one: a read for each few of them takes twice the CPU, here and in PostgreSQL.
    this.memberships = new BatchedReads({ ask: (keys) => findMemberships(db, keys), questionsMax: 1_000, readsMax: 2, apartMs: 20 });
  }

  /** Who is told of each batch that was stored, before its senders are. */
  attachObserver(observe: (batch: StoredBatch) => void): void {
    this.observe = observe;
  }

  attachTracer(tracer: SendTracer): void {
    this.tracer = tracer;
  }

  /** Why no message can be stored now; undefined when one can. */
  get problem(): string | undefined {
    return this.writes.problem;
  }

  /** Messages that wait in each lane of the writer. */
  get queued(): readonly number[] {
    return this.writer.queued;
  }

  /**
   * Stores a message. Sends to one room take effect in the order of the calls.
   * @param settle is told once, for a room in that order, what was stored, after the commit, or why nothing was: room_not_found, not_a_member,
   *   conflict, unavailable; at once, without regard to the order: rate_limited, overloaded. It must not throw.
   */
  submit(send: Send, settle: (result: Stored | ClientError) => void): void {
    const answer = (result: Stored | ClientError): void => {
      if (result instanceof ClientError) this.counters.refused[result.code] = (this.counters.refused[result.code] ?? 0) + 1;
      else this.counters[result.duplicate ? 'duplicate' : 'stored']++;
      settle(result);
    };
    const refusal = this.limits.message(send.userId, send.content);
    if (refusal !== undefined) return answer(refusal);
    const settled = (outcome: Settled): void => answer(resultOf(outcome));
    if (this.tracer === undefined) this.writer.append(send, settled);
    else this.tracer.sending(send, () => this.writer.append(send, settled));
  }

  /**
   * As `submit`; resolves after the commit.
   * @throws ClientError
   */
  send(send: Send): Promise<Stored> {
    return new Promise((stored, refused) => {
      this.submit(send, (result) => (result instanceof ClientError ? refused(result) : stored(result)));
    });
  }

  /**
   * What the user may read of a room, as of now: never as of before the call.
   * @throws ClientError not_a_member (also where there is no such room), unavailable
   */
  async membership(roomId: string, userId: string): Promise<Membership> {
    const membership = await this.memberships.ask({ roomId, userId });
    if (membership === undefined) throw new ClientError('not_a_member');
    return membership;
  }

  /** True while more waits than the batches in flight took: what may give way to messages should. */
  get isBusy(): boolean {
    return this.writer.isBackedUp;
  }

  /** The node goes away: a send that can't be stored within so many ms is answered with `unavailable`. */
  giveUpAfter(withinMs: number): void {
    this.writer.giveUpAfter(withinMs);
  }

  /** Resolves when every send accepted so far has its answer. */
  drain(): Promise<void> {
    return this.writer.drain();
  }

  onApplicationBootstrap(): void {
    this.writes.start();
  }

  beforeApplicationShutdown(): Promise<void> {
    this.writes.close();
    return this.drain();
  }
}

function resultOf(outcome: Settled): Stored | ClientError {
  switch (outcome.status) {
    case 'stored':
    case 'duplicate':
      return { id: outcome.id, seq: outcome.seq, createdAt: isoTime(outcome.at), duplicate: outcome.status === 'duplicate' };
    case 'conflict':
      return new ClientError('conflict', `client_msg_id: was used before, for seq ${outcome.seq}, with another content.`);
    case 'not_a_member':
      return new ClientError('not_a_member');
    case 'no_such_room':
      return new ClientError('room_not_found');
    case 'failed':
      return outcome.error;
  }
}

let written = { at: Number.NaN, text: '' };

/** What a batch stored has one time, which is written out once. */
function isoTime(at: number): string {
  if (written.at !== at) written = { at, text: new Date(at).toISOString() };
  return written.text;
}
