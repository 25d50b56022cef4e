/**
 * The rooms that one socket follows: how a stream begins, is kept going when the socket or the database falls behind, and ends.
 *
 * Promises: a stream begins only for a member, and not above the end of its membership; what a stream misses is read a page at a time, and only
 * while the socket takes it. Where each stream stands is its Subscription's; what goes to all sockets of a room is the hub's.
 */
import type { Identity } from '../auth/access-tokens.js';
import type { Feed } from '../bus/feed.js';
import type { ChatService } from '../chat/chat.service.js';
import type { Config } from '../config.js';
import type { PresenceService } from '../presence/presence.service.js';
import type { Command, CommandId } from '../protocol/commands.js';
import { ClientError } from '../protocol/errors.js';
import { limits } from '../protocol/limits.js';
import { encode, encodeJoinedRoom, type ServerEvents } from '../protocol/encode.js';
import type { Reply } from '../protocol/replies.js';
import type { Hub } from './hub.js';
import type { Outbox } from './outbox.js';
import type { Subscriber, Subscription } from './subscription.js';

const catchUpRetryMs = 500;
/** Rooms of one socket for which a page is read at the same time. */
const caughtUpTogether = 100;

export interface StreamParts {
  readonly config: Pick<Config, 'ROOMS_PER_SOCKET_MAX'>;
  readonly chat: ChatService;
  readonly feed: Feed;
  readonly hub: Hub;
  readonly presence: PresenceService;
  /** Is told of each error, by a bug, that is tried again all the same. */
  readonly noteBug: (error: unknown) => void;
}

type Membership = Awaited<ReturnType<ChatService['membership']>>;

export type Join = (Command & { event: 'join_room' })['data'];

export class RoomStreams implements Subscriber {
  /** Whose they are; to be set before a room is joined. */
  user: Pick<Identity, 'userId' | 'username'> = { userId: '', username: '' };
  private readonly subscriptions = new Map<string, Subscription>();
  /** Joins that are not answered yet, by room. */
  private readonly joining = new Map<string, Promise<void>>();
  private catchingUp = false;
  private closed = false;

  /** @param replyError tells the client what went wrong; without an id it was no command */
  constructor(
    private readonly parts: StreamParts,
    readonly outbox: Outbox,
    private readonly replyError: (error: unknown, id: CommandId | undefined, roomId: string) => void,
  ) {}

  get userId(): string {
    return this.user.userId;
  }

  /** Gives back what it holds of the hub. */
  close(): void {
    this.closed = true;
    for (const subscription of this.subscriptions.values()) this.ended(subscription);
  }

  ended(subscription: Subscription): void {
    const { hub, presence } = this.parts;
    const { roomId } = subscription.room;
    const isMember = !subscription.isOver;
    hub.unsubscribe(subscription, this);
    if (this.subscriptions.get(roomId) !== subscription) return;
    this.subscriptions.delete(roomId);
    presence.stopTyping(roomId, this.userId, this);
    presence.leave(roomId, this.userId, isMember);
  }

  unconfirmed(subscription: Subscription): void {
    void this.confirm(subscription);
  }

  get isJoining(): boolean {
    return this.joining.size > 0;
  }

  /** True where these rooms may be joined beside those that are being joined: they are others, and not too many. */
  mayJoin(rooms: readonly Join[]): boolean {
    const isOther = rooms.length > 0 && rooms.every((room) => !this.joining.has(room.room_id));
    return isOther && this.joining.size + rooms.length <= limits.joinRoomsMax;
  }

  /** Resolves when all joins so far are answered. */
  async joined(): Promise<void> {
    await Promise.all(this.joining.values());
  }

  /** Joins rooms, none of which is being joined; each is answered, if only with an error. */
  join(rooms: readonly Join[], id?: CommandId): undefined {
    for (const room of rooms) {
      const answered = this.joinOne(room, id)
        .catch((error: unknown) => this.replyError(error, id, room.room_id))
        .finally(() => this.joining.delete(room.room_id));
      this.joining.set(room.room_id, answered);
    }
  }

