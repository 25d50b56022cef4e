/**
 * Presence and typing.
 *
 * Promises: who follows a room through a socket on any node is shown online to all who follow it, from its first socket until some seconds after
 * its last, or until a while after its node has died; a reconnect, to whatever node, is not seen. Typing is shown at once and ends by itself.
 * Neither slows a message: both go through a statement of their own, at most five times a second from a node, and give way when messages wait.
 *
 * Relies on the lease of each node (node-lease.ts), on the feed for the signals of all nodes, this one's too, and on the table of presence for
 * what signals did not bring. Never writes to a room's log, and is never needed for messages: while the database is away it stands still, and
 * heals by itself.
 */
import { Inject, Injectable, type BeforeApplicationShutdown, type OnApplicationBootstrap } from '@nestjs/common';
import type { Logger } from 'pino';
import { Feed, type SignalFollower } from '../bus/feed.js';
import type { LogEntry, SignalTag } from '../bus/payload.js';
import { Database } from '../database/database.js';
import { LOGGER } from '../logger.js';
import { encodeRoomOnline, type OnlineText } from '../protocol/encode.js';
import { endsMembership } from '../protocol/room-event.js';
import { Attendance, graceMs } from './attendance.js';
import { NodeLease } from './node-lease.js';
import { OnlineRooms } from './online-rooms.js';
import { sendSignals, writePresence } from './presence.store.js';
import { packSignals, readSignal, type Change } from './signals.js';
import { SignalSender, type SignalCounters } from './signal-sender.js';
import { Typing } from './typing.js';

/** How exact the ends of grace and of typing are. */
const expireEveryMs = 500;

/** A frame's text, and the user whose sockets don't get it. */
export interface SignalFrame {
  readonly text: string;
  readonly exceptUserId?: string;
}

/** The sockets, as presence needs them. */
export interface SignalSink {
  /** To all sockets that follow the room, in one write each. */
  push(roomId: string, frames: readonly SignalFrame[]): void;
  /** True while messages wait for more than the batches that are in flight. */
  isBusy(): boolean;
}

@Injectable()
export class PresenceService implements SignalFollower, OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly attendance = new Attendance();
  private readonly lease: NodeLease;
  private readonly sender: SignalSender;
  private readonly rooms: OnlineRooms;
  private readonly typing: Typing;
  private sink: SignalSink | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly db: Database,
    feed: Feed,
    @Inject(LOGGER) log: Logger,
  ) {
    this.lease = new NodeLease(db, { taken: () => this.writeAnew(), swept: (nodeIds) => this.rooms.drop(nodeIds) }, log);
    this.sender = new SignalSender({
      isBusy: () => this.sink?.isBusy() ?? false,
      send: (presence, typing) => this.send(presence, typing),
      log,
    });
    this.rooms = new OnlineRooms({
      db,
      log,
      meet: (nodeId) => this.lease.meet(nodeId),
      push: (roomId, texts) =>
        this.sink?.push(
          roomId,
          texts.map((text) => ({ text })),
        ),
    });
    this.typing = new Typing({
      put: (change) => this.sender.putTyping(change),
      cancel: (roomId, userId) => this.sender.cancelTyping(roomId, userId),
      push: (roomId, frames) => this.sink?.push(roomId, frames),
    });
    feed.attachSignals(this);
  }

  get counters(): Readonly<SignalCounters> {
    return this.sender.counters;
  }

  /** Where frames go. To be called once, before a room is followed. */
  attach(sink: SignalSink): void {
    this.sink = sink;
  }

  /** A member's socket follows a room from now on. */
  enter(roomId: string, userId: string, username: string): void {
    const change = this.attendance.enter(roomId, userId, username);
    if (change !== undefined) this.sender.putPresence(change);
  }

  /**
   * A socket that entered follows the room no more.
   * @param isMember false when that is because the membership has ended; then the user gets no grace
   */
  leave(roomId: string, userId: string, isMember: boolean): void {
    this.attendance.leave(roomId, userId, performance.now());
    if (!isMember) this.dismiss(roomId, userId);
  }

  /** Resolves when who is online in a room is known, or will not be soon. The room must be followed. */
  ready(roomId: string): Promise<void> {
    return this.rooms.ready(roomId);
  }

  /** Who is online, as the room's sockets know it. Where it is not known yet, all of them are told when it is. */
  list(roomId: string): OnlineText | undefined {
    return this.rooms.list(roomId);
  }

  /** The frames that tell a socket who types in a room. */
  typingFrames(roomId: string, forUserId: string): string[] {
    return this.typing.frames(roomId, forUserId);
  }

  /** The frames for a socket that missed some: what it knew of the room's presence and typing is void. */
  framesAfresh(roomId: string, forUserId: string): string[] {
    const list = this.rooms.list(roomId);
    return [...(list === undefined ? [] : [encodeRoomOnline(roomId, list)]), ...this.typing.frames(roomId, forUserId)];
  }

  /** @param socket what stands for the socket: the user types while one of its sockets does */
  startTyping(roomId: string, userId: string, username: string, socket: object): void {
    this.typing.start(roomId, userId, username, socket);
  }

  stopTyping(roomId: string, userId: string, socket: object): void {
    this.typing.stop(roomId, userId, socket);
  }

  followed(roomId: string): void {
    this.rooms.open(roomId);
  }

  unfollowed(roomId: string): void {
    this.rooms.close(roomId);
    this.typing.close(roomId);
  }

  delivered(roomId: string, entries: readonly LogEntry[]): void {
    this.typing.delivered(roomId, entries);
    for (const { event } of entries) {
      if (event?.user_id !== undefined && endsMembership(event.kind)) this.dismiss(roomId, event.user_id);
    }
  }

  signal(tag: SignalTag, json: string): void {
    const signal = readSignal(json);
    if (signal === undefined) return;
    if (tag === 't') this.typing.signal(signal);
    else this.rooms.signal(signal);
  }

  connected(): void {
    this.rooms.readAll();
  }

  onApplicationBootstrap(): void {
    this.lease.start();
    this.timer = setInterval(() => {
      for (const change of this.attendance.expire(performance.now())) this.sender.putPresence(change);
      this.typing.expire();
    }, expireEveryMs);
  }

  /** After the sockets are closed, and before the database is. This node's users stay online for their grace, and so may come back elsewhere unseen. */
  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.typing.stopAll();
    await Promise.all([this.sender.close(), this.rooms.stop()]);
    await this.lease.close(graceMs);
  }

  private dismiss(roomId: string, userId: string): void {
    const change = this.attendance.dismiss(roomId, userId);
    if (change !== undefined) this.sender.putPresence(change);
  }

  private writeAnew(): void {
    this.sender.forgetPresence();
    for (const change of this.attendance.everybody()) this.sender.putPresence(change);
  }

  private async send(presence: readonly Change[], typing: readonly Change[]): Promise<boolean> {
    const nodeId = this.lease.id;
    if (nodeId === undefined || presence.length === 0) {
      if (typing.length > 0) await sendSignals(this.db, packSignals('', { t: typing }));
      return presence.length === 0;
    }
    const written = await writePresence(this.db, nodeId, presence, packSignals(nodeId, { t: typing, p: presence }));
    if (!written) this.lease.lost(nodeId);
    return written;
  }
}
