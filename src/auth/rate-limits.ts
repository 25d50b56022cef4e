import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { Database } from '../database/database.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';

/** How many within how many seconds, for each key. */
const rules = {
  /** Wrong passwords for one name from one network. */
  loginOfNameFromNetwork: { points: 10, duration: 900 },
  /** Wrong passwords for one name from everywhere. Who is locked out by others' guessing keeps the sessions that he has. */
  loginOfName: { points: 100, duration: 3_600 },
  /** Wrong passwords for whatever names from one network. */
  loginFromNetwork: { points: 100, duration: 900 },
  /** Accounts, and attempts at names that are taken. A school may be one network. */
  registerFromNetwork: { points: 30, duration: 3_600 },
  refreshOfSession: { points: 60, duration: 60 },
  /** A node that goes away sends all its clients elsewhere, and many may be behind one address. */
  refreshFromNetwork: { points: 1_200, duration: 60 },
  /** Wrong current passwords, by whoever holds a session. */
  passwordOfUser: { points: 10, duration: 900 },
} as const;

type RateLimit = keyof typeof rules;

/** @returns ms for which the key is refused without a query; a method of the package's that its types don't have */
type Limiter = RateLimiterPostgres & { getInMemoryBlockMsBeforeExpire(key: string): number };

/** A key that is refused so often is refused without a query for so many seconds: a flood must not cost the database. */
const floodFactor = 2;
const floodPauseS = 10;

/**
 * How often what may be tried. Counted in the database, so that all nodes count together, and before the attempt: of any number at the same
 * moment no more pass than may. An attempt that turns out to be good is given back.
 */
@Injectable()
export class RateLimits {
  private readonly limiters: ReadonlyMap<RateLimit, Limiter>;

  constructor(db: Database, @Inject(CONFIG) { RATE_LIMITS }: Config, @Inject(LOGGER) log: Logger) {
    if (RATE_LIMITS === 'off') log.warn('rate limits are off: passwords may be guessed without end');
    const limiter = (keyPrefix: string, { points, duration }: { points: number; duration: number }) =>
      new RateLimiterPostgres({
        storeClient: db,
        storeType: 'client',
        tableName: 'rate_limits',
        tableCreated: true,
        clearExpiredByTimeout: false, // its timer could not be stopped; `Sweeper` does its work
        keyPrefix,
        points,
        duration,
        inMemoryBlockOnConsumed: floodFactor * points,
        inMemoryBlockDuration: floodPauseS,
      }) as Limiter;
    const entries = RATE_LIMITS === 'off' ? [] : (Object.entries(rules) as [RateLimit, (typeof rules)[RateLimit]][]);
    this.limiters = new Map(entries.map(([name, rule]) => [name, limiter(name, rule)]));
  }

  /** Counts an attempt. @throws ClientError `rate_limited` where it is one too many, `unavailable` */
  async count(limit: RateLimit, key: string): Promise<void> {
    try {
      await this.limiters.get(limit)?.consume(digest(key));
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error;
      throw new ClientError('rate_limited', undefined, { retryAfterMs: error.msBeforeNext });
    }
  }

  /**
   * Lets somebody try a secret: counts it for each of the limits, in their order, and gives it back unless the secret was tried and wrong: who is
   * refused by one limit does not use up the others.
   * @param work throws a ClientError that is not temporary where the secret was wrong
   * @throws ClientError `rate_limited`, `unavailable`; what `work` throws
   */
  async guess<Result>(limits: readonly (readonly [RateLimit, key: string])[], work: () => Promise<Result>): Promise<Result> {
    for (const [limit, key] of limits) this.refuseFlood(limit, key);
    const counted: (typeof limits)[number][] = [];
    let wasWrong = false;
    try {
      for (const each of limits) {
        await this.count(...each);
        counted.push(each);
      }
      return await work();
    } catch (error) {
      wasWrong = error instanceof ClientError && !error.temporary;
      throw error;
    } finally {
      if (!wasWrong) await Promise.all(counted.map(([limit, key]) => this.giveBack(limit, key)));
    }
  }

  /** Before anything is counted, which costs a query to be given back. */
  private refuseFlood(limit: RateLimit, key: string): void {
    const limiter = this.limiters.get(limit);
    const waitMs = limiter?.getInMemoryBlockMsBeforeExpire(limiter.getKey(digest(key))) ?? 0;
    if (waitMs > 0) throw new ClientError('rate_limited', undefined, { retryAfterMs: waitMs });
  }

  private async giveBack(limit: RateLimit, key: string): Promise<void> {
    // What can't be given back, because the database went away, comes back with time.
    await this.limiters
      .get(limit)
      ?.reward(digest(key))
      .catch(() => undefined);
  }
}

/** The key under which the table counts. */
export const rateLimitKey = (limit: RateLimit, key: string): string => `${limit}:${digest(key)}`;

/** The table need not say who tried to log in from where; and what was typed as a name may be of any length. */
const digest = (key: string): string => createHash('sha256').update(key).digest('base64url').slice(0, 22);
