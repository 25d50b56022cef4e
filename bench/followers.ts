/**
 * Followers and senders in a process of their own, told by a suite when to do what. A suite that wants to know what a storm is to those who have no part in
 * it starts two.
 */
import type { ChildProcess } from 'node:child_process';
import { callsTo } from './calls.js';
import type { Percentiles } from './plan.js';
import type { FollowerCalls } from './processes/followers.js';
import type { Run } from './suite.js';

const entry = new URL('./processes/followers.ts', import.meta.url);

export interface FollowerPlan {
  readonly token: string;
  /** The nodes that it may connect to, in the order in which it goes to them. With one alone, a connection that is lost is a failure. */
  readonly nodeUrls: readonly string[];
  /** `after` is the highest seq that it holds; without it, the stream begins at the room's end. */
  readonly rooms: readonly { readonly roomId: string; readonly after?: number }[];
  /** The server is a bare one, of which nothing is asked: it gives history by itself to who holds something, and else nothing below seq 1. */
  readonly isBare?: true;
}

export interface Arrival {
  /** From the first connection until all are live. */
  readonly allLiveMs: number;
  /** Of each, from its own connection on. */
  readonly liveMs: Percentiles;
  /** Payloads of frames. */
  readonly bytes: number;
  readonly deliveries: number;
}

export interface Return {
  /** Date.now() when the last was live again. */
  readonly lastLiveAt: number;
  readonly gone: number;
  /** Of each, from the loss of its connection until it was live again. */
  readonly awayMs: Percentiles;
}

export interface Latency {
  readonly seconds: number;
  readonly deliveries: number;
  /** From the moment at which a message was due to its receipt. */
  readonly deliveryMs: Percentiles;
  /** How late the senders of this process were. Part of deliveryMs. */
  readonly lateMs: Percentiles;
}

export interface Checked {
  readonly lost: number;
  readonly doubled: number;
  readonly reordered: number;
  /** By name. */
  readonly unexpected: Readonly<Record<string, number>>;
}

/** A process of followers and senders. */
export interface Followers {
  readonly process: ChildProcess;
  readonly ask: ReturnType<typeof callsTo<FollowerCalls>>;
  /** Ends it, and all its connections. */
  end(): void;
}

export function startFollowers(run: Run, name: string): Followers {
  const child = run.fork(entry, name);
  return { process: child, ask: callsTo<FollowerCalls>(child), end: () => child.disconnect() };
}

/** What must not be, in words. */
export function faultsOf(what: string, { lost, doubled, reordered, unexpected }: Checked): string[] {
  return Object.entries({ lost, doubled, reordered, ...unexpected })
    .filter(([, count]) => count > 0)
    .map(([fault, count]) => `${what}: ${fault}: ${count}`);
}