  /**
   * Begins the stream of a room, or leaves it where it is when it runs and nothing is to be resumed.
   * @throws ClientError not_a_member (also where there is no such room), conflict, unavailable
   */
  private async joinOne(data: Join, id?: CommandId): Promise<void> {
    const { config, hub, chat, feed, presence } = this.parts;
    const roomId = data.room_id;
    const running = this.subscriptions.get(roomId);
    const begun = [...this.joining.keys()].filter((other) => other !== roomId && !this.subscriptions.has(other)).length;
    if (running === undefined && this.subscriptions.size + begun >= config.ROOMS_PER_SOCKET_MAX) {
      throw new ClientError('conflict', `One socket may follow ${config.ROOMS_PER_SOCKET_MAX} rooms: leave one first.`);
    }
    const subscription = hub.subscribe(roomId, this);
    const { room } = subscription;
    const { epoch } = feed;
    const { generation } = room;
    try {
      const [membership] = await Promise.all([chat.membership(roomId, this.userId), presence.ready(roomId)]);
      // What was read may be of the log that is lost; or the log was begun meanwhile, above an end of this membership, which is passed on to nobody then.
      const isStale = epoch !== feed.epoch || (generation !== room.generation && membership.lastSeq < room.lastSeq);
      if (this.closed || isStale) hub.unsubscribe(subscription, this);
      if (this.closed) return;
      if (isStale) return this.joinOne(data, id);
      // It ended after it was read, and the end was passed on before the answer came: a stream would begin above it.
      if (subscription.endedAfter(membership.lastSeq)) throw new ClientError('not_a_member');
      feed.open(room, membership.lastSeq);
      const seen = data.last_seen_seq ?? undefined;
      if (running?.isOf(membership) === true && seen === undefined) {
        // The stream of this membership is there already, and goes on where it is.
        hub.unsubscribe(subscription, this);
        return this.replyJoined(roomId, running.lastSeq, id);
      }
      if (running !== undefined) this.ended(running);
      this.subscriptions.set(roomId, subscription);
      presence.enter(roomId, this.userId, this.user.username);
      this.startStream(subscription, membership, seen, data.epoch ?? undefined, id);
    } catch (error) {
      hub.unsubscribe(subscription, this);
      throw error;
    }
  }

  leave(roomId: string, id?: CommandId): undefined {
    const subscription = this.subscriptions.get(roomId);
    if (subscription !== undefined) this.ended(subscription);
    this.reply('left_room', { room_id: roomId }, id);
  }

  typing(roomId: string, isTyping: boolean): undefined {
    if (!this.subscriptions.has(roomId)) throw new ClientError('not_a_member', 'Follow the room on this connection first: send join_room.');
    if (isTyping) this.parts.presence.startTyping(roomId, this.userId, this.user.username, this);
    else this.parts.presence.stopTyping(roomId, this.userId, this);
  }

  /** Reads what the streams of this socket miss, a page of each at a time, while the socket takes it. */
  async catchUp(): Promise<void> {
    if (this.catchingUp) return;
    this.catchingUp = true;
    try {
      for (let behind = this.behind(); behind.length > 0; behind = this.behind()) {
        if (!this.outbox.hasRoom) return; // called again when it has drained
        // Many at once, so that they are few reads, and each with a part of what the socket takes now, so that little is read in vain.
        const next = behind.slice(0, caughtUpTogether);
        const maxBytes = Math.ceil(this.outbox.freeBytes / next.length);
        const pages = await Promise.allSettled(next.map((subscription) => subscription.catchUp(maxBytes)));
        for (const subscription of next) this.putLast(subscription);
        const errors = pages.filter((page) => page.status === 'rejected').map(({ reason }): unknown => reason);
        if (errors.length > 0) throw errors.find((error) => !isTemporary(error)) ?? errors[0];
      }
      this.tellAfresh();
    } catch (error) {
      if (!isTemporary(error)) this.parts.noteBug(error);
      setTimeout(() => void this.catchUp(), catchUpRetryMs * (0.5 + Math.random())).unref(); // the streams stand where they stood
    } finally {
      this.catchingUp = false;
    }
  }

