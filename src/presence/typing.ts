/**
 * Who is typing. A node tells the others of its own sockets' typing, at most every two seconds while it goes on, and that it stopped; what a node
 * heard expires there by itself, so that nobody types for ever because a node died or a signal was dropped. Sockets are told only of the beginning
 * and of the end. A message ends the typing of its sender in its room; what that costs where nobody types is one look into a map.
 */
import type { LogEntry } from '../bus/payload.js';
import { encode } from '../protocol/encode.js';
import { limits } from '../protocol/limits.js';
import { endsMembership } from '../protocol/room-event.js';
import type { Change, Signal } from './signals.js';

/** Of one room: what comes within it leaves together. */
const windowMs = 200;

/** A user who types through sockets of this node. */
interface OwnTyping {
  readonly username: string;
  readonly sockets: Set<object>;
  /** When the others were last told. */
  saidAt: number;
}

interface Typist {
  readonly username: string;
  expiresAt: number;
}

/** A frame for a room's sockets, all but the user's own. */
export interface TypingFrame {
  readonly text: string;
  readonly exceptUserId: string;
}

interface Telling {
  /** The newest frame of each user. */
  frames: Map<string, TypingFrame>;
  timer: NodeJS.Timeout | undefined;
}

export interface TypingOptions {
  /** Tells all nodes, this one too. */
  put(change: Change): void;
  /** Holds back what was put of a user and not sent yet. Returns true when some of it is on its way. */
  cancel(roomId: string, userId: string): boolean;
  push(roomId: string, frames: readonly TypingFrame[]): void;
}

export class Typing {
  private readonly own = new Map<string, Map<string, OwnTyping>>();
  private readonly heard = new Map<string, Map<string, Typist>>();
  private readonly telling = new Map<string, Telling>();

  constructor(private readonly options: TypingOptions) {}

  /** @param socket what stands for the socket: typing ends with the last one that types */
  start(roomId: string, userId: string, username: string, socket: object, now = performance.now()): void {
    const ofRoom = this.own.get(roomId) ?? new Map<string, OwnTyping>();
    this.own.set(roomId, ofRoom);
    const own = ofRoom.get(userId) ?? { username, sockets: new Set(), saidAt: Number.NEGATIVE_INFINITY };
    ofRoom.set(userId, own);
    own.sockets.add(socket);
    if (now - own.saidAt < limits.typingRepeatMs) return;
    own.saidAt = now;
    this.options.put({ roomId, userId, username, isOn: true });
  }

  stop(roomId: string, userId: string, socket: object, now = performance.now()): void {
    const own = this.own.get(roomId)?.get(userId);
    if (own?.sockets.delete(socket) !== true || own.sockets.size > 0) return;
    this.forgetOwn(roomId, userId);
    if (now - own.saidAt < limits.typingExpiryMs) this.options.put({ roomId, userId, username: own.username, isOn: false });
  }

  /** A room's next entries: who said something is not typing it any more. */
  delivered(roomId: string, entries: readonly LogEntry[]): void {
    const own = this.own.get(roomId);
    const heard = this.heard.get(roomId);
    if (own === undefined && heard === undefined) return;
    for (const { json, event } of entries) {
      const userId = event === undefined ? senderOf(json) : endsMembership(event.kind) ? event.user_id : undefined;
      if (userId === undefined) continue;
      this.ended(roomId, userId);
      const mine = own?.get(userId);
      if (mine === undefined) continue;
      this.forgetOwn(roomId, userId);
      // A start that is on its way may arrive after the message.
      if (this.options.cancel(roomId, userId)) this.options.put({ roomId, userId, username: mine.username, isOn: false });
    }
  }

  signal({ room_id: roomId, on, off }: Signal, now = performance.now()): void {
    for (const [userId, username] of on) {
      const ofRoom = this.heard.get(roomId) ?? new Map<string, Typist>();
      const typist = ofRoom.get(userId);
      if (typist !== undefined) typist.expiresAt = now + limits.typingExpiryMs;
      if (typist !== undefined || ofRoom.size >= limits.typingUsersMax) continue;
      this.heard.set(roomId, ofRoom.set(userId, { username, expiresAt: now + limits.typingExpiryMs }));
      this.tell(roomId, userId, username, true);
    }
    for (const userId of off) this.ended(roomId, userId);
  }

  /** Ends the typing that was not renewed. Costs nothing while nobody types. */
  expire(now = performance.now()): void {
    for (const [roomId, ofRoom] of this.heard) {
      for (const [userId, { expiresAt }] of ofRoom) if (expiresAt <= now) this.ended(roomId, userId);
    }
  }

  /** Who types now, as frames for a socket that has just come. */
  frames(roomId: string, exceptUserId: string): string[] {
    return [...(this.heard.get(roomId) ?? [])]
      .filter(([userId]) => userId !== exceptUserId)
      .map(([userId, { username }]) => text(roomId, userId, username, true));
  }

  /** The room is not followed on this node any more. */
  close(roomId: string): void {
    clearTimeout(this.telling.get(roomId)?.timer);
    this.telling.delete(roomId);
    this.heard.delete(roomId);
  }

  stopAll(): void {
    for (const roomId of this.telling.keys()) this.close(roomId);
  }

  private ended(roomId: string, userId: string): void {
    const ofRoom = this.heard.get(roomId);
    const typist = ofRoom?.get(userId);
    if (ofRoom === undefined || typist === undefined) return;
    ofRoom.delete(userId);
    if (ofRoom.size === 0) this.heard.delete(roomId);
    this.tell(roomId, userId, typist.username, false);
  }

  private forgetOwn(roomId: string, userId: string): void {
    const ofRoom = this.own.get(roomId);
    ofRoom?.delete(userId);
    if (ofRoom?.size === 0) this.own.delete(roomId);
  }

  /** The first change after a quiet window leaves at once, the next ones at its end. */
  private tell(roomId: string, userId: string, username: string, isTyping: boolean): void {
    const telling = this.telling.get(roomId);
    const frame: TypingFrame = { text: text(roomId, userId, username, isTyping), exceptUserId: userId };
    if (telling !== undefined) return void telling.frames.set(userId, frame);
    const opened: Telling = { frames: new Map(), timer: undefined };
    this.telling.set(roomId, opened);
    this.options.push(roomId, [frame]);
    opened.timer = setTimeout(() => this.endWindow(roomId, opened), windowMs);
  }

  private endWindow(roomId: string, telling: Telling): void {
    if (telling.frames.size === 0) return void this.telling.delete(roomId);
    this.options.push(roomId, [...telling.frames.values()]);
    telling.frames = new Map();
    telling.timer = setTimeout(() => this.endWindow(roomId, telling), windowMs);
  }
}

const text = (room_id: string, user_id: string, username: string, is_typing: boolean): string =>
  encode('typing', { room_id, user_id, username, is_typing });

const userIdMark = '"user_id":"';

/** The sender of a message, from the text that PostgreSQL made, where user_id stands before anything that a user wrote. */
function senderOf(json: string): string {
  const at = json.indexOf(userIdMark) + userIdMark.length;
  return json.slice(at, at + 36);
}
