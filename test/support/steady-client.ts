/**
 * A client as the contract wants it: it reconnects with back-off and jitter, resumes from the last seq that it holds with the epoch that it knows, and
 * sends what was not acked again with the same client_msg_id, in the order in which it was said. What it receives is checked as it comes.
 */
import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';

const retryFirstMs = 200;
const retryMaxMs = 2_000;
/** Sends that may be unanswered at once. */
const pipelineMax = 3;

interface Entry {
  seq: number;
  content?: string;
  kind?: string;
}

interface Frame {
  event: string;
  id?: string;
  data: Record<string, unknown> & { epoch?: string; last_seq?: number; after_ms?: number; node?: string };
}

/** How one connection ended. */
export interface Closed {
  readonly code: number;
  readonly node: string | undefined;
  readonly at: number;
}

export class SteadyClient {
  /** Contents by seq, from the first that it received; events stand as `[kind]`. */
  readonly held = new Map<number, string>();
  readonly violations: string[] = [];
  readonly closes: Closed[] = [];
  /** Status or error of each attempt to connect that failed. */
  readonly refusals: { readonly reason: string; readonly at: number }[] = [];
  /** When it was live again, each time. */
  readonly liveAt: number[] = [];
  readonly acked: string[] = [];
  /** The node it is connected to, while it is. */
  node: string | undefined;
  lastSeq: number | undefined;
  private epoch: string | undefined;
  private socket: WebSocket | undefined;
  private isLive = false;
  private isOver = false;
  private attempt = 0;
  private timer: NodeJS.Timeout | undefined;
  private readonly waiting: { readonly id: string; readonly content: string; sent: boolean }[] = [];

  constructor(
    private readonly url: string,
    private readonly token: string,
    private readonly roomId: string,
  ) {
    this.connect();
  }

  get live(): boolean {
    return this.isLive;
  }

  get unacked(): number {
    return this.waiting.length;
  }

  say(content: string): void {
    this.waiting.push({ id: randomUUID(), content, sent: false });
    this.sendNext();
  }

  end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
    this.socket?.terminate();
  }

  private connect(): void {
    const socket = new WebSocket(`${this.url.replace('http', 'ws')}/ws?token=${this.token}`, { handshakeTimeout: 10_000 });
    this.socket = socket;
    let isOpen = false;
    socket.on('open', () => (isOpen = true));
    socket.on('message', (data) => this.receive(JSON.parse((data as Buffer).toString()) as Frame));
    socket.on('error', (error) => {
      if (!isOpen && !this.isOver) this.refusals.push({ reason: error.message, at: Date.now() });
    });
    socket.on('close', (code) => {
      if (isOpen && !this.isOver) this.closes.push({ code, node: this.node, at: Date.now() });
      this.node = undefined;
      this.isLive = false;
      for (const message of this.waiting) message.sent = false;
      const waitMs = Math.random() * Math.min(retryMaxMs, retryFirstMs * 2 ** this.attempt++);
      if (!this.isOver) this.timer = setTimeout(() => this.connect(), waitMs);
    });
  }

  private receive({ event, id, data }: Frame): void {
    switch (event) {
      case 'hello':
        this.node = data.node;
        return this.command('join_room', {
          room_id: this.roomId,
          ...(this.lastSeq !== undefined && { last_seen_seq: this.lastSeq, epoch: this.epoch }),
        });
      case 'joined_room':
        this.epoch = data.epoch;
        this.lastSeq ??= data.last_seq;
        this.attempt = 0;
        this.isLive = true;
        this.liveAt.push(Date.now());
        return this.sendNext();
      case 'history': {
        const { messages, events } = data as unknown as { messages: Entry[]; events: Entry[] };
        return [...messages, ...events].toSorted((a, b) => a.seq - b.seq).forEach((entry) => this.hold(entry));
      }
      case 'new_message_batch':
        return (data as unknown as Entry[]).forEach((entry) => this.hold(entry));
      case 'room_event':
        return this.hold(data as unknown as Entry);
      case 'message_ack':
        return this.answered(id);
      case 'error':
        if (data['temporary'] !== true) this.violations.push(`refused: ${JSON.stringify(data)}`);
        this.socket?.close(); // and again, in order, on the next connection
        return;
      case 'resync':
        this.violations.push(`resync: ${JSON.stringify(data)}`);
        return;
      default: // what is not of the room's log
    }
  }

  private hold({ seq, content, kind }: Entry): void {
    if (this.lastSeq === undefined || seq !== this.lastSeq + 1) this.violations.push(`${seq} came after ${this.lastSeq}`);
    this.held.set(seq, content ?? `[${kind}]`);
    this.lastSeq = seq;
  }

  private answered(id: string | undefined): void {
    if (id !== this.waiting[0]?.id) this.violations.push(`the ack of ${id} came before that of ${this.waiting[0]?.id}`);
    const message = this.waiting.shift();
    if (message !== undefined) this.acked.push(message.content);
    this.sendNext();
  }

  private sendNext(): void {
    if (!this.isLive) return;
    for (const message of this.waiting.slice(0, pipelineMax)) {
      if (message.sent) continue;
      message.sent = true;
      this.command('send_message', { room_id: this.roomId, content: message.content, client_msg_id: message.id }, message.id);
    }
  }

  private command(event: string, data: object, id?: string): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ event, id, data }));
  }
}
