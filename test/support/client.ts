import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';
import { noteFrame } from './contract.js';
import { eventually } from './eventually.js';

export interface Frame {
  event: string;
  id?: string | number;
  data: Record<string, unknown>;
}

interface ResumedRoom {
  room_id: string;
  last_seen_seq?: number | null;
}

export interface Message {
  id: number;
  seq: number;
  room_id: string;
  user_id: string;
  username: string;
  content: string;
  client_msg_id?: string;
  created_at: string;
}

/**
 * A client of the contract that checks as it goes: of each room it holds what it received, and any seq that does not continue what came before, on
 * this connection or on the one it resumed from, is kept in `violations`. A frame that is not as its schema says fails the test.
 */
export class TestClient {
  readonly frames: Frame[] = [];
  readonly violations: string[] = [];
  /** Contents by seq, for each room; events stand as `[kind]`. */
  readonly rooms = new Map<string, Map<number, string>>();
  readonly messages: Message[] = [];
  closed: { code: number; reason: string } | undefined;
  private readonly last = new Map<string, number>();
  /** Above the ids that tests choose for themselves. */
  private nextId = 1_000_001;
  /** Events by id. */
  private readonly commands = new Map<string | number, string>();
  private readonly waiting = new Map<string | number, { answered: (frame: Frame) => void; failed: (error: Error) => void }>();

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data) => this.take(JSON.parse((data as Buffer).toString()) as Frame));
    socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
      for (const { failed } of this.waiting.values()) failed(new Error(`closed with ${code}`));
    });
    socket.on('error', () => undefined); // seen as a close
  }

  /** Connects with a token in the address, or without one. Resolves when open; rejects with the status of a refused handshake. */
  static async connect(
    url: string,
    token?: string,
    previous?: TestClient,
    path = '/ws',
    headers: Record<string, string> = {},
  ): Promise<TestClient> {
    const socket = new WebSocket(`${url.replace('http', 'ws')}${path}${token === undefined ? '' : `?token=${token}`}`, { headers });
    const client = new TestClient(socket);
    for (const [room, held] of previous?.rooms ?? []) client.rooms.set(room, new Map(held));
    for (const [room, seq] of previous?.last ?? []) client.last.set(room, seq);
    await new Promise<void>((open, refused) => {
      socket.once('open', open);
      socket.once('unexpected-response', (_, response) => refused(new Error(`refused with ${response.statusCode}`)));
      socket.once('error', refused);
    });
    return client;
  }

  raw(data: string | Buffer): void {
    if (typeof data === 'string' && data.includes('"last_seen_seq"')) this.noteResume(data);
    this.socket.send(data);
  }

  /** Sends a command and resolves with the first frame that answers it; rejects when the socket closes before. */
  command(event: string, data: object): Promise<Frame> {
    const id = this.nextId++;
    this.commands.set(id, event);
    const answer = new Promise<Frame>((answered, failed) => this.waiting.set(id, { answered, failed }));
    this.raw(JSON.stringify({ event, id, data }));
    return answer;
  }

  /** Joins at once, or resumes after what it holds of the room. */
  join(roomId: string, resume = false): Promise<Frame> {
    return this.command('join_room', { room_id: roomId, ...(resume && { last_seen_seq: this.lastSeq(roomId) }) });
  }

  /** Resolves with the seq, after the commit; rejects with the error's code. */
  async send(roomId: string, content: string, clientMsgId: string = randomUUID()): Promise<number> {
    const { event, data } = await this.command('send_message', { room_id: roomId, content, client_msg_id: clientMsgId });
    if (event !== 'message_ack') throw new Error(String(data['code']));
    return data['seq'] as number;
  }

  lastSeq(roomId: string): number {
    return Math.max(0, ...(this.rooms.get(roomId)?.keys() ?? []));
  }

  /** Waits for the first frame of an event, from now or before. */
  frame(event: string, where: (data: Record<string, unknown>) => boolean = () => true): Promise<Frame> {
    return eventually(() => this.frames.find((frame) => frame.event === event && where(frame.data)), `a frame ${event}`);
  }

  /** Waits until it has received everything up to `seq`. */
  async reaches(roomId: string, seq: number, withinMs = 10_000): Promise<void> {
    await eventually(() => this.lastSeq(roomId) >= seq, `seq ${seq} (at ${this.lastSeq(roomId)})`, withinMs);
  }

  contents(roomId: string): string[] {
    return [...(this.rooms.get(roomId) ?? [])].toSorted(([a], [b]) => a - b).map(([, content]) => content);
  }

  async close(): Promise<void> {
    this.socket.close();
    await eventually(() => this.closed, 'the socket to close');
  }

  /** Cuts the connection as a network does. */
  cut(): void {
    this.socket.terminate();
  }

  private take(frame: Frame): void {
    noteFrame(frame, this.commands.get(frame.id ?? 0));
    this.frames.push(frame);
    if (frame.event === 'new_message_batch') for (const message of frame.data as unknown as Message[]) this.takeMessage(message);
    if (frame.event === 'room_event')
      this.hold(frame.data['room_id'] as string, frame.data['seq'] as number, `[${String(frame.data['kind'])}]`);
    if (frame.event === 'history') this.takeHistory(frame.data);
    const { room_id, last_seq } = frame.data as { room_id: string; last_seq: number };
    if (frame.event === 'joined_room' && !this.rooms.has(room_id)) this.startAt(room_id, last_seq, '[start]');
    if (frame.event === 'resync') this.startAt(room_id, last_seq, '[resync]');
    if (frame.id !== undefined) {
      this.waiting.get(frame.id)?.answered(frame);
      this.waiting.delete(frame.id);
    }
  }

  private takeHistory({
    messages = [],
    events = [],
  }: {
    messages?: Message[];
    events?: { room_id: string; seq: number; kind: string }[];
  }): void {
    const entries = [...messages, ...events].toSorted((a, b) => a.seq - b.seq);
    for (const entry of entries) {
      if ('kind' in entry) this.hold(entry.room_id, entry.seq, `[${entry.kind}]`);
      else this.takeMessage(entry);
    }
  }

  private takeMessage(message: Message): void {
    this.messages.push(message);
    this.hold(message.room_id, message.seq, message.content);
  }

  private startAt(roomId: string, seq: number, mark: string): void {
    this.rooms.set(roomId, new Map([[seq, mark]]));
    this.last.set(roomId, seq);
  }

  /** What comes next of the room continues the seq that was given. */
  private noteResume(command: string): void {
    const { data } = JSON.parse(command) as { data: ResumedRoom & { rooms?: ResumedRoom[] } };
    for (const { room_id, last_seen_seq } of data.rooms ?? [data]) {
      if (typeof last_seen_seq !== 'number') continue;
      if (!this.rooms.has(room_id)) this.rooms.set(room_id, new Map());
      this.last.set(room_id, last_seen_seq);
    }
  }

  private hold(roomId: string, seq: number, content: string): void {
    const held = this.rooms.get(roomId) ?? new Map<number, string>();
    this.rooms.set(roomId, held);
    const last = this.last.get(roomId);
    if (last !== undefined && seq !== last + 1) this.violations.push(`${roomId}: ${seq} came after ${last}`);
    held.set(seq, content);
    this.last.set(roomId, seq);
  }
}
