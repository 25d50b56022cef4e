/**
 * Reads the live frames of one room. What is checked of every frame at every receiver: it is, byte for byte, a frame that was read in full
 * before, or it is read in full now. Reading in full means that each entry has its envelope, the room's id and a seq, one above the entry
 * before it, and that each message carries the moment of its send. So a node may send a frame to 300 receivers and it is read once, and
 * compared 299 times, which costs next to nothing.
 */
import type { LiveFrames } from './dialect.js';

/** What should not come, the first two in this form at least. Other frames have no seq, and are passed over. */
const unwanted: ReadonlySet<string> = new Set([
  'new_message_batch',
  'room_event',
  'resync',
  'history',
  'error',
  'reconnect',
  'message_ack',
  'a frame that is no event',
]);
/** Frames that are remembered for comparing, of all nodes together. */
const rememberedMax = 128;

export interface RoomFrame {
  /** 0 where the frame has no seq of the room. */
  readonly first: number;
  readonly last: number;
  readonly messages: number;
  /** When the sampled messages were sent, in µs of the load generator's clock. */
  readonly sampledSends: readonly number[];
  /** Why it is no frame that should have come. */
  readonly fault?: string;
}

interface Remembered extends RoomFrame {
  readonly bytes: Buffer;
}

export class RoomFrames {
  private readonly byFirstSeq = new Map<number, Remembered[]>();
  private readonly order: Remembered[] = [];
  private readonly messageStart: string;
  private readonly seqAt: number;
  read = 0;
  compared = 0;

  constructor(
    private readonly roomId: string,
    private readonly sampleEvery: number,
    private readonly live: LiveFrames,
  ) {
    this.messageStart = `{"room_id":"${roomId}","seq":`;
    this.seqAt = live.batchStart.length + this.messageStart.length;
  }

  of(bytes: Buffer, start: number, end: number): RoomFrame {
    const first = numberAt(bytes, start + this.seqAt, end);
    for (const known of this.byFirstSeq.get(first) ?? []) {
      if (known.bytes.length === end - start && known.bytes.compare(bytes, start, end) === 0) {
        this.compared++;
        return known;
      }
    }
    this.read++;
    const frame = this.readInFull(bytes.toString('latin1', start, end));
    if (frame.first === first && frame.fault === undefined) this.remember({ ...frame, bytes: Buffer.from(bytes.subarray(start, end)) });
    return frame;
  }

  private remember(frame: Remembered): void {
    const same = this.byFirstSeq.get(frame.first);
    if (same === undefined) this.byFirstSeq.set(frame.first, [frame]);
    else same.push(frame);
    this.order.push(frame);
    if (this.order.length <= rememberedMax) return;
    const oldest = this.order.shift();
    if (oldest === undefined) return;
    const rest = this.byFirstSeq.get(oldest.first)?.filter((other) => other !== oldest) ?? [];
    if (rest.length > 0) this.byFirstSeq.set(oldest.first, rest);
    else this.byFirstSeq.delete(oldest.first);
  }

  private readInFull(text: string): RoomFrame {
    const { batchStart, batchEnd, eventStart } = this.live;
    if (text.startsWith(batchStart) && text.endsWith(batchEnd)) return this.readBatch(text);
    if (text.startsWith(eventStart + this.messageStart)) {
      const seq = Number.parseInt(text.slice(eventStart.length + this.messageStart.length), 10);
      return { first: seq, last: seq, messages: 0, sampledSends: [] };
    }
    const event = /^\{"event":"(\w+)"/.exec(text)?.[1] ?? 'a frame that is no event';
    return unwanted.has(event) ? fault(event) : { first: 0, last: 0, messages: 0, sampledSends: [] };
  }

  /** The contents are ours, so that neither a quote nor a brace is in them. */
  private readBatch(text: string): RoomFrame {
    const { batchStart, batchEnd } = this.live;
    const sampledSends: number[] = [];
    let first = 0;
    let last = 0;
    let messages = 0;
    let at = batchStart.length;
    for (;;) {
      if (!text.startsWith(this.messageStart, at)) return fault(`a batch of another room than ${this.roomId}`);
      at += this.messageStart.length;
      const seq = Number.parseInt(text.slice(at, at + 16), 10);
      if (messages > 0 && seq !== last + 1) return fault('a batch that is not consecutive');
      first = messages === 0 ? seq : first;
      last = seq;
      messages++;
      const contentAt = text.indexOf('"content":"', at) + 11;
      const sentAt = Number.parseInt(text.slice(contentAt, contentAt + 16), 10);
      if (contentAt < 11 || Number.isNaN(sentAt)) return fault('a message that nobody sent');
      if (seq % this.sampleEvery === 0) sampledSends.push(sentAt);
      const end = text.indexOf('}', contentAt) + 1;
      if (end === 0) return fault('a batch that breaks off');
      if (end === text.length - batchEnd.length) return { first, last, messages, sampledSends };
      if (text.charAt(end) !== ',') return fault('a batch that is not JSON');
      at = end + 1;
    }
  }
}

const fault = (why: string): RoomFrame => ({ first: 0, last: 0, messages: 0, sampledSends: [], fault: why });

function numberAt(bytes: Buffer, from: number, end: number): number {
  let value = 0;
  for (let at = from; at < end; at++) {
    const digit = (bytes[at] ?? 0) - 48;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
  }
  return value;
}
