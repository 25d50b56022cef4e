/**
 * One socket's stream of one room: which seq it got last, and how it gets the next.
 *
 * Promise: what goes out goes up by exactly one from `cursor`, or a `resync` says that it does not; and nothing goes out above the seq at which
 * the user's membership ended. There is one mechanism for a client that resumes and for one that fell behind: read after the cursor until the
 * room's last seq is reached, then be live. The change from one to the other happens within one turn, so that no entry can fall between.
 */
import type { Feed } from '../bus/feed.js';
import type { LogEntry } from '../bus/payload.js';
import type { RoomLog } from '../bus/room-log.js';
import type { CommandId } from '../protocol/commands.js';
import { encode, encodeHistory } from '../protocol/encode.js';
import type { ResyncReason } from '../protocol/replies.js';
import type { StreamFaults } from './counters.js';
import { frameRuns, liveFrames } from './entries.js';
import type { Outbox } from './outbox.js';

/** Of a membership: since which seq it is, and the room's last seq when it was read. */
interface MemberAsOf {
  readonly joinedSeq: number;
  readonly lastSeq: number;
}

/** What a subscription needs of the connection that has it. */
export interface Subscriber {
  readonly outbox: Outbox;
  readonly userId: string;
  /** The stream is over, because the membership is. */
  ended(subscription: Subscription): void;
  /** The log is another one: whether the user is a member has to be read anew, and `confirm` to be called. */
  unconfirmed(subscription: Subscription): void;
}

export class Subscription {
  /** `pending` until the user was found to be a member, `unconfirmed` when that has to be found anew; `behind` while what it misses is being read. */
  private state: 'pending' | 'unconfirmed' | 'behind' | 'live' | 'ended' = 'pending';
  private cursor = 0;
  /** The room's head when the user was last known to be a member. */
  private memberAt = -1;
  /** Where the membership began that the stream is of. */
  private memberSince = -1;
  /** Ends of this user's membership that were seen, ascending; those up to `memberAt` are over. */
  private ends: number[] = [];
  private endSeq = Number.POSITIVE_INFINITY;
  private missedSignals = false;
  /** Why it was restarted last. */
  private restartedBy: ResyncReason = 'epoch_changed';
  /** Where what is read goes: as pages of history, until they are all sent, or as live frames. */
  private history: { readonly id: CommandId | undefined } | undefined;

  constructor(
    readonly room: RoomLog,
    private readonly owner: Subscriber,
    private readonly feed: Feed,
    private readonly faults: StreamFaults,
  ) {}

  /** The last seq that was sent. */
  get lastSeq(): number {
    return this.cursor;
  }

  get userId(): string {
    return this.owner.userId;
  }

  get isBehind(): boolean {
    return this.state === 'behind';
  }

  get isOver(): boolean {
    return this.state === 'ended';
  }

  /** True when an end of the user's membership was seen above seq `head`: who was read to be a member then is none any more. */
  endedAfter(head: number): boolean {
    return this.ends.some((seq) => seq > head);
  }

  /** True where the stream runs and is of this membership. */
  isOf({ joinedSeq }: Pick<MemberAsOf, 'joinedSeq'>): boolean {
    return !this.isOver && this.memberSince === joinedSeq;
  }

  /**
   * The user is a member as of seq `head`, which may be less than what the room has by now, and since seq `joinedSeq`.
   * @param from what is after it comes as history, then the stream is live; without it, it is live from here on
   */
  begin({ lastSeq: head, joinedSeq }: MemberAsOf, from?: number, id?: CommandId): void {
    this.memberAt = head;
    this.memberSince = joinedSeq;
    this.endSeq = this.ends.find((seq) => seq > head) ?? this.endSeq;
    this.cursor = from ?? Math.max(head, this.room.lastSeq);
    this.history = from === undefined ? undefined : { id };
    this.state = from === undefined ? 'live' : 'behind';
    if (from === undefined) this.endIfReached();
  }

  /**
   * The room's next entries.
   * @param frames the same entries, framed once for all sockets
   */
  offer(entries: readonly LogEntry[], frames: Buffer): void {
    if (this.state !== 'live') return;
    const first = entries[0]?.seq ?? 0;
    const last = entries.at(-1)?.seq ?? 0;
    if (last <= this.cursor) return;
    if (first > this.cursor + 1 || !this.owner.outbox.hasRoom) {
      if (first > this.cursor + 1) this.faults.gaps++;
      this.state = 'behind';
      return;
    }
    if (first === this.cursor + 1 && last <= this.endSeq) this.owner.outbox.put(frames);
    else this.putLive(entries);
    this.cursor = Math.min(last, this.endSeq);
    this.endIfReached();
  }

  /** Frames of what is not in the log: presence, typing. A socket that can't take them is told afresh when it can. */
  offerSignals(frames: Buffer): void {
    const isMember = (this.state === 'live' || this.state === 'behind') && this.endSeq === Number.POSITIVE_INFINITY;
    if (!isMember) return;
    if (this.owner.outbox.hasRoom) this.owner.outbox.put(frames);
    else this.missedSignals = true;
  }