  private startStream(
    subscription: Subscription,
    membership: Membership,
    seen: number | undefined,
    epoch: string | undefined,
    id: CommandId | undefined,
  ): void {
    const { feed } = this.parts;
    const { lastSeq, hiddenTo } = membership;
    const head = Math.max(lastSeq, subscription.room.lastSeq);
    this.replyJoined(subscription.room.roomId, head, id);
    const hidden = seen !== undefined && seen < hiddenTo;
    const reason =
      epoch !== undefined && epoch !== feed.epoch ? 'epoch_changed' : seen !== undefined && seen > head ? 'ahead_of_room' : undefined;
    if (seen === undefined || reason !== undefined) {
      subscription.begin(membership);
      if (reason !== undefined) subscription.resync(reason, id);
      return;
    }
    subscription.begin(membership, hidden ? hiddenTo : seen, id);
    if (hidden)
      this.reply('resync', { room_id: subscription.room.roomId, reason: 'history_hidden', last_seq: hiddenTo, epoch: feed.epoch }, id);
    void this.catchUp();
  }

  private replyJoined(roomId: string, lastSeq: number, id?: CommandId): undefined {
    const { feed, presence } = this.parts;
    this.outbox.put(encodeJoinedRoom({ room_id: roomId, last_seq: lastSeq, epoch: feed.epoch }, presence.list(roomId), id));
    for (const text of presence.typingFrames(roomId, this.userId)) this.outbox.put(text);
  }

  private async confirm(subscription: Subscription): Promise<void> {
    const { roomId, generation } = subscription.room;
    const isOurs = () => this.subscriptions.get(roomId) === subscription && generation === subscription.room.generation; // begun again, it is confirmed again
    try {
      const membership = await this.parts.chat.membership(roomId, this.userId);
      if (!isOurs()) return;
      if (subscription.endedAfter(membership.lastSeq)) throw new ClientError('not_a_member');
      subscription.confirm(membership);
      void this.catchUp();
    } catch (error) {
      if (!isOurs()) return;
      if (isTemporary(error)) {
        setTimeout(() => void this.confirm(subscription), catchUpRetryMs * (0.5 + Math.random())).unref();
        return;
      }
      this.ended(subscription);
      this.replyError(error, undefined, roomId);
    }
  }

  /** What this socket could not take of presence and typing, it is told as it is now. */
  private tellAfresh(): void {
    for (const subscription of this.subscriptions.values()) {
      if (!this.outbox.hasRoom) return; // called again when it has drained
      if (!subscription.takeMissedSignals()) continue;
      for (const text of this.parts.presence.framesAfresh(subscription.room.roomId, this.userId)) this.outbox.put(text);
    }
  }

  /** So that each has its turn, also where the socket never takes what all of them miss. */
  private putLast(subscription: Subscription): void {
    const { roomId } = subscription.room;
    if (this.subscriptions.get(roomId) !== subscription) return;
    this.subscriptions.delete(roomId);
    this.subscriptions.set(roomId, subscription);
  }

  private behind(): Subscription[] {
    return [...this.subscriptions.values()].filter(({ isBehind }) => isBehind);
  }

  private reply<Event extends keyof Reply>(event: Event, data: ServerEvents[Event], id?: CommandId): undefined {
    this.outbox.put(encode(event, data, id));
  }
}

/** The database is away, most likely. */
const isTemporary = (error: unknown): boolean => error instanceof ClientError && error.temporary;
