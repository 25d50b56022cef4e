/**
 * The hub: which sockets of this node follow which room, and the fan-out of a room's new entries to them.
 *
 * Cost follows frames, not bytes. A room's entries are framed once and the same buffer is written to all its sockets, at most once in a window of
 * 20 ms; the first entry after a quiet window leaves at once, so that a lone message waits for nothing. Where writing takes long, to thousands of
 * sockets, the window goes on for as long again: fewer, larger frames are sooner with all of them, and half of the time is left to others.
 */
import { Injectable } from '@nestjs/common';
import { Feed, type FeedFollower } from '../bus/feed.js';
import type { LogEntry } from '../bus/payload.js';
import type { RoomLog } from '../bus/room-log.js';
import type { SignalFrame } from '../presence/presence.service.js';
import type { ResyncReason } from '../protocol/replies.js';
import { endsMembership, type RoomEvent } from '../protocol/room-event.js';
import type { StreamFaults } from './counters.js';
import { liveFrames } from './entries.js';
import { textFrame } from './frame.js';
import { afterFlush } from './outbox.js';
import { Subscription, type Subscriber } from './subscription.js';

const windowMs = 20;

interface HubRoom {
  readonly log: RoomLog;
  readonly subscriptions: Set<Subscription>;
  /** Entries of the window that is open. */
  pending: LogEntry[];
  /** The last seq that was flushed; undefined before the first, and where the log goes on elsewhere. */
  flushedSeq: number | undefined;
  windowEndsAt: number;
  flushDue: boolean;
  /** A seq whose commit this node has the answer of, and whose frame has not left yet; `at` is in ms of the process. */
  committed: { readonly seq: number; readonly at: number } | undefined;
}

/** Ms from the answer to a commit, on the node that sent it, until the frame left for the sockets of the room. */
type FanOutObserver = (ms: number) => void;

@Injectable()
export class Hub implements FeedFollower {
  readonly faults: StreamFaults = { gaps: 0, repeats: 0 };
  private readonly rooms = new Map<string, HubRoom>();
  private readonly byUser = new Map<string, Set<Subscription>>();
  private observe: FanOutObserver | undefined;

  constructor(private readonly feed: Feed) {
    feed.attach(this);
  }

  /**
   * Adds a pending subscription: from now on nothing of the room can be missed, and an end of the user's membership is noted. To be called before
   * the membership is read.
   */
  subscribe(roomId: string, owner: Subscriber): Subscription {
    let room = this.rooms.get(roomId);
    if (room === undefined) {
      room = {
        log: this.feed.follow(roomId),
        subscriptions: new Set(),
        pending: [],
        flushedSeq: undefined,
        windowEndsAt: 0,
        flushDue: false,
        committed: undefined,
      };
      this.rooms.set(roomId, room);
    }
    const subscription = new Subscription(room.log, owner, this.feed, this.faults);
    room.subscriptions.add(subscription);
    const ofUser = this.byUser.get(owner.userId) ?? new Set();
    this.byUser.set(owner.userId, ofUser.add(subscription));
    return subscription;
  }

  unsubscribe(subscription: Subscription, { userId }: Subscriber): void {
    subscription.stop();
    const { roomId } = subscription.room;
    const room = this.rooms.get(roomId);
    room?.subscriptions.delete(subscription);
    if (room?.subscriptions.size === 0) {
      this.rooms.delete(roomId);
      this.feed.unfollow(roomId);
    }
    const ofUser = this.byUser.get(userId);
    ofUser?.delete(subscription);
    if (ofUser?.size === 0) this.byUser.delete(userId);
  }

  deliver(roomId: string, entries: readonly LogEntry[]): void {
    const room = this.rooms.get(roomId);
    if (room === undefined) return;
    for (const entry of entries) {
      room.pending.push(entry);
      if (entry.event !== undefined) this.noteMembership(room, entry.seq, entry.event);
    }
    this.flushInWindow(room);
  }

