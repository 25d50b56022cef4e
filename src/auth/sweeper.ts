import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { Logger } from 'pino';
import { Database } from '../database/database.js';
import { logLevelOf } from '../database/sql-error.js';
import { LOGGER } from '../logger.js';
import { deleteForgottenNetworks } from './known-network.store.js';
import { deleteExpiredCounts } from './rate-limit.store.js';
import { deleteOldSessions } from './session.store.js';

/** On average: each time is drawn anew, so that the nodes don't sweep at the same moment. */
const intervalMs = 3_600_000;
const deletedAtOnce = 500;

/**
 * Takes away sessions that have been over for long, counts whose time has passed, and networks from which nobody came for long. A few at a time, so that no statement is long; nodes
 * that do it at once pass over each other's rows, so that none waits.
 */
@Injectable()
export class Sweeper implements OnApplicationBootstrap, OnApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  private closed = false;

  constructor(
    private readonly db: Database,
    @Inject(LOGGER) private readonly log: Logger,
  ) {}

  onApplicationBootstrap(): void {
    this.sweepLater();
  }

  /** Ends before the database does: shutdown hooks run in the order of dependence. */
  async onApplicationShutdown(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.sweeping;
  }

  /** Resolves when nothing old is left, or the node goes away. @throws ClientError `unavailable` */
  async sweep(): Promise<void> {
    for (const deleteOld of [deleteOldSessions, deleteExpiredCounts, deleteForgottenNetworks]) {
      let deleted = deletedAtOnce;
      while (deleted === deletedAtOnce && !this.closed) deleted = await deleteOld(this.db, deletedAtOnce);
    }
  }

  private sweepLater(): void {
    const inMs = 2 * Math.random() * intervalMs;
    this.timer = setTimeout(() => {
      this.sweeping = this.sweep()
        .catch((error: unknown) => this.log[logLevelOf(error)]({ err: error }, 'old sessions could not be taken away'))
        .finally(() => !this.closed && this.sweepLater());
    }, inMs);
  }
}
