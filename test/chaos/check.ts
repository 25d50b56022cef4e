/** The checker: from what was recorded to what was broken, by one fold for each promise. Pure, O(n log n) in the events. */
import type { History, Violation } from './history.js';
import { agreed } from './invariants/agreed.js';
import { bounded } from './invariants/bounded.js';
import { withinBudget } from './invariants/budget.js';
import { contiguous } from './invariants/contiguous.js';
import { counted } from './invariants/counted.js';
import { durable } from './invariants/durable.js';
import { givenOnce } from './invariants/epoch.js';
import { gapless } from './invariants/gapless.js';
import { idempotent } from './invariants/idempotent.js';
import { live } from './invariants/live.js';
import { fifo, ordered } from './invariants/ordered.js';
import { membersOnly } from './invariants/private.js';
import { sentByMembers } from './invariants/senders.js';
import { truthful } from './invariants/truthful.js';

const invariants = [
  durable,
  idempotent,
  contiguous,
  agreed,
  gapless,
  truthful,
  membersOnly,
  sentByMembers,
  live,
  ordered,
  fifo,
  bounded,
  withinBudget,
  givenOnce,
  counted,
];

export const check = (history: History): Violation[] => invariants.flatMap((invariant) => invariant(history));
