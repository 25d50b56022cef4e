/**
 * One stay in a room, over any number of connections.
 *
 * Promises: what is shown of the room goes up by one seq after the other, whatever happens to connections; what was typed is stored once and in the
 * order in which it was typed, because each message keeps its client_msg_id until it was acked and the next one waits for that.
 */
import { v7 as uuidv7 } from 'uuid';
import { WebSocket } from 'ws';
import { closeCodes } from '../../src/protocol/close-codes.js';
import type { ServerEvents } from '../../src/protocol/encode.js';
import { limits } from '../../src/protocol/limits.js';
import type { Message } from '../../src/protocol/message.js';
import type { Reply } from '../../src/protocol/replies.js';
import type { RoomEvent } from '../../src/protocol/room-event.js';
import { Refused, readRecent, type Account } from './account.js';
import { plainText } from './text.js';

const handshakeTimeoutMs = 10_000;
const retryFirstMs = 500;
const retryMaxMs = 30_000;
/** A connection on which nothing came for so many of the server's heartbeats is dead, whatever TCP believes. */
const missedHeartbeats = 2.5;
/** A token is renewed when a quarter of its life is left, but at most so long before its end. */
const renewBeforeMs = 60_000;
const renewRetryMs = 5_000;
const leaveDeadlineMs = 1_000;
const sentDeadlineMs = 60_000;
const waitingMax = 100;

export interface SessionEvents {
  message(message: Message): void;
  event(event: RoomEvent): void;
  /** About the connection and what was refused. */
  notice(text: string): void;
}

export interface SessionEnd {
  /** Messages that were typed and not acked. */
  readonly unsent: number;
  /** Why it had to end; undefined when it was left. */
  readonly reason: string | undefined;
}

interface Waiting {
  readonly clientMsgId: string;
  readonly content: string;
}

/** What comes in; fields that others than these have are passed over. */
type Frame = { [Event in keyof ServerEvents]: { event: Event; data: ServerEvents[Event]; id?: string } }[keyof ServerEvents];

export class ChatSession {
  readonly ended: Promise<SessionEnd>;
  private resolveEnded: (end: SessionEnd) => void = () => undefined;
  private socket: WebSocket | undefined;
  private epoch: string | undefined;
  /** Typed and not acked, in order. Only the first is under way. */
  private readonly waiting: Waiting[] = [];
  private hasJoined = false;
  private isSending = false;
  private attempt = 0;
  private isLost = false;
  private isLeaving = false;
  private isOver = false;
  private heartbeatMs = 30_000;
  private readonly timers = new Map<'alive' | 'retry' | 'renew' | 'resend' | 'leave', NodeJS.Timeout>();
  private onRoom: (() => void)[] = [];

  /** @param lastSeq the last seq of the room that was shown already */
  constructor(
    private readonly account: Account,
    private readonly roomId: string,
    private lastSeq: number,
    private readonly events: SessionEvents,
  ) {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
  }

  start(): void {
    this.connect();
  }

  /** Resolves when more can be taken. */
  async send(content: string): Promise<void> {
    if (content.length > limits.contentMaxCharacters && Array.from(content).length > limits.contentMaxCharacters) {
      return this.events.notice(`Not sent: it has more than ${limits.contentMaxCharacters.toLocaleString('en')} characters.`);
    }
    this.waiting.push({ clientMsgId: uuidv7(), content });
    if (this.isLost) this.events.notice('It will be sent when the connection is back.');
    this.sendNext();
    if (this.waiting.length >= waitingMax) await new Promise<void>((room) => this.onRoom.push(room));
  }

  /** Ends the session; what is under way gets a moment to be acked. */
  leave(withinMs = leaveDeadlineMs): void {
    this.isLeaving = true;
    this.later('leave', withinMs, () => this.end());
    if (this.waiting.length === 0 || this.socket === undefined) this.end();
  }

  /** Ends the session when everything was acked, or when nothing was for too long. */
  leaveWhenSent(): void {
    this.isLeaving = true;
    this.later('leave', sentDeadlineMs, () => this.end());
    if (this.waiting.length === 0) this.end();
  }

