/**
 * Sends that wait to be stored, in turns by sender: the backlog of one user costs another a turn, not the backlog.
 *
 * Promises: the sends of one user leave in the order in which they came; each user with something waiting is visited once a round; of one batch a user
 * gets a share only. The work for a send does not depend on how many wait.
 */
import type { NewMessage } from './message.store.js';
import type { Settled } from './message-writer.js';

/** What one sender may put into a batch in a round: at least one send. */
const turnMessages = 16;
const turnBytes = 16_384;
/** What one sender may put into a batch in all rounds, so that a batch which others wait for or are in stays short. */
const shareMessages = 128;
const shareBytes = 65_536;

export interface Pending {
  readonly message: NewMessage;
  readonly bytes: number;
  /** Of two sends of one user, the earlier one has no later deadline. */
  readonly deadline: number;
  /** No answer came to a try of it, which may have been committed. */
  inDoubt: boolean;
  /** The reason to give it up. It is answered after the earlier sends of its room. */
  failure: unknown;
  /** An earlier send of the same batch with the same client_msg_id and content: its outcome settles this one too. */
  repeats: Pending | undefined;
  outcome: Settled | undefined;
  /** The next send of its sender. */
  next: Pending | undefined;
  readonly settle: (settled: Settled) => void;
}

/**
 * `take` it; `divert` it, alone, to `Verdicts.divert`; `move` its sender with all that it sent to `Verdicts.move`; `wait`: nothing more of this
 * sender in this batch.
 */
export type Verdict = 'take' | 'divert' | 'move' | 'wait';

export interface TakeRules {
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** Its time is up: it is taken to be given up, and costs the batch nothing. */
  isLate(pending: Pending): boolean;
  verdict?(pending: Pending): Verdict;
  divert?(pending: Pending): void;
  readonly moveTo?: Turns;
  /** Its sender waited in vain for `count` batches. */
  waited?(pending: Pending, count: number): void;
}

/** The batch that is being taken. */
interface Taking {
  readonly batch: Pending[];
  readonly rules: TakeRules;
  readonly keys: Map<string, Pending>;
  bytes: number;
}

interface Sender {
  readonly userId: string;
  first: Pending | undefined;
  last: Pending | undefined;
  count: number;
  /** Of the batch that is being taken. */
  taken: number;
  takenBytes: number;
  /** Batches in a row for which its first send had to wait. */
  waits: number;
}

export class Turns {
  /** Sends that wait. */
  count = 0;
  /** The same, without what a sender has beyond its share of a batch. */
  fairCount = 0;
  private readonly senders = new Map<string, Sender>();
  private ring: Sender[] = [];

  has(userId: string): boolean {
    return this.senders.has(userId);
  }

  /** Deadline of the send whose turn is next. */
  get nextDeadline(): number {
    return this.ring[0]?.first?.deadline ?? 0;
  }

  push(pending: Pending): void {
    const sender = this.senderOf(pending);
    pending.next = undefined;
    if (sender.last === undefined) sender.first = pending;
    else sender.last.next = pending;
    sender.last = pending;
    this.added(sender);
  }

  /** Puts back what was taken, before what came since. */
  putBack(taken: readonly Pending[]): void {
    for (const pending of taken.toReversed()) {
      const sender = this.senderOf(pending);
      pending.next = sender.first;
      sender.first = pending;
      sender.last ??= pending;
      this.added(sender);
    }
  }

