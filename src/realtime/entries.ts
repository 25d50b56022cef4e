import type { LogEntry } from '../bus/payload.js';
import { encode, encodeBatch, encodeRoomEvent } from '../protocol/encode.js';
import { endsMembership } from '../protocol/room-event.js';
import { textFrame } from './frame.js';

/** Characters of one frame's entries, so that no frame comes near the 1 MiB at which some clients refuse it. A frame has at least one entry. */
const frameMaxChars = 131_072;

/** Cuts entries into runs of at most one frame's size. */
export function frameRuns(entries: readonly LogEntry[]): LogEntry[][] {
  const runs: LogEntry[][] = [];
  let run: LogEntry[] = [];
  let chars = 0;
  for (const entry of entries) {
    if (run.length > 0 && chars + entry.json.length > frameMaxChars) {
      runs.push(run);
      run = [];
      chars = 0;
    }
    run.push(entry);
    chars += entry.json.length;
  }
  if (run.length > 0) runs.push(run);
  return runs;
}

/** The frames of a room's next entries, in one buffer: consecutive messages as batches, every event as itself. */
export function liveFrames(entries: readonly LogEntry[]): Buffer {
  const frames: Buffer[] = [];
  let messages: string[] = [];
  let chars = 0;
  const endBatch = () => {
    if (messages.length > 0) frames.push(textFrame(encodeBatch(messages)));
    messages = [];
    chars = 0;
  };
  for (const { json, event } of entries) {
    if (event !== undefined) {
      endBatch();
      frames.push(...eventFrames(event, json));
      continue;
    }
    if (chars > 0 && chars + json.length > frameMaxChars) endBatch();
    messages.push(json);
    chars += json.length;
  }
  endBatch();
  const [only] = frames;
  return only !== undefined && frames.length === 1 ? only : Buffer.concat(frames);
}

function eventFrames(event: NonNullable<LogEntry['event']>, json: string): Buffer[] {
  const { room_id, seq, kind, user_id, username } = event;
  const frames = [textFrame(encodeRoomEvent(json))];
  if (user_id === undefined || username === undefined) return frames;
  const member = { room_id, user_id, username, seq };
  if (kind === 'joined') frames.push(textFrame(encode('user_joined', member)));
  else if (endsMembership(kind)) frames.push(textFrame(encode('user_left', member)));
  return frames;
}
