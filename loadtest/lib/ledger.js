/** What one client has seen of a room. Each seq must continue the one before, across reconnects, whether it comes live or as history. */
import {
  accounted,
  badPayloads,
  delivered,
  deliveryMs,
  duplicates,
  holes,
  missed,
  outOfOrder,
  ownDelivered,
  received,
  required,
} from './metrics.js';
import { plan } from './plan.js';

/** No run has so many; a seq further on is no seq of this run. */
const jumpMax = 1_000_000;
/** A sample a message would be millions. */
const reportEveryMs = 1_000;

export class Ledger {
  /** The highest seq seen; null before the room was joined. */
  last;
  /** Seqs that were passed over and may still come, late. */
  #missing = new Set();
  #received = 0;
  #reported = 0;
  #reportedAt = 0;
  #own = 0;

  /**
   * @param last the seq after which the room begins for this client; null takes the one at which it joins
   * @param sender its number, if it is a sender: its own messages must come back to it
   * @param expected how many messages must come to it, if it is a receiver
   */
  constructor(roomId, { last = null, sender, expected = 0 }) {
    this.roomId = roomId;
    this.last = last;
    this.sender = sender;
    this.expected = expected;
  }

  /** @param presentSince since when the client has been there, in ms since 1970: what was sent before is no measure of latency */
  take({ entries, isRun, samples, messages }, now, presentSince) {
    if (isRun && entries[0]?.seq === this.last + 1 && entries[0].roomId === this.roomId) {
      this.last += entries.length;
      this.#received += messages;
      if (this.sender !== undefined) for (const { sender } of entries) this.#own += sender === this.sender ? 1 : 0;
    } else {
      for (const entry of entries) this.#takeOne(entry);
    }
    for (const sentAt of samples) if (sentAt >= presentSince) deliveryMs.add(now - sentAt);
    if (now - this.#reportedAt >= reportEveryMs) this.#report(now);
  }

  /** At the end: what never came is counted. */
  account() {
    this.#report(0);
    if (this.expected > 0) {
      required.add(this.expected);
      missed.add(Math.max(0, this.expected - this.#received));
      delivered.add(this.#received / this.expected);
    }
    if (this.sender !== undefined) for (let n = 0; n < plan.messages; n++) ownDelivered.add(n < this.#own);
    holes.add(this.#missing.size);
    accounted.add(1);
  }

  #takeOne({ roomId, seq, isEvent, sender, problem }) {
    const place = roomId === this.roomId ? this.#place(seq) : 'wrong';
    if (place === 'again') return duplicates.add(1);
    if (place === 'late') outOfOrder.add(1);
    if (place === 'wrong' || problem === 'changed') return badPayloads.add(1);
    if (problem === 'repeated') return duplicates.add(1);
    if (problem === 'overtaken' && place === 'next') outOfOrder.add(1);
    if (isEvent) return;
    this.#received++;
    if (sender === this.sender) this.#own++;
  }

  #place(seq) {
    if (!Number.isInteger(seq)) return 'wrong';
    this.last ??= seq - 1;
    if (seq - this.last > jumpMax) return 'wrong';
    if (seq <= this.last) return this.#missing.delete(seq) ? 'late' : 'again';
    for (let passed = this.last + 1; passed < seq; passed++) this.#missing.add(passed);
    this.last = seq;
    return 'next';
  }

  #report(now) {
    received.add(this.#received - this.#reported);
    this.#reported = this.#received;
    this.#reportedAt = now;
  }
}