  private end(reason?: string): void {
    if (this.isOver) return;
    this.isOver = true;
    for (const timer of this.timers.values()) clearTimeout(timer);
    const { socket } = this;
    const resolve = () => this.resolveEnded({ unsent: this.waiting.length, reason });
    for (const room of this.onRoom) room();
    if (socket?.readyState !== WebSocket.OPEN) {
      socket?.terminate();
      return resolve();
    }
    this.command('leave_room', { room_id: this.roomId });
    socket.on('close', resolve);
    socket.close(1000);
    setTimeout(() => socket.terminate(), leaveDeadlineMs).unref();
  }

  private connect(): void {
    const url = `${this.account.url.replace(/^http/, 'ws').replace(/\/+$/, '')}/ws`;
    const socket = new WebSocket(url, { handshakeTimeout: handshakeTimeoutMs, perMessageDeflate: false });
    this.socket = socket;
    socket.on('open', () => this.command('auth', { token: this.account.accessToken }, 'auth'));
    socket.on('message', (data) => {
      this.isAlive();
      if (socket === this.socket && !this.isOver) this.receive((data as Buffer).toString());
    });
    socket.on('ping', () => this.isAlive());
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', (code) => {
      if (socket === this.socket) this.closed(code);
    });
  }

  private closed(code: number): void {
    this.socket = undefined;
    this.hasJoined = false;
    this.isSending = false;
    if (this.isOver) return;
    for (const name of ['alive', 'renew', 'resend'] as const) clearTimeout(this.timers.get(name));
    if (code >= 4500) {
      const known = Object.values(closeCodes).find((closing) => closing.code === code);
      return this.end(known?.meaning ?? `The server ended the connection for good (${code}).`);
    }
    if (!this.isLost) this.events.notice('The connection was lost; trying to get it back.');
    this.isLost = true;
    if (code === closeCodes.tokenExpired.code) return void this.renew().then((isRenewed) => this.connectLater(isRenewed ? 0 : undefined));
    this.connectLater();
  }

  /** Waits a random part of an exponentially growing time, so that the clients of a node that went away do not come back all at once. */
  private connectLater(waitMs = Math.random() * Math.min(retryMaxMs, retryFirstMs * 2 ** this.attempt)): void {
    if (this.isOver) return;
    this.attempt++;
    this.later('retry', waitMs, () => this.connect());
  }

  /** Pings come in any case: silence means that the other end is gone. */
  private isAlive(): void {
    this.later('alive', this.heartbeatMs * missedHeartbeats, () => this.socket?.terminate());
  }

  private receive(text: string): void {
    const { event, data, id } = JSON.parse(text) as Frame;
    switch (event) {
      case 'hello':
        this.heartbeatMs = data.heartbeat_ms;
        this.renewBefore(data.token_expires_at);
        return this.join();
      case 'joined_room':
        return this.joined(data.epoch);
      case 'new_message_batch':
        return this.takeAll(data);
      case 'room_event':
        return this.takeAll([], [data]);
      case 'history':
        return this.takeAll(data.messages, data.events);
      case 'resync':
        return this.resync(data);
      case 'message_ack':
        return this.acked(data.client_msg_id);
      case 'token_refreshed':
        return this.renewBefore(data.token_expires_at);
      case 'error':
        return this.refused(data, id);
      case 'reconnect':
        return this.later('retry', data.after_ms + leaveDeadlineMs, () => this.socket?.close(1000)); // the node closes before, if it can
      default: // who is online, who types
    }
  }

  private join(): void {
    const known = this.epoch === undefined ? {} : { epoch: this.epoch };
    this.command('join_room', { room_id: this.roomId, last_seen_seq: this.lastSeq, ...known }, 'join');
  }

  private joined(epoch: string): void {
    if (this.isLost) this.events.notice('The connection is back.');
    this.isLost = false;
    this.attempt = 0;
    this.epoch = epoch;
    this.hasJoined = true;
    this.sendNext();
  }

  private takeAll(messages: readonly Message[], events: readonly RoomEvent[] = []): void {
    const entries = [
      ...messages.map((message) => ({ seq: message.seq, show: () => this.events.message(message) })),
      ...events.map((event) => ({ seq: event.seq, show: () => this.showEvent(event) })),
    ];
    for (const { seq, show } of entries.toSorted((a, b) => a.seq - b.seq)) {
      if (seq <= this.lastSeq) continue;
      if (seq > this.lastSeq + 1) return this.socket?.terminate(); // something is missing: resume from where we are
      this.lastSeq = seq;
      show();
    }
  }

  private showEvent(event: RoomEvent): void {
    this.events.event(event);
    const isRemoval = event.kind === 'kicked' || event.kind === 'banned';
    if (isRemoval && event.user_id === this.account.user.id) this.end('You were removed from the room.');
    if (event.kind === 'deleted') this.end('The room was deleted.');
  }

  private resync({ reason, last_seq, epoch }: Reply['resync']): void {
    this.lastSeq = last_seq;
    this.epoch = epoch;
    if (reason === 'history_hidden') return;
    this.events.notice('The room has another history than the one shown above; its last messages:');
    readRecent(this.account, this.roomId).then(
      ({ messages }) => messages.filter(({ seq }) => seq <= last_seq).forEach((message) => this.events.message(message)),
      () => this.events.notice('They could not be read.'),
    );
  }

  private sendNext(): void {
    const [first] = this.waiting;
    if (first === undefined || !this.hasJoined || this.isSending || this.isOver) return;
    this.isSending = true;
    this.command('send_message', { room_id: this.roomId, content: first.content, client_msg_id: first.clientMsgId }, first.clientMsgId);
  }

  private acked(clientMsgId: string | undefined): void {
    if (clientMsgId !== this.waiting[0]?.clientMsgId) return;
    this.isSending = false;
    this.waiting.shift();
    if (this.waiting.length < waitingMax) this.onRoom.shift()?.();
    if (!this.isLeaving) return this.sendNext();
    if (this.waiting.length === 0) return this.end();
    this.later('leave', sentDeadlineMs, () => this.end());
    this.sendNext();
  }

  private refused({ code, message, temporary, retry_after_ms }: Reply['error'], id: string | undefined): void {
    const why = plainText(message);
    const waitMs = retry_after_ms ?? retryFirstMs;
    if (id === 'auth') {
      if (code === 'token_expired') return void this.renew().then(() => this.socket?.close(1000));
      return temporary ? this.socket?.close(1000) : this.end(why);
    }
    if (id === 'join') return temporary ? this.later('resend', waitMs, () => this.join()) : this.end(why);
    const [first] = this.waiting;
    if (id === undefined || id !== first?.clientMsgId) return this.events.notice(why);
    if (temporary) {
      return this.later('resend', waitMs, () => {
        this.isSending = false;
        this.sendNext();
      });
    }
    this.events.notice(`Not sent (${why}): ${plainText(first.content.slice(0, 60))}`);
    this.acked(first.clientMsgId);
  }

  private renewBefore(expiresAt: string): void {
    const leftMs = Math.max(0, Date.parse(expiresAt) - Date.now());
    const renewNow = (): void => {
      void this.renew().then((isRenewed) => {
        if (isRenewed) this.command('refresh_token', { token: this.account.accessToken }, 'renew');
        else this.later('renew', renewRetryMs, renewNow);
      });
    };
    this.later('renew', leftMs - Math.min(renewBeforeMs, leftMs / 4), renewNow);
  }

  /** @returns false when it has to be tried again later */
  private async renew(): Promise<boolean> {
    try {
      await this.account.refresh();
      return true;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) this.end('Your login has ended: start again.');
      return false;
    }
  }

  private command(event: string, data: object, id?: string): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ event, data, id }));
  }

  private later(name: 'alive' | 'retry' | 'renew' | 'resend' | 'leave', waitMs: number, then: () => void): void {
    clearTimeout(this.timers.get(name));
    if (!this.isOver) this.timers.set(name, setTimeout(then, waitMs));
  }
}
