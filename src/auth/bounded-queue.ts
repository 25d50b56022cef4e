import pLimit from 'p-limit';
import { ClientError } from '../protocol/errors.js';

export interface QueueLimits {
  /** Pieces of work that run at the same time. */
  atOnce: number;
  /** Pieces that may wait for that. */
  waitingMax: number;
  /** What a refused client is told to wait. */
  retryAfterMs: number;
}

/** Runs work a few pieces at a time, in the order given; what would make the queue too long is refused with ClientError `overloaded`. */
export function boundedQueue({ atOnce, waitingMax, retryAfterMs }: QueueLimits): <Result>(work: () => Promise<Result>) => Promise<Result> {
  const limit = pLimit(atOnce);
  return async (work) => {
    const full = limit.activeCount + limit.pendingCount >= atOnce + waitingMax;
    if (full) throw new ClientError('overloaded', undefined, { retryAfterMs });
    return limit(work);
  };
}