  /**
   * Takes the next batch's sends. For a sender, the batch ends before a send with the client_msg_id of
   * another one in the batch and another content: that is to be judged after the first.
   * @param others what the batch has already
   * @returns them all, in the order of their acceptance
   */
  take(rules: TakeRules, others: readonly Pending[] = []): Pending[] {
    const batch = [...others];
    const taking: Taking = { batch, rules, keys: new Map(), bytes: batch.reduce((sum, { bytes }) => sum + bytes, 0) };
    const over: Sender[] = [];
    let round = this.ring;
    for (const sender of round) sender.taken = sender.takenBytes = 0;
    while (round.length > 0) {
      const again: Sender[] = [];
      for (const [at, sender] of round.entries()) {
        const result = this.turn(sender, taking);
        if (result === 'full') {
          this.ring = [...round.slice(at), ...again, ...over];
          return inOrder(batch);
        }
        if (sender.first === undefined) this.senders.delete(sender.userId);
        else (result === 'more' ? again : over).push(sender);
      }
      round = again;
    }
    this.ring = over;
    return inOrder(batch);
  }

  /** @returns whether the sender may have `more` turns in this batch, or the batch is `full` */
  private turn(sender: Sender, taking: Taking): 'more' | 'over' | 'full' {
    const { batch, rules, keys } = taking;
    let messagesLeft = turnMessages;
    let bytesLeft = turnBytes;
    for (let pending = sender.first; pending !== undefined; pending = sender.first) {
      const verdict = rules.verdict?.(pending) ?? 'take';
      if (verdict === 'divert') {
        this.removeFirst(sender, pending);
        rules.divert?.(pending);
        continue;
      }
      if (verdict === 'move') {
        while (sender.first !== undefined) rules.moveTo?.push(this.removeFirst(sender, sender.first));
        return 'over';
      }
      if (verdict === 'wait') {
        rules.waited?.(pending, ++sender.waits);
        return 'over';
      }
      if (batch.length >= rules.maxMessages) return 'full';
      const key = keyOf(pending.message);
      const first = key === undefined ? undefined : keys.get(key);
      if (!rules.isLate(pending)) {
        if (first === undefined) {
          if (taking.bytes > 0 && taking.bytes + pending.bytes > rules.maxBytes) return 'full';
          if (sender.taken >= shareMessages || (sender.taken > 0 && sender.takenBytes + pending.bytes > shareBytes)) return 'over';
          if (messagesLeft <= 0 || bytesLeft <= 0) return 'more';
          if (key !== undefined) keys.set(key, pending);
          messagesLeft--;
          bytesLeft -= pending.bytes;
          taking.bytes += pending.bytes;
          sender.taken++;
          sender.takenBytes += pending.bytes;
        } else if (first.message.content !== pending.message.content) return 'over';
        pending.repeats = first;
      }
      sender.waits = 0;
      batch.push(this.removeFirst(sender, pending));
    }
    return 'over';
  }

  private senderOf({ message: { userId } }: Pending): Sender {
    let sender = this.senders.get(userId);
    if (sender === undefined) {
      sender = { userId, first: undefined, last: undefined, count: 0, taken: 0, takenBytes: 0, waits: 0 };
      this.senders.set(userId, sender);
      this.ring.push(sender);
    }
    return sender;
  }

  private added(sender: Sender): void {
    this.count++;
    if (sender.count++ < shareMessages) this.fairCount++;
  }

  private removeFirst(sender: Sender, pending: Pending): Pending {
    sender.first = pending.next;
    if (sender.first === undefined) sender.last = undefined;
    pending.next = undefined;
    this.count--;
    if (--sender.count < shareMessages) this.fairCount--;
    return pending;
  }
}

/** Finds again which sends of a batch repeat others of it, after it was divided or a part of it was settled. */
export function linkRepeats(batch: readonly Pending[]): void {
  const firsts = new Map<string, Pending>();
  for (const pending of batch) {
    const key = keyOf(pending.message);
    if (key === undefined) continue;
    pending.repeats = firsts.get(key);
    if (pending.repeats === undefined) firsts.set(key, pending);
  }
}

const keyOf = ({ clientMsgId, userId, roomId }: NewMessage): string | undefined =>
  clientMsgId === undefined ? undefined : `${clientMsgId}${userId}${roomId}`;

const inOrder = (batch: Pending[]): Pending[] => (batch.length > 1 ? batch.toSorted((a, b) => a.deadline - b.deadline) : batch);
