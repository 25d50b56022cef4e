import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { Logger } from 'pino';
import { BatchedReads } from '../database/batched-reads.js';
import { Database } from '../database/database.js';
import { logLevelOf } from '../database/sql-error.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import { areSessionsLive, findOver, isSessionLive, touchSessions, type SessionKey } from './session.store.js';

const noteIntervalMs = 60_000;
/** Sessions whose use waits to be noted; above it, it goes unnoted until their next use. */
const unnotedMax = 50_000;

/**
 * Sessions as they run: which are over, and which are in use.
 *
 * Promises that no use of a session costs a write: uses are gathered, and noted once a minute in one statement. What can't be noted because
 * the database is away is not noted.
 */
@Injectable()
export class Sessions implements OnApplicationBootstrap, OnApplicationShutdown {
  /** One at a time: it shares its connections with what the bus and the watch ask every second. */
  private readonly proofs: BatchedReads<SessionKey, boolean>;
  private readonly used = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private writing: Promise<void> | undefined;

  constructor(
    private readonly db: Database,
    @Inject(LOGGER) private readonly log: Logger,
  ) {
    this.proofs = new BatchedReads({ ask: (keys) => areSessionsLive(db.watch, keys), questionsMax: 1_000, readsMax: 1, apartMs: 20 });
  }

  /** As `isLive`; questions of many sockets are asked in one statement. @throws ClientError `unavailable`, `overloaded` */
  prove(session: SessionKey): Promise<boolean> {
    return this.proofs.ask(session);
  }

  /** Never as of before the call. @throws ClientError `unavailable` */
  isLive(userId: string, sessionId: string): Promise<boolean> {
    return isSessionLive(this.db, userId, sessionId);
  }

  /** Those of the sessions that are over, or were never there; asked in one statement. @throws ClientError `unavailable` */
  async overAmong(sessionIds: readonly string[]): Promise<ReadonlySet<string>> {
    return new Set(await findOver(this.db.watch, sessionIds));
  }

  /** The session was used just now. */
  noteUse(sessionId: string): void {
    if (this.used.size < unnotedMax) this.used.add(sessionId);
  }

  /** Writes down which sessions were used since the last time. */
  async writeUses(): Promise<void> {
    if (this.used.size === 0) return;
    const used = [...this.used];
    this.used.clear();
    await touchSessions(this.db, used);
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => {
      this.writing ??= this.writeUses()
        .catch((error: unknown) => this.log[logLevelOf(error)]({ err: error }, 'the use of sessions could not be noted'))
        .finally(() => (this.writing = undefined));
    }, noteIntervalMs);
  }

  /** Ends before the database does: shutdown hooks run in the order of dependence. */
  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.writing;
  }
}

export const sessionEnded = (): ClientError => new ClientError('unauthenticated', 'The session was ended: log in again.');
