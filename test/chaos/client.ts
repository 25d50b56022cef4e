import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';
import type { Dice } from './dice.js';
import type { Invoke, Ok } from './history.js';
import { digestOf, eventDigest, type Recorder } from './recorder.js';

const answerDeadlineMs = 10_000;
const connectDeadlineMs = 5_000;
const backOffMs = { from: 50, to: 1_000 };
/** Without a ping for so many of the node's intervals, the connection is taken for dead. */
const silentIntervals = 2.5;
/** Codes from here on mean: do not reconnect. */
const finalCodes = 4_500;

interface Frame {
  readonly event: string;
  readonly id?: string | number;
  readonly data: Record<string, unknown>;
}

interface Entry {
  readonly room_id: string;
  readonly seq: number;
  readonly content?: string;
  readonly kind?: string;
}

interface PendingSend {
  readonly invoke: Invoke;
  readonly content: string;
  readonly deadline: NodeJS.Timeout;
}

/** A send whose outcome is not known: to be sent again with the same key. */
interface UnsureSend {
  readonly room: string;
  readonly key: string;
  readonly content: string;
}

/**
 * A user with one connection at a time, as the guide of the contract wants a client to be: reconnects to any node with back-off, resumes after what it
 * holds, sends again under the same key what got no answer, and takes a connection without pings for dead. Records all that it does and sees.
 */
export class ChaosClient {
  private socket: WebSocket | undefined;
  private conn = 0;
  private helloEpoch = '';
  private stopped = false;
  private attempts = 0;
  private sent = 0;
  private silence: NodeJS.Timeout | undefined;
  private again: NodeJS.Timeout | undefined;
  /** By room: what it holds, and under which epoch; undefined before the first join. */
  private readonly followed = new Map<string, { seq: number; epoch: string } | undefined>();
  /** Rooms with a stream on this connection, and its epoch. */
  private readonly streams = new Map<string, string>();
  private readonly joining = new Map<string, number | null>();
  private readonly pending = new Map<number, PendingSend>();
  private readonly unsure: UnsureSend[] = [];

  constructor(
    readonly user: { readonly id: string; readonly token: string },
    private urls: readonly string[],
    private readonly recorder: Recorder,
    private readonly dice: Dice,
  ) {}

  start(): void {
    this.connect();
  }

  /** Ends the connection and everything that waits; what was sent without an answer is unknown. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.again);
    this.socket?.close(1000);
    this.lost(1000);
  }

  /** From now on it wants the room's stream. */
  follow(room: string): void {
    if (!this.followed.has(room)) this.followed.set(room, undefined);
    this.join(room);
  }

  /** From the next connection on it takes one of these. */
  moveTo(urls: readonly string[]): void {
    this.urls = urls;
  }

  get isConnected(): boolean {
    return this.conn !== 0;
  }

  /** Sends without an answer, on this connection or on one that was lost. */
  get undecided(): number {
    return this.pending.size + this.unsure.length;
  }

  /** Connected, with a stream of each room that it wants, and every send decided. */
  get isWhole(): boolean {
    return this.isConnected && this.undecided === 0 && [...this.followed.keys()].every((room) => this.streams.has(room));
  }

  /** Does what is still to be done to be whole. */
  catchUp(): void {
    this.resend();
    for (const room of this.followed.keys()) this.join(room);
  }

  follows(room: string): boolean {
    return this.streams.has(room);
  }

  heldSeq(room: string): number {
    return this.followed.get(room)?.seq ?? -1;
  }

  /** Sends a body that no other send has. */
  send(room: string, padding = 0, filler = 'x'): void {
    const content = `${this.user.id}:${++this.sent}:${filler.repeat(padding)}`;
    this.post({ room, key: randomUUID(), content });
  }

  /** Sends again what got no answer, the oldest first. */
  resend(): void {
    for (const send of this.unsure.splice(0)) this.post(send);
  }

  typing(room: string): void {
    if (this.streams.has(room)) this.put('typing_start', { room_id: room });
  }

  /** Cuts the connection as a network does. */
  cut(): void {
    this.socket?.terminate();
  }

  /** Becomes a device that was away since it had this seq of the room. */
  rewind(room: string, seq: number): void {
    this.cut();
    this.followed.set(room, { seq, epoch: this.followed.get(room)?.epoch ?? '' });
  }

  /** Reads nothing from now on, or again. */
  pauseReading(isPaused: boolean): void {
    if (isPaused) this.socket?.pause();
    else this.socket?.resume();
  }

  private post(send: UnsureSend): void {
    if (this.conn === 0) {
      this.unsure.push(send);
      return;
    }
    const { room, key, content } = send;
    const op = this.recorder.nextOp();
    const invoke = { type: 'invoke', op, conn: this.conn, user: this.user.id, room, key, digest: digestOf(content) } as const;
    this.recorder.record(invoke);
    const deadline = setTimeout(() => this.decide(op, 'no answer in time'), answerDeadlineMs);
    this.pending.set(op, { invoke: { at: 0, ...invoke }, content, deadline });
    this.put('send_message', { room_id: room, content, client_msg_id: key }, op);
  }