  /** True once after signals were missed. */
  takeMissedSignals(): boolean {
    const missed = this.missedSignals;
    this.missedSignals = false;
    return missed;
  }

  /**
   * Reads one page of what is missing, of about `maxBytes`, and sends it; at the end of it the stream is live.
   * @throws ClientError unavailable; then nothing has changed
   */
  async catchUp(maxBytes: number): Promise<void> {
    const { cursor } = this;
    const { generation } = this.room;
    const upTo = this.readableSeq;
    const entries = cursor < upTo ? await this.feed.read(this.room, cursor, upTo, maxBytes) : [];
    if (this.state !== 'behind' || generation !== this.room.generation || cursor !== this.cursor) return;
    // Other rooms of this socket may have filled it meanwhile: read again when it has drained.
    if (!this.owner.outbox.hasRoom) return;
    if (this.feed.noteHole(this.room.roomId, entries, cursor, upTo) !== undefined) return this.resync('gap_in_log');
    const reached = (entries.at(-1)?.seq ?? this.cursor) >= this.readableSeq;
    if (this.history === undefined) this.putLive(entries);
    else this.putHistory(entries, reached, this.history.id);
    this.cursor = Math.min(entries.at(-1)?.seq ?? this.cursor, this.endSeq);
    if (!reached) return;
    this.history = undefined;
    this.state = 'live';
    this.endIfReached();
  }

  /** Up to here the user may read. Not up to what is known to exist: an end of the membership is noted only when the feed has passed it on. */
  private get readableSeq(): number {
    return Math.min(Math.max(this.room.lastSeq, this.memberAt), this.endSeq);
  }

  /** The user's membership ended at `seq`: so does the stream, when it gets there. */
  membershipEnded(seq: number): void {
    this.ends.push(seq);
    if (this.memberAt < 0 || seq <= this.memberAt) return;
    this.endSeq = Math.min(this.endSeq, seq);
    if (this.state === 'live') this.endIfReached();
  }

  /** The stream stops here and now. */
  stop(): void {
    this.state = 'ended';
  }

  /** What the client holds is void; the stream goes on after the room's last seq. */
  resync(reason: ResyncReason, id?: CommandId): void {
    if (this.state === 'ended' || this.state === 'pending') return;
    this.history = undefined;
    if (this.state !== 'unconfirmed') this.state = 'live';
    this.putResync(reason, Math.max(this.room.lastSeq, this.memberAt), id); // the feed may not have passed on yet where the user is a member
  }

  /** The log was begun anew: what was known of the membership is void too, and nothing is sent until it is confirmed. */
  restart(reason: ResyncReason): void {
    if (this.state === 'ended' || this.state === 'pending') return;
    this.state = 'unconfirmed';
    this.memberAt = -1;
    this.ends = [];
    this.endSeq = Number.POSITIVE_INFINITY;
    this.restartedBy = reason;
    this.resync(reason);
    this.owner.unconfirmed(this);
  }

  /**
   * The user is a member of the new log too, as of seq `head` and since seq `joinedSeq`: the stream goes on after what was sent, or, where that was
   * before the membership, after its start.
   */
  confirm({ lastSeq: head, joinedSeq }: MemberAsOf): void {
    if (this.state !== 'unconfirmed') return;
    if (joinedSeq > this.cursor) this.putResync(this.restartedBy, joinedSeq);
    this.memberAt = head;
    this.memberSince = joinedSeq;
    this.endSeq = this.ends.find((seq) => seq > head) ?? this.endSeq;
    this.state = 'behind';
  }

  private putResync(reason: ResyncReason, lastSeq: number, id?: CommandId): void {
    this.cursor = lastSeq;
    const data = { room_id: this.room.roomId, reason, last_seq: lastSeq, epoch: this.feed.epoch };
    this.owner.outbox.put(encode('resync', data, id));
  }

  private putLive(entries: readonly LogEntry[]): void {
    const due = entries.filter(({ seq }) => seq > this.cursor && seq <= this.endSeq);
    if (due.length > 0) this.owner.outbox.put(liveFrames(due));
  }

  private putHistory(entries: readonly LogEntry[], isLastPage: boolean, id: CommandId | undefined): void {
    const runs = frameRuns(entries.filter(({ seq }) => seq <= this.endSeq));
    if (runs.length === 0) runs.push([]);
    for (const [n, run] of runs.entries()) {
      const messages = run.filter(({ event }) => event === undefined).map(({ json }) => json);
      const events = run.filter(({ event }) => event !== undefined).map(({ json }) => json);
      const hasMore = !isLastPage || n < runs.length - 1;
      this.owner.outbox.put(encodeHistory(this.room.roomId, messages, events, run.at(-1)?.seq ?? this.cursor, hasMore, id));
    }
  }

  private endIfReached(): void {
    if (this.cursor < this.endSeq) return;
    this.state = 'ended';
    this.owner.ended(this);
  }
}
