/**
 * What can be done in a room by a member: for now, to send. Knows nothing of sockets or of the bus; a message that was stored here
 * comes back to this node as it comes to every other, from PostgreSQL.
 */
import { Inject, Injectable, type BeforeApplicationShutdown } from '@nestjs/common';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { BatchedReads } from '../database/batched-reads.js';
import { Database } from '../database/database.js';
import { LOGGER } from '../logger.js';
import { ClientError, type ErrorCode } from '../protocol/errors.js';
import { findMemberships, type Membership, type MembershipKey } from '../rooms/room.store.js';
import { appendMessages, laneOf, type NewMessage, type Outcome } from './message.store.js';
import { MessageWriter, type DoubtEnd, type StoredBatch } from './message-writer.js';

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
  sending<T>(send: Send, accept: () => T): T;
  /** Calls `store`, one try at storing a batch, and passes on what comes of it. The messages are the objects that `sending` was given. */
  storing(batch: readonly Send[], store: () => Promise<Outcome[]>): Promise<Outcome[]>;
}

@Injectable()
export class ChatService implements BeforeApplicationShutdown {
  readonly counters: SendCounters = {
    stored: 0,
    duplicate: 0,
    refused: {},
    failedBatches: 0,
    inDoubt: { stored: 0, found: 0, refused: 0, unknown: 0 },
  };
  private readonly writer: MessageWriter;
  private readonly memberships: BatchedReads<MembershipKey, Membership | undefined>;
  private observe: ((batch: StoredBatch) => void) | undefined;
  private tracer: SendTracer | undefined;

  constructor(db: Database, @Inject(CONFIG) config: Config, @Inject(LOGGER) log: Logger) {
    this.writer = new MessageWriter({
      lanes: config.WRITER_LANES,
      queueMaxMessages: config.WRITER_QUEUE_MESSAGES,
      laneOf,
      append: (batch) => this.tracer?.storing(batch, () => appendMessages(db, batch)) ?? appendMessages(db, batch),
      onBatchFailed: (error, messages) => {
        this.counters.failedBatches++;
        log.warn({ err: error, messages }, 'a batch of messages failed and is tried again or refused');
      },
      onBatchStored: (batch) => this.observe?.(batch),
      onDoubtEnded: (end) => this.counters.inDoubt[end]++,
    });
    this.memberships = new BatchedReads({ ask: (keys) => findMemberships(db, keys), questionsMax: 1_000, readsMax: 2 });
  }

  /** Who is told of each batch that was stored, before its senders are. */
  attachObserver(observe: (batch: StoredBatch) => void): void {
    this.observe = observe;
  }

  attachTracer(tracer: SendTracer): void {
    this.tracer = tracer;
  }

  /** Messages that wait in each lane of the writer. */
  get queued(): readonly number[] {
    return this.writer.queued;
  }

  /**
   * Stores a message; resolves after the commit. Sends to one room take effect in the order of the calls.
   * @throws ClientError room_not_found, not_a_member, conflict, overloaded, unavailable
   */
  async send(send: Send): Promise<Stored> {
    try {
      const stored = storedOf(await (this.tracer?.sending(send, () => this.writer.append(send)) ?? this.writer.append(send)));
      this.counters[stored.duplicate ? 'duplicate' : 'stored']++;
      return stored;
    } catch (error) {
      const code = error instanceof ClientError ? error.code : 'internal';
      this.counters.refused[code] = (this.counters.refused[code] ?? 0) + 1;
      throw error;
    }
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

  beforeApplicationShutdown(): Promise<void> {
    return this.drain();
  }
}

/** @throws ClientError where nothing was stored */
function storedOf(outcome: Outcome): Stored {
  switch (outcome.status) {
    case 'stored':
    case 'duplicate':
      return {
        id: outcome.id,
        seq: outcome.seq,
        createdAt: new Date(outcome.at).toISOString(),
        duplicate: outcome.status === 'duplicate',
      };
    case 'conflict':
      throw new ClientError('conflict', `client_msg_id: was used before, for seq ${outcome.seq}, with another content.`);
    case 'not_a_member':
      throw new ClientError('not_a_member');
    case 'no_such_room':
      throw new ClientError('room_not_found');
  }
}
