/**
 * What a notification says. A payload is untrusted input, for any role of the database can NOTIFY: nothing is read before the keyed digest is
 * checked, and no payload whatever makes the decoder throw. The format stands with the functions that write it, in migrations/0002_bus.sql
 * and 0004_circle.sql: 32 hex digits, then lines of one tag and one JSON object that starts with room_id and seq.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { RoomEvent } from '../protocol/room-event.js';

/** What is not in a room's log: 't' typing, 'p' presence (src/presence/signals.ts). */
export type SignalTag = 't' | 'p';

/** One entry of a room's log: a message, or an event where `event` is there. */
export interface LogEntry {
  readonly seq: number;
  /** The JSON text, as PostgreSQL made it. */
  readonly json: string;
  readonly event?: RoomEvent;
}

export interface PayloadReader {
  /** True where the node has use for the room; what is in other rooms is not read further. */
  wants(roomId: string): boolean;
  /** Entries that stand next to each other, in their order; what they hold in memory is not much more than they are. */
  entries(roomId: string, entries: readonly LogEntry[]): void;
  /** The room has entries up to `seq` that were too large to be sent: read them from the table. */
  upTo(roomId: string, seq: number): void;
  /** Something about a wanted room that is not in its log. */
  signal(tag: SignalTag, json: string): void;
  heartbeat(beat: string): void;
}

const digestLength = 32;
/** NOTIFY takes fewer than 8,000 bytes. */
const lineMaxBytes = 7_999 - digestLength;

/** Whether an entry is notified as a line of its own; else only its seq is. */
export const fitsPayload = ({ json }: LogEntry): boolean => 2 + Buffer.byteLength(json) <= lineMaxBytes;

const roomIdAt = '{"room_id":"'.length;
const seqAt = roomIdAt + 36 + '","seq":'.length;

/** @returns false when the payload is not one of ours; then nothing was read from it. */
export function readPayload(payload: string, key: Buffer, reader: PayloadReader): boolean {
  const lines = payload.slice(digestLength);
  const given = Buffer.from(payload.slice(0, digestLength), 'latin1');
  if (given.length < digestLength || !timingSafeEqual(given, Buffer.from(digest(lines, key), 'latin1'))) return false;
  for (let at = 1, end = 1; at < lines.length; at = end + 1) {
    const tag = lines.charAt(at);
    end = tag === 'm' ? readMessages(lines, at, reader) : endOfLine(lines, at);
    if (tag !== 'm') readLine(tag, lines.slice(at + 1, end), lines.length, reader);
  }
  return true;
}

/**
 * Reads the message that stands at `at` and those of the same room right behind it.
 * @returns where the last of them ends
 */
function readMessages(lines: string, at: number, reader: PayloadReader): number {
  const sameRoom = lines.slice(at, at + 1 + roomIdAt + 36);
  let end = endOfLine(lines, at);
  while (lines.startsWith(sameRoom, end + 1)) end = endOfLine(lines, end + 1);
  const roomId = sameRoom.slice(1 + roomIdAt);
  if (!reader.wants(roomId)) return end;
  const run = ownText(lines.slice(at, end), lines.length);
  const entries: LogEntry[] = [];
  for (let from = 0; from < run.length;) {
    const to = endOfLine(run, from);
    const json = run.slice(from + 1, to);
    const seq = seqOf(json);
    if (Number.isSafeInteger(seq)) entries.push({ seq, json });
    from = to + 1;
  }
  if (entries.length > 0) reader.entries(roomId, entries);
  return end;
}

function readLine(tag: string, text: string, payloadChars: number, reader: PayloadReader): void {
  if (tag === 'h') return reader.heartbeat(text);
  const roomId = text.slice(roomIdAt, roomIdAt + 36);
  if (!reader.wants(roomId)) return;
  if (tag === 't' || tag === 'p') return reader.signal(tag, text);
  const seq = seqOf(text);
  if (!Number.isSafeInteger(seq)) return;
  const entry = tag === 'e' ? readEvent(seq, ownText(text, payloadChars)) : undefined;
  if (entry !== undefined) reader.entries(roomId, [entry]);
  else reader.upTo(roomId, seq); // 'r', or what can't be read here
}

function endOfLine(lines: string, from: number): number {
  const end = lines.indexOf('\n', from);
  return end === -1 ? lines.length : end;
}

const seqOf = (json: string): number => Number.parseInt(json.slice(seqAt, seqAt + 17), 10);

/** A slice keeps its whole payload in memory, other rooms' messages with it: where that is more than twice as much, a copy of it. */
const ownText = (slice: string, payloadChars: number): string => (2 * slice.length >= payloadChars ? slice : Buffer.from(slice).toString());

export const eventEntry = (seq: number, json: string): LogEntry => ({ seq, json, event: JSON.parse(json) as RoomEvent });

/** An event as it stands in a payload, or undefined where that is not one. */
function readEvent(seq: number, json: string): LogEntry | undefined {
  try {
    return eventEntry(seq, json);
  } catch {
    return undefined;
  }
}

/** The digest that SQL's bus_notify puts in front: nested, because a plain hash of key and text can be extended without the key. */
export function digest(lines: string, key: Buffer): string {
  const inner = createHash('sha256').update(key).update(lines, 'utf8').digest();
  return createHash('sha256').update(key).update(inner).digest('hex').slice(0, digestLength);
}
