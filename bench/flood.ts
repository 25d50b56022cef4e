/** What a suite and the process that floods say to each other. */
import type { Person } from './plan.js';

/**
 * `login`, `register`: a request each, of another network and another name each time; `join`, `typing`: a pair of commands that undo each other. The
 * rest are sends of one account to a room of its own: `repeats` with one client_msg_id and content, `conflicts` with one client_msg_id and always
 * another content, `strangers` to a room of which it is no member, `fresh` none of these, `large` of 65,000 emoji.
 */
export type FloodKind = 'login' | 'register' | 'join' | 'typing' | SendKind;
export type SendKind = 'repeats' | 'conflicts' | 'strangers' | 'fresh' | 'large';

export interface FloodPlan {
  readonly kind: FloodKind;
  /** Open loop: requests, or pairs of commands. */
  readonly perSecond: number;
  readonly nodeUrls: readonly string[];
  /** Members of rooms, through whom commands are sent. */
  readonly people: readonly Person[];
}

export type ToFlood = { readonly kind: 'begin'; readonly plan: FloodPlan } | { readonly kind: 'end' };

export interface FloodResult {
  readonly sent: number;
  /** How many answers came, by status or event. */
  readonly answers: Readonly<Record<string, number>>;
}