  private connect(): void {
    const url = this.urls[this.dice.below(this.urls.length)] ?? '';
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, {
      headers: { authorization: `Bearer ${this.user.token}` },
      perMessageDeflate: false,
      handshakeTimeout: connectDeadlineMs,
    });
    this.socket = socket;
    socket.on('error', () => undefined); // seen as a close
    socket.on('unexpected-response', () => socket.terminate());
    socket.on('open', () => this.hear(connectDeadlineMs)); // hello has to come
    socket.on('message', (data) => {
      if (socket === this.socket) this.take(JSON.parse((data as Buffer).toString()) as Frame);
    });
    socket.on('close', (code) => {
      if (socket !== this.socket) return;
      this.lost(code);
      if (this.stopped || code >= finalCodes) return;
      const most = Math.min(backOffMs.to, backOffMs.from * 2 ** this.attempts++);
      this.again = setTimeout(() => this.connect(), backOffMs.from + this.dice.below(most));
    });
  }

  private lost(code: number): void {
    clearTimeout(this.silence);
    this.socket = undefined;
    this.streams.clear();
    this.joining.clear();
    for (const op of this.pending.keys()) this.decide(op, `closed with ${code}`);
    if (this.conn !== 0) this.recorder.record({ type: 'close', conn: this.conn, code });
    this.conn = 0;
  }

  private hear(withinMs: number): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket?.terminate(), withinMs);
  }

  private put(event: string, data: object, id?: number | string): void {
    this.socket?.send(JSON.stringify({ event, data, ...(id !== undefined && { id }) }));
  }

  private join(room: string): void {
    if (this.conn === 0 || this.joining.has(room) || this.streams.has(room)) return;
    const held = this.followed.get(room);
    this.joining.set(room, held?.seq ?? null);
    this.put('join_room', { room_id: room, last_seen_seq: held?.seq ?? null, epoch: held?.epoch ?? null }, `join ${room}`);
  }

  private take({ event, id, data }: Frame): void {
    const room = data['room_id'] as string;
    switch (event) {
      case 'hello': {
        this.conn = this.recorder.nextConn();
        this.attempts = 0;
        this.helloEpoch = data['epoch'] as string;
        const silentMs = (data['heartbeat_ms'] as number) * silentIntervals;
        this.socket?.on('ping', () => this.hear(silentMs));
        this.hear(silentMs);
        this.recorder.record({ type: 'open', conn: this.conn, user: this.user.id, node: data['node'] as string, epoch: this.helloEpoch });
        for (const wanted of this.followed.keys()) this.join(wanted);
        return this.resend();
      }
      case 'joined_room':
        return this.begun(room, data['last_seq'] as number, data['epoch'] as string);
      case 'resync': {
        const { last_seq: lastSeq, reason, epoch } = data as { last_seq: number; reason: string; epoch: string };
        this.streams.set(room, epoch);
        this.followed.set(room, { seq: lastSeq, epoch });
        return this.recorder.record({ type: 'resync', conn: this.conn, user: this.user.id, room, lastSeq, reason, epoch });
      }
      case 'history': {
        const { messages, events = [] } = data as { messages: Entry[]; events?: Entry[] };
        for (const entry of [...messages, ...events].toSorted((a, b) => a.seq - b.seq)) this.receive(entry, 'history');
        return;
      }
      case 'new_message_batch':
        for (const entry of data as unknown as Entry[]) this.receive(entry, 'live');
        return;
      case 'room_event':
        return this.receive(data as unknown as Entry, 'live');
      case 'message_ack': {
        const {
          seq,
          id: messageId,
          duplicate,
          epoch = this.helloEpoch,
        } = data as { seq: number; id: number; duplicate: boolean; epoch?: string };
        return this.decide(Number(id), { seq, id: messageId, duplicate, epoch });
      }
      case 'error':
        return this.refused(id, data);
      default:
    }
  }

  private begun(room: string, lastSeq: number, epoch: string): void {
    const after = this.joining.get(room) ?? null;
    this.joining.delete(room);
    this.streams.set(room, epoch);
    if (after === null) this.followed.set(room, { seq: lastSeq, epoch });
    this.recorder.record({ type: 'joined', conn: this.conn, user: this.user.id, room, lastSeq, after, epoch });
  }

  private receive({ room_id: room, seq, content, kind, ...rest }: Entry, via: 'live' | 'history'): void {
    const epoch = this.streams.get(room) ?? '';
    const digest = kind === undefined ? digestOf(content ?? '') : eventDigest(kind);
    this.recorder.record({ type: 'receive', conn: this.conn, user: this.user.id, room, seq, digest, via, epoch });
    this.followed.set(room, { seq, epoch });
    const { user_id: about } = rest as { user_id?: string };
    if (about !== this.user.id || (kind !== 'left' && kind !== 'kicked' && kind !== 'banned')) return;
    this.streams.delete(room);
  }

  private refused(id: string | number | undefined, data: Record<string, unknown>): void {
    const { code, temporary } = data as { code: string; temporary: boolean };
    if (typeof id === 'number') return this.decide(id, code === 'unavailable' || code === 'internal' ? code : { code });
    if (id === undefined && typeof data['room_id'] === 'string') return this.ended(data['room_id']);
    if (typeof id !== 'string' || !id.startsWith('join ')) return;
    const room = id.slice('join '.length);
    this.joining.delete(room);
    if (temporary) setTimeout(() => this.join(room), backOffMs.to).unref();
  }

  /** The server ends a stream of its own accord: the user was found not to be a member. */
  private ended(room: string): void {
    if (this.streams.delete(room)) this.recorder.record({ type: 'left', conn: this.conn, room });
  }

  /** @param outcome a text says why it is not known */
  private decide(op: number, outcome: string | { code: string } | Pick<Ok, 'seq' | 'id' | 'duplicate' | 'epoch'>): void {
    const send = this.pending.get(op);
    if (send === undefined) return;
    this.pending.delete(op);
    clearTimeout(send.deadline);
    if (typeof outcome !== 'string') {
      if ('code' in outcome) this.recorder.record({ type: 'fail', op, code: outcome.code });
      else this.recorder.record({ type: 'ok', op, ...outcome });
      return;
    }
    this.recorder.record({ type: 'unknown', op, why: outcome });
    const { room, key } = send.invoke;
    this.unsure.push({ room, key, content: send.content });
  }
}
