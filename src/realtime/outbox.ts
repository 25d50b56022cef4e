/**
 * What waits to be written to one socket. All that the node has for a socket in one turn of the event loop goes out as one write, in the order in
 * which it was put in: replies, history and live frames. Where so many sockets are written to that it takes long, some are written to in later turns.
 *
 * Bounded: live frames are only taken while less than the socket's byte budget waits (`hasRoom`); who was refused is caught up after `onDrained`.
 */
import type { Socket } from 'node:net';
import type { RealtimeCounters } from './counters.js';
import { countFrames, frameBytes, textFrame, writeFrame } from './frame.js';
import { InSlices } from './in-slices.js';

/** Below this, copying frames together is cheaper than a gathered write. */
const joinBelowBytes = 65_536;

export class Outbox {
  private frames: (Buffer | string)[] = [];
  private bytes = 0;
  private closed = false;
  /** When something was first refused for want of room, in ms of the process; undefined again once the peer has taken everything. */
  fullSince: number | undefined;

  /**
   * @param maxBytes the budget for what waits here and in the socket
   * @param onDrained called when everything was handed to the kernel, after something had to wait
   */
  constructor(
    private readonly socket: Pick<Socket, 'write' | 'writableLength' | 'writable' | 'cork' | 'uncork' | 'on'>,
    private readonly maxBytes: number,
    private readonly onDrained: () => void,
    private readonly counters: Pick<RealtimeCounters, 'framesOut' | 'bytesOut'>,
  ) {
    socket.on('drain', () => this.drained());
  }

  /** Bytes that the peer has not taken. */
  get waitingBytes(): number {
    return this.bytes + this.socket.writableLength;
  }

  /** Bytes of the budget that are left; 0 above it. */
  get freeBytes(): number {
    return Math.max(0, this.maxBytes - this.waitingBytes);
  }

  /** False above the budget; then `onDrained` is called later. */
  get hasRoom(): boolean {
    if (this.waitingBytes < this.maxBytes) return true;
    this.fullSince ??= performance.now();
    return false;
  }

  /** @param frame whole frames, which other sockets may have too; or the text of one, which is framed with all others of the turn */
  put(frame: Buffer | string): void {
    if (this.closed) return;
    if (this.frames.length === 0) flushes.put(this);
    this.frames.push(frame);
    this.bytes += typeof frame === 'string' ? frameBytes(Buffer.byteLength(frame)) : frame.length;
  }

  flush(): void {
    const { frames, bytes } = this;
    this.frames = [];
    this.bytes = 0;
    if (frames.length === 0 || !this.socket.writable) return; // closed while it was due
    this.counters.bytesOut += bytes;
    for (const frame of frames) this.counters.framesOut += typeof frame === 'string' ? 1 : countFrames(frame);
    const [only] = frames;
    if (only instanceof Buffer && frames.length === 1) this.socket.write(only);
    else if (bytes < joinBelowBytes) writeJoined(this.socket, frames, bytes);
    else {
      this.socket.cork();
      for (const frame of frames) this.socket.write(typeof frame === 'string' ? textFrame(frame) : frame);
      this.socket.uncork();
    }
    // What the kernel takes at once, however much, brings no 'drain'.
    if (this.fullSince !== undefined && this.socket.writableLength === 0) this.drained();
  }

  private drained(): void {
    this.fullSince = undefined;
    this.onDrained();
  }

  /** Takes nothing more; what waits is flushed or dropped. */
  close(): void {
    this.flush();
    this.closed = true;
  }
}

/**
 * Where frames are copied together, of all sockets, each time in the same place: what the kernel takes at once, as it nearly always does, is copied
 * when `write` returns. What it does not take stays where it is until the socket has written it, and the next go behind it. A buffer for each write
 * would be one of some 15 KB for each who joins, between what is kept of who came before: holes in the memory that are never given back, 6 KiB
 * for each idle connection.
 */
let slab = Buffer.allocUnsafeSlow(0);
let slabTaken = 0;
/** A slab is left only when most of it is taken. */
const slabBytes = 4 * joinBelowBytes;

function writeJoined(socket: Pick<Socket, 'write' | 'writableLength'>, frames: readonly (Buffer | string)[], bytes: number): void {
  if (slabTaken + bytes > slab.length) {
    slab = Buffer.allocUnsafeSlow(slabBytes);
    slabTaken = 0;
  }
  let at = slabTaken;
  for (const frame of frames) {
    if (typeof frame === 'string') at = writeFrame(slab, at, frame, Buffer.byteLength(frame));
    else at += frame.copy(slab, at);
  }
  socket.write(slab.subarray(slabTaken, at));
  if (socket.writableLength > 0) slabTaken = at;
}

/** 10 ms of a turn where all get one frame, some 70 where thousands have just joined. */
const flushesPerTurn = 512;
const flushes = new InSlices<Outbox>(flushesPerTurn, (outbox) => outbox.flush());

/** Calls back when all that waits in outboxes now was written. */
export const afterFlush = (call: () => void): void => flushes.after(call);
