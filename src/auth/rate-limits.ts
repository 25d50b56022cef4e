import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { Database } from '../database/database.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import type { Networks } from './caller.js';

/** How many within how many seconds, for each key. A network is an IPv4 address or 64 bits of IPv6. */
const rules = {
  /** Wrong passwords for one name from one network. */
  loginOfNameFromNetwork: { points: 10, duration: 900 },
  /** Wrong passwords for one name from one site of IPv6, 48 bits: so few that a site alone can't use up the limit over all. */
  loginOfNameFromSite: { points: 20, duration: 900 },
  /** Wrong passwords for one name from everywhere. Who is locked out by others' guessing keeps the sessions that he has. */
  loginOfName: { points: 100, duration: 3_600 },
  /** Wrong passwords for whatever names from one network. */
  loginFromNetwork: { points: 100, duration: 900 },
  /** Accounts, and attempts at names that are taken. A school may be one network. */
  registerFromNetwork: { points: 30, duration: 3_600 },
  refreshOfSession: { points: 60, duration: 60 },
  /** A node that goes away sends all its clients elsewhere, and many may be behind one address. */
  refreshFromNetwork: { points: 1_200, duration: 60 },
  /** Wrong current passwords, by the holder of a session. */
  passwordOfUser: { points: 10, duration: 900 },
} as const;

type RateLimit = keyof typeof rules;
type NetworkLimit = 'loginFromNetwork' | 'registerFromNetwork' | 'refreshFromNetwork';

/** How many times as much as one network may the sites around it: 56 and 48 bits of IPv6, or in the place of both 24 of IPv4. */
const looseness = { narrow: 4, wide: 16 } as const;

/** A limit that an attempt has to keep, and what it is counted for. */
export interface Counted {
  readonly limit: RateLimit;
  readonly key: string;
  /** Factor of the limit's points; 1 by default. */
  readonly times?: number;
}

/** A network and the sites around it, each with what it may; the narrower first, so that what it may not try does not count against the wider. */
export function fromNetworks(limit: NetworkLimit, { network, sites }: Networks): Counted[] {
  const wider = sites.map((key, n) => ({ limit, key, times: n === sites.length - 1 ? looseness.wide : looseness.narrow }));
  return [{ limit, key: network }, ...wider];
}

/** @returns ms for which the key is refused without a query; a method of the package's that its types don't have */
type Limiter = RateLimiterPostgres & { getInMemoryBlockMsBeforeExpire(key: string): number };

/** A key that was refused so often is refused without a query until its time has passed: a flood must not cost the database. */
const floodFactor = 2;

/**
 * How often what may be tried. Counted in the database, so that all nodes count together, and before the attempt: of any number at the same
 * moment no more pass than may. An attempt that turns out to be good is given back.
 */
@Injectable()
export class RateLimits {
  private readonly limiters = new Map<string, Limiter>();

  constructor(db: Database, @Inject(CONFIG) { RATE_LIMITS }: Config, @Inject(LOGGER) log: Logger) {
    if (RATE_LIMITS === 'off') {
      log.warn('rate limits are off: passwords may be guessed without end');
      return;
    }
    const limiter = (keyPrefix: string, points: number, duration: number) =>
      new RateLimiterPostgres({
        storeClient: db,
        storeType: 'client',
        tableName: 'rate_limits',
        tableCreated: true,
        clearExpiredByTimeout: false, // its timer could not be stopped; `Sweeper` does its work
        keyPrefix,
        points,
        duration,
        inMemoryBlockOnConsumed: floodFactor * points, // for as long as the count lasts, which is what clients are told
      }) as Limiter;
    for (const [limit, { points, duration }] of Object.entries(rules) as [RateLimit, (typeof rules)[RateLimit]][])
      for (const times of [1, ...Object.values(looseness)])
        this.limiters.set(nameOf({ limit, times }), limiter(nameOf({ limit, times }), times * points, duration));
  }

  /** Counts an attempt. @throws ClientError `rate_limited` where it is one too many, `unavailable` */
  async count(counted: Counted): Promise<void> {
    try {
      await this.limiters.get(nameOf(counted))?.consume(digest(counted.key));
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
  async guess<Result>(limits: readonly Counted[], work: () => Promise<Result>): Promise<Result> {
    this.refuseFlood(limits);
    const counted: Counted[] = [];
    let wasWrong = false;
    try {
      for (const each of limits) {
        await this.count(each);
        counted.push(each);
      }
      return await work();
    } catch (error) {
      wasWrong = error instanceof ClientError && !error.temporary;
      throw error;
    } finally {
      if (!wasWrong) await Promise.all(counted.map((each) => this.giveBack(each)));
    }
  }

  /**
   * Before anything is counted, which costs a query to be given back.
   * @throws ClientError `rate_limited` where one of them is known to be refused
   */
  refuseFlood(limits: readonly Counted[]): void {
    for (const counted of limits) {
      const limiter = this.limiters.get(nameOf(counted));
      const waitMs = limiter?.getInMemoryBlockMsBeforeExpire(limiter.getKey(digest(counted.key))) ?? 0;
      if (waitMs > 0) throw new ClientError('rate_limited', undefined, { retryAfterMs: waitMs });
    }
  }

  private async giveBack(counted: Counted): Promise<void> {
    // What can't be given back, because the database went away, comes back with time.
    await this.limiters
      .get(nameOf(counted))
      ?.reward(digest(counted.key))
      .catch(() => undefined);
  }
}

/** The key under which the table counts. */
export const rateLimitKey = (limit: RateLimit, key: string): string => `${limit}:${digest(key)}`;

const nameOf = ({ limit, times = 1 }: Pick<Counted, 'limit' | 'times'>): string => (times === 1 ? limit : `${limit}X${times}`);

/** The table need not say who tried to log in from where; and what was typed as a name may be of any length. */
const digest = (key: string): string => createHash('sha256').update(key).digest('base64url').slice(0, 22);
