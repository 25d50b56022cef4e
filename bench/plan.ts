/** What bench.ts and its load generator say to each other. */
import type { DialectName } from './dialect.js';
import type { Scenario } from './scenarios.js';

export interface Person {
  readonly token: string;
  readonly roomId: string;
  readonly nodeUrl: string;
}

/** Somebody who comes online. */
export interface Newcomer {
  readonly token: string;
  readonly roomIds: readonly string[];
  readonly nodeUrl: string;
}

export interface Plan {
  readonly dialect: DialectName;
  readonly scenario: Scenario;
  readonly senders: readonly Person[];
  readonly receivers: readonly Person[];
  readonly newcomers: readonly Newcomer[];
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly contentChars: number;
}

export type ToLoad =
  | { readonly kind: 'run'; readonly plan: Plan }
  /** Every send is answered: the seqs that each room's receivers must reach. */
  | { readonly kind: 'heads'; readonly heads: Readonly<Record<string, number>> };

export type FromLoad =
  | { readonly kind: 'connected' | 'measuring' | 'measured' }
  | { readonly kind: 'progress'; readonly acked: number; readonly deliveries: number }
  | { readonly kind: 'settled'; readonly ackedByRoom: Readonly<Record<string, number>>; readonly errors: Readonly<Record<string, number>> }
  | { readonly kind: 'done'; readonly result: LoadResult };

export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
}

/** How users came online. */
export interface ArrivalsResult {
  /** Latencies of messages before and after. */
  readonly before: Percentiles;
  readonly after: Percentiles;
  /** From the moment at which a user was due to the answer to its last join_room. */
  readonly joinMs: Percentiles;
  /** From the first arrival until each of them was told of all who are online in its rooms; null where that did not happen. */
  readonly allToldMs: number | null;
  /** What they received, by event. */
  readonly frames: Readonly<Record<string, number>>;
  readonly bytes: number;
}

export interface LoadResult {
  readonly seconds: number;
  /** Acked and delivered within the measured time. */
  readonly acked: number;
  readonly deliveries: number;
  /** What the deliveries came in. */
  readonly frames: number;
  /** From the send (open loop: from the moment at which it was due) to the receipt. */
  readonly deliveryMs: Percentiles;
  readonly ackMs: Percentiles;
  /** Open loop: how late the generator itself was. Part of deliveryMs. */
  readonly lateMs: Percentiles;
  /** Over the whole run, warm-up and tail included. */
  readonly lost: number;
  readonly doubled: number;
  readonly reordered: number;
  readonly acksOutOfOrder: number;
  /** Frames and closes that should not have come, by name. */
  readonly unexpected: Readonly<Record<string, number>>;
  readonly framesCompared: number;
  readonly framesRead: number;
  readonly settleMs: number;
  readonly arrivals?: ArrivalsResult;
}