  resync(roomId: string, reason: ResyncReason, isAnew: boolean): void {
    const room = this.rooms.get(roomId);
    if (room === undefined) return;
    room.committed = undefined;
    if (isAnew) {
      room.pending = [];
      room.flushedSeq = undefined;
      for (const subscription of room.subscriptions) subscription.restart(reason);
      return;
    }
    this.flush(room);
    room.flushedSeq = undefined;
    for (const subscription of room.subscriptions) subscription.resync(reason);
  }

  /** Sends what is not in the room's log to its sockets, at once. */
  push(roomId: string, frames: readonly SignalFrame[]): void {
    const room = this.rooms.get(roomId);
    if (room === undefined) return;
    const buffers = frames.map(({ text, exceptUserId }) => ({ buffer: textFrame(text), exceptUserId }));
    const all = Buffer.concat(buffers.map(({ buffer }) => buffer));
    const excepted = new Set(buffers.map(({ exceptUserId }) => exceptUserId));
    for (const subscription of room.subscriptions) {
      const { userId } = subscription;
      if (!excepted.has(userId)) subscription.offerSignals(all);
      else if (buffers.length > 1)
        subscription.offerSignals(Buffer.concat(buffers.filter((frame) => frame.exceptUserId !== userId).map(({ buffer }) => buffer)));
    }
  }

  attachObserver(observe: FanOutObserver): void {
    this.observe = observe;
  }

  /** A commit of this node was answered now: measures how long its frame takes. A room has one such measurement at a time. */
  measureFrom(roomId: string, seq: number): void {
    const room = this.rooms.get(roomId);
    if (room === undefined || !room.log.isOpen) return;
    const hasLeft = seq <= room.log.lastSeq && seq < (room.pending[0]?.seq ?? Number.POSITIVE_INFINITY);
    if (hasLeft)
      this.observe?.(0); // the notification was faster than the answer
    else room.committed ??= { seq, at: performance.now() };
  }

  private noteMembership({ log: { roomId }, subscriptions }: HubRoom, seq: number, { kind, user_id }: RoomEvent): void {
    if (kind === 'deleted') {
      for (const subscription of subscriptions) subscription.membershipEnded(seq);
    } else if (user_id !== undefined && endsMembership(kind)) {
      for (const subscription of this.byUser.get(user_id) ?? []) {
        if (subscription.room.roomId === roomId) subscription.membershipEnded(seq);
      }
    }
  }

  private flushInWindow(room: HubRoom): void {
    if (room.flushDue) return;
    room.flushDue = true;
    const waitMs = room.windowEndsAt - performance.now();
    // Not at once but at the end of this turn: notifications that arrived together leave together.
    if (waitMs <= 0) setImmediate(() => this.flush(room));
    else setTimeout(() => this.flush(room), waitMs);
  }

  /** Once for all sockets of the room: what they are given next goes up by exactly one from what they had. */
  private judge(room: HubRoom, entries: readonly LogEntry[]): void {
    let last = room.flushedSeq ?? (entries[0]?.seq ?? 1) - 1;
    for (const { seq } of entries) {
      if (seq > last + 1) this.faults.gaps++;
      else if (seq <= last) this.faults.repeats++;
      last = seq;
    }
    room.flushedSeq = last;
  }

  private flush(room: HubRoom): void {
    room.flushDue = false;
    if (room.pending.length === 0) return;
    const entries = room.pending;
    room.pending = [];
    const startedAt = performance.now();
    room.windowEndsAt = startedAt + windowMs;
    this.judge(room, entries);
    const frames = liveFrames(entries);
    for (const subscription of room.subscriptions) subscription.offer(entries, frames);
    afterFlush(() => {
      const now = performance.now();
      room.windowEndsAt = Math.max(room.windowEndsAt, now + (now - startedAt));
    });
    if (room.committed === undefined || room.committed.seq > (entries.at(-1)?.seq ?? 0)) return;
    this.observe?.(performance.now() - room.committed.at);
    room.committed = undefined;
  }
}
