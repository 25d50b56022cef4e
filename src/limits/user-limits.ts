/**
 * What one user may store: messages a second and bytes an hour, and rooms, joins, other changes of rooms and members, and invitations an hour.
 *
 * Each limit is a bucket that is full at first and is refilled at its rate. It is counted on the node, in memory: a user of n nodes has n times as
 * much, and no send costs a query. A refusal says how long to wait: after that the next attempt passes, unless others of the same user came first.
 * Nothing that was accepted is taken back. No timers: what is full again is forgotten when users have come in numbers.
 */
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';

const hourMs = 3_600_000;
/** Users that may be held before those with full buckets are looked for. */
const sweepFrom = 1_000;

/** GCRA (ITU-T I.371): of a bucket no more is kept than the moment at which it is full again. */
interface Rule {
  readonly msEach: number;
  readonly burst: number;
}

export type HourlyLimit = 'rooms' | 'joins' | 'changes' | 'invites';
type Limit = HourlyLimit | 'messages' | 'bytes';
type Buckets = Record<Limit, number>;

@Injectable()
export class UserLimits {
  private readonly rules: Readonly<Record<Limit, Rule>> | undefined;
  private readonly users = new Map<string, Buckets>();
  private sweepAt = sweepFrom;
  /** In ms since any moment; a test holds it. */
  now: () => number = () => performance.now();

  constructor(@Inject(CONFIG) config: Config) {
    const hourly = (burst: number): Rule => ({ msEach: hourMs / burst, burst });
    this.rules =
      config.RATE_LIMITS === 'off'
        ? undefined
        : {
            messages: { msEach: 1_000 / config.USER_MESSAGES_PER_S, burst: config.USER_MESSAGES_BURST },
            bytes: hourly(config.USER_BYTES_PER_HOUR),
            rooms: hourly(config.USER_ROOMS_PER_HOUR),
            joins: hourly(config.USER_JOINS_PER_HOUR),
            changes: hourly(config.USER_CHANGES_PER_HOUR),
            invites: hourly(config.USER_INVITES_PER_HOUR),
          };
  }

  /** Counts a message. @returns `rate_limited`, with nothing counted, where it is one too many */
  message(userId: string, content: string): ClientError | undefined {
    const { rules } = this;
    if (rules === undefined) return undefined;
    const now = this.now();
    const buckets = this.bucketsOf(userId, now);
    const messages = Math.max(buckets.messages, now) + rules.messages.msEach;
    const bytes = Math.max(buckets.bytes, now) + rules.bytes.msEach * Buffer.byteLength(content);
    const waitMs = Math.max(waitOf(rules.messages, messages, now), waitOf(rules.bytes, bytes, now));
    if (waitMs > 0) return rateLimited(waitMs);
    buckets.messages = messages;
    buckets.bytes = bytes;
    return undefined;
  }

  /**
   * Does what counts against a limit. It is counted before, so that of any number at the same moment no more pass than may, and given back where it
   * changed nothing for sure: it is refused, or its result is `already`.
   * @throws ClientError `rate_limited`; what `work` throws
   */
  async count<Result>(limit: HourlyLimit, userId: string, work: () => Promise<Result>): Promise<Result> {
    const rule = this.rules?.[limit];
    if (rule === undefined) return work();
    const now = this.now();
    const buckets = this.bucketsOf(userId, now);
    const fullAt = Math.max(buckets[limit], now) + rule.msEach;
    const waitMs = waitOf(rule, fullAt, now);
    if (waitMs > 0) throw rateLimited(waitMs);
    buckets[limit] = fullAt;
    const giveBack = (): number => (this.bucketsOf(userId, this.now())[limit] -= rule.msEach);
    try {
      const result = await work();
      if (result === 'already') giveBack();
      return result;
    } catch (error) {
      if (error instanceof ClientError && !error.temporary) giveBack();
      throw error;
    }
  }

  private bucketsOf(userId: string, now: number): Buckets {
    let buckets = this.users.get(userId);
    if (buckets === undefined) {
      if (this.users.size >= this.sweepAt) this.sweep(now);
      buckets = { messages: 0, bytes: 0, rooms: 0, joins: 0, changes: 0, invites: 0 };
      this.users.set(userId, buckets);
    }
    return buckets;
  }

  /** Costs each new user no more than a look at two others. */
  private sweep(now: number): void {
    for (const [userId, buckets] of this.users) {
      if (Object.values(buckets).every((fullAt) => fullAt <= now)) this.users.delete(userId);
    }
    this.sweepAt = Math.max(sweepFrom, 2 * this.users.size);
  }
}

/** Sums of fractions are not exact: whoever waits as long as it was told must pass. */
const toleranceMs = 0.01;
const waitOf = ({ msEach, burst }: Rule, fullAt: number, now: number): number => Math.ceil(fullAt - msEach * burst - now - toleranceMs);

const rateLimited = (retryAfterMs: number): ClientError => new ClientError('rate_limited', undefined, { retryAfterMs });
