/**
 * The way out of presence and typing: at most one notifying statement of this node in 200 ms, whatever happens on its sockets.
 *
 * A commit that carries a NOTIFY takes a lock of the whole cluster, which messages need too. So changes wait here, of each user and room only the
 * newest, and give way to messages: while the message writer is backed up, typing is dropped, and presence waits, for two seconds at most.
 * Presence is never lost: what could not be written stays. Typing is, and expires by itself.
 */
import type { Logger } from 'pino';
import { logLevelOf } from '../database/sql-error.js';
import { keyOf, type Change } from './signals.js';

export const sendEveryMs = 200;
const busyMaxMs = 2_000;
const retryMs = 1_000;
/** Of one statement; what is above waits for the next. */
const batchMaxPresence = 1_000;
/** Typing that may wait; above it is dropped. */
const typingMax = 500;

export interface SignalCounters {
  /** Statements with a NOTIFY, also those that failed. */
  statements: number;
  presence: number;
  typing: number;
  typingDropped: number;
}

export interface SenderOptions {
  /** True while messages wait for more than the batches that are in flight. */
  isBusy(): boolean;
  /** Writes and notifies. Resolves with false, having done neither, where the presence can't be written now. */
  send(presence: readonly Change[], typing: readonly Change[]): Promise<boolean>;
  readonly log: Logger;
}

export class SignalSender {
  readonly counters: SignalCounters = { statements: 0, presence: 0, typing: 0, typingDropped: 0 };
  private readonly presence = new Map<string, Change>();
  private typing = new Map<string, Change>();
  private sendingTyping: ReadonlyMap<string, Change> = new Map();
  private generation = 0;
  private sending: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private nextAt = 0;
  private busySince: number | undefined;
  private closed = false;

  constructor(private readonly options: SenderOptions) {}

  putPresence(change: Change): void {
    this.presence.set(keyOf(change.roomId, change.userId), change);
    this.schedule();
  }

  putTyping(change: Change): void {
    const key = keyOf(change.roomId, change.userId);
    if (this.typing.size >= typingMax && !this.typing.has(key)) {
      this.counters.typingDropped++;
      return;
    }
    this.typing.set(key, change);
    this.schedule();
  }

  /** What waits of a user's typing is void. Returns true when some of it is being sent, and so can't be held back. */
  cancelTyping(roomId: string, userId: string): boolean {
    const key = keyOf(roomId, userId);
    this.typing.delete(key);
    return this.sendingTyping.get(key)?.isOn ?? false;
  }

  /** All that waits of presence is void, also what is being sent, if that fails. */
  forgetPresence(): void {
    this.presence.clear();
    this.generation++;
  }

  /** Sends nothing more, and resolves when what is being sent is done. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.sending;
  }

  private schedule(): void {
    if (this.timer !== undefined || this.sending !== undefined || this.closed) return;
    if (this.presence.size === 0 && this.typing.size === 0) return;
    this.timer = setTimeout(() => this.flush(performance.now()), Math.max(0, this.nextAt - performance.now()));
  }

  private flush(now: number): void {
    this.timer = undefined;
    if (this.presence.size === 0 && this.typing.size === 0) return; // held back meanwhile
    this.nextAt = now + sendEveryMs;
    if (this.mustWait(now)) return this.schedule();
    const presence = [...this.presence].slice(0, batchMaxPresence);
    for (const [key] of presence) this.presence.delete(key);
    this.sendingTyping = this.typing;
    this.typing = new Map();
    this.sending = this.send(presence, [...this.sendingTyping.values()]).finally(() => {
      this.sending = undefined;
      this.sendingTyping = new Map();
      this.schedule();
    });
  }

  private mustWait(now: number): boolean {
    if (!this.options.isBusy()) {
      this.busySince = undefined;
      return false;
    }
    this.busySince ??= now;
    this.counters.typingDropped += this.typing.size;
    this.typing.clear();
    if (now - this.busySince < busyMaxMs) return true;
    this.busySince = now;
    return this.presence.size === 0;
  }

  private async send(presence: readonly [string, Change][], typing: readonly Change[]): Promise<void> {
    const { generation } = this;
    this.counters.statements++;
    try {
      const changes = presence.map(([, change]) => change);
      if (await this.options.send(changes, typing)) {
        this.counters.presence += presence.length;
        this.counters.typing += typing.length;
        return;
      }
    } catch (error) {
      this.options.log[logLevelOf(error)](
        { err: error, presence: presence.length, typing: typing.length },
        'presence and typing could not be sent',
      );
    }
    this.nextAt = performance.now() + retryMs;
    if (generation !== this.generation) return;
    for (const [key, change] of presence) if (!this.presence.has(key)) this.presence.set(key, change);
  }
}
