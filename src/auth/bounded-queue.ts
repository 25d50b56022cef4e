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

export interface BoundedQueue {
  /** Runs work a few pieces at a time, in the order given. @throws ClientError `overloaded` where the queue is full */
  readonly run: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** For who would have to do something in vain before. @throws ClientError `overloaded` where the queue is full */
  readonly refuseWhenFull: () => void;
}

export function boundedQueue({ atOnce, waitingMax, retryAfterMs }: QueueLimits): BoundedQueue {
  const limit = pLimit(atOnce);
  const refuseWhenFull = (): void => {
    const full = limit.activeCount + limit.pendingCount >= atOnce + waitingMax;
    if (full) throw new ClientError('overloaded', undefined, { retryAfterMs });
  };
  return {
    refuseWhenFull,
    async run(work) {
      refuseWhenFull();
      return limit(work);
    },
  };
}
