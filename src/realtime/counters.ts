import type { CloseReason } from '../protocol/close-codes.js';
import type { ErrorCode } from '../protocol/errors.js';

/** What went through the sockets of this node since it was started. Frames are data frames; pings, pongs and closes are not counted. */
export interface RealtimeCounters {
  framesIn: number;
  /** Payloads. */
  bytesIn: number;
  /** Handed to the kernel, or to the socket's own buffer. */
  framesOut: number;
  /** Payloads and headers. */
  bytesOut: number;
  /** Frames of event `error`, by code. */
  errors: Partial<Record<ErrorCode, number>>;
  /** Sockets that this node closed, by why. */
  closed: Partial<Record<CloseReason, number>>;
}

/** What must never happen to the stream of a room, and was seen all the same. */
export interface StreamFaults {
  /** Seqs were left out before what came next. */
  gaps: number;
  /** A seq came again, or out of order. */
  repeats: number;
}

export const newCounters = (): RealtimeCounters => ({ framesIn: 0, bytesIn: 0, framesOut: 0, bytesOut: 0, errors: {}, closed: {} });
