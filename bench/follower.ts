import { setTimeout as delay } from 'node:timers/promises';
import type { FollowerPlan } from './followers.js';
import type { HistoryPages } from './history-pages.js';
import { LeanSocket, textFrame, type FrameHandler } from './lean-socket.js';
import type { RoomFrames } from './room-frames.js';
import { SeqCheck, type SeqFaults } from './seq-check.js';

/** How frames of one room are read, the same for all its followers. */
export interface RoomReader {
  readonly live: RoomFrames;
  readonly pages: HistoryPages;
}

/** What the followers of a run have in common. */
export interface Witness extends SeqFaults {
  bytes: number;
  deliveries: number;
  readerOf(roomId: string): RoomReader;
  /** µs of the generator's clock. */
  delivered(sampledSends: readonly number[]): void;
  /** All rooms of a follower are live, so many µs after it began to connect, or after its connection was lost. */
  live(microseconds: number): void;
  gone(): void;
  unexpected(what: string): void;
  /** µs of the generator's clock. */
  now(): number;
}

interface Stream {
  readonly reader: RoomReader;
  readonly seqs: SeqCheck;
  /** Undefined until the room was joined, where the plan has none. */
  after: number | undefined;
  isLive: boolean;
}

const batchStart = '{"event":"new_message_batch","data":[{"room_id":"';
const historyStart = '{"event":"history","data":{"room_id":"';
const idChars = 36;
const passedOver: ReadonlySet<string> = new Set(['hello', 'presence', 'room_online', 'reconnect']);
/** As much of another frame as is read: who is online, of whom joined_room has a list, is not checked here. */
const headChars = 250;
const otherHead = /^\{"event":"(\w+)","data":\{(?:"room_id":"([\w-]+)","last_seq":(\d+),"epoch":"([^"]*)")?/;

/** The documented back-off (docs/protocol.md, "Staying connected"), in ms. */
const backOffMs = (tries: number): number => Math.random() * Math.min(30_000, 500 * 2 ** tries);

/**
 * A client as docs/protocol.md tells its author to write it: it follows its rooms, knows of each what it holds, and when its connection is gone it
 * goes to the next node and resumes. Every seq of each room must come once, in order, over all its connections.
 */
export class Follower implements FrameHandler {
  private readonly streams: ReadonlyMap<string, Stream>;
  private socket: LeanSocket | undefined;
  private place = 0;
  private tries = 0;
  private isEnding = false;
  private isLive = false;
  /** Rooms that are not live yet. */
  private owed = 0;
  private onLive: () => void = () => undefined;
  private since = 0;
  private epoch: string | undefined;

  constructor(
    private readonly plan: FollowerPlan,
    private readonly witness: Witness,
  ) {
    this.streams = new Map(
      plan.rooms.map(({ roomId, after }) => {
        const seqs = new SeqCheck(witness);
        if (after !== undefined) seqs.begin(after);
        return [roomId, { reader: witness.readerOf(roomId), seqs, after, isLive: false }];
      }),
    );
  }

  get nodeUrl(): string {
    return this.plan.nodeUrls[this.place % this.plan.nodeUrls.length] ?? '';
  }

  /** Resolves when all its rooms are live. */
  connect(): Promise<void> {
    this.since = this.witness.now();
    this.open();
    return new Promise((live) => (this.onLive = live));
  }

  /** What did not come although the rooms have it. */
  lost(heads: Readonly<Record<string, number>>): number {
    let lost = 0;
    for (const [roomId, { seqs }] of this.streams) lost += seqs.lost(heads[roomId] ?? 0);
    return lost;
  }

  frame(bytes: Buffer, start: number, end: number): void {
    this.witness.bytes += end - start;
    if (isEvent(batchStart, bytes, start)) this.liveFrame(bytes, start, end);
    else if (isEvent(historyStart, bytes, start)) this.historyFrame(bytes, start, end);
    else this.otherFrame(bytes, start, end);
  }

  /** A node that goes away takes no more sockets: `closed` follows, and the next is tried. */
  refused(status: number): void {
    if (status !== 503) this.witness.unexpected(`a handshake was answered with ${status}`);
  }

  closed(code: number): void {
    if (this.isEnding) return;
    if (this.isLive) {
      this.isLive = false;
      this.since = this.witness.now();
      this.witness.gone();
    }
    if (code !== 1006 && code !== 1012) this.witness.unexpected(`a follower was closed with ${code}`);
    if (this.plan.nodeUrls.length === 1) return this.witness.unexpected(`a follower that has no other node was closed with ${code}`);
    this.socket = undefined;
    for (const stream of this.streams.values()) stream.isLive = false;
    this.tries++;
    this.place++;
    void delay(backOffMs(this.tries)).then(() => {
      if (!this.isEnding) this.open();
    });
  }

  end(): void {
    this.isEnding = true;
    this.socket?.end();
  }

  private open(): void {
    this.owed = this.streams.size;
    this.socket = new LeanSocket(new URL(this.nodeUrl), this.plan.token, this, () => this.opened());
  }

  private opened(): void {
    const { isBare = false, rooms: planned } = this.plan;
    if (planned.every(({ after }) => isBare && after === undefined)) this.allLive();
    if (isBare || planned.length === 0) return;
    const rooms = [...this.streams].map(([room_id, { seqs, after }]) => ({
      room_id,
      ...(after !== undefined && { last_seen_seq: seqs.cursor, ...(this.epoch !== undefined && { epoch: this.epoch }) }),
    }));
    this.socket?.write(textFrame(JSON.stringify({ event: 'join_rooms', data: { rooms } })));
  }

  private liveFrame(bytes: Buffer, start: number, end: number): void {
    const stream = this.streamAt(bytes, start + batchStart.length);
    if (stream === undefined) return this.witness.unexpected('a batch of a room that is not followed');
    const { first, last, messages, sampledSends, fault } = stream.reader.live.of(bytes, start, end);
    if (fault !== undefined) return this.witness.unexpected(fault);
    stream.seqs.take(first, last);
    this.witness.deliveries += messages;
    this.witness.delivered(sampledSends);
  }

  private historyFrame(bytes: Buffer, start: number, end: number): void {
    const stream = this.streamAt(bytes, start + historyStart.length);
    if (stream === undefined) return this.witness.unexpected('history of a room that is not followed');
    const { first, last, isLast, fault } = stream.reader.pages.of(stream.seqs.cursor, bytes, start, end);
    if (fault !== undefined) return this.witness.unexpected(fault);
    if (first > 0) stream.seqs.take(first, last);
    this.witness.deliveries += first > 0 ? last - first + 1 : 0;
    if (isLast) this.roomLive(stream);
  }

  private otherFrame(bytes: Buffer, start: number, end: number): void {
    const text = bytes.toString('latin1', start, Math.min(end, start + headChars));
    const [, event = '', roomId = '', lastSeq = '', epoch = ''] = otherHead.exec(text) ?? [];
    if (passedOver.has(event)) return;
    const stream = event === 'joined_room' ? this.streams.get(roomId) : undefined;
    if (stream === undefined) return this.witness.unexpected(text);
    this.epoch = epoch;
    if (stream.after !== undefined) return; // history follows
    stream.after = Number(lastSeq);
    stream.seqs.begin(stream.after);
    this.roomLive(stream);
  }

  private roomLive(stream: Stream): void {
    if (stream.isLive) return;
    stream.isLive = true;
    if (--this.owed === 0) this.allLive();
  }

  private allLive(): void {
    this.isLive = true;
    this.tries = 0;
    this.witness.live(this.witness.now() - this.since);
    this.onLive();
  }

  private streamAt(bytes: Buffer, at: number): Stream | undefined {
    return this.streams.get(bytes.toString('latin1', at, at + idChars));
  }
}

/** By the two letters of its name that tell the frequent ones apart. */
function isEvent(text: string, bytes: Buffer, start: number): boolean {
  const at = '{"event":"'.length;
  return bytes[start + at] === text.charCodeAt(at) && bytes[start + at + 1] === text.charCodeAt(at + 1);
}
