/**
 * What nodes tell each other of a room that is not in the room's log: who began or ceased to type, who came online or went. Lines of the bus
 * (src/bus/payload.ts says how they travel): a tag, and one JSON object that starts with room_id, so that a node that doesn't follow the room
 * passes it over unread.
 */
import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import type { SignalTag } from '../bus/payload.js';

/** A user's typing in a room, or its being online there, begins or ends. */
export interface Change {
  readonly roomId: string;
  readonly userId: string;
  readonly username: string;
  readonly isOn: boolean;
}

const signalSchema = Type.Object({
  room_id: Type.String(),
  /** Id of the node through which they are online; not needed for typing. */
  node: Type.Optional(Type.String()),
  on: Type.Array(Type.Tuple([Type.String(), Type.String()]), { description: 'ids and names' }),
  off: Type.Array(Type.String(), { description: 'ids' }),
});
export type Signal = Static<typeof signalSchema>;

const validator = Compile(signalSchema);

/** NOTIFY takes fewer than 8,000 bytes, the digest takes 32. */
const payloadMaxBytes = 7_999 - 32;
/** Of one line's users: leaves room for its frame of fixed size, and packs well. */
const lineMaxBytes = 3_800;

/** The one key of a user in a room. */
export const keyOf = (roomId: string, userId: string): string => roomId + userId;

/** @returns undefined for what is no signal: a newer node may say what this one doesn't know */
export function readSignal(json: string): Signal | undefined {
  try {
    const signal: unknown = JSON.parse(json);
    return validator.Check(signal) ? signal : undefined;
  } catch {
    return undefined;
  }
}

/** Packs the changes into as few payloads as fit, each without its digest. Changes of one room keep no order among themselves. */
export function packSignals(nodeId: string, changes: { readonly [Tag in SignalTag]?: readonly Change[] }): string[] {
  const lines = [...linesOf('t', undefined, changes.t ?? []), ...linesOf('p', nodeId, changes.p ?? [])];
  const payloads: string[] = [];
  let payload = '';
  let bytes = 0;
  for (const line of lines) {
    const lineBytes = Buffer.byteLength(line);
    if (bytes > 0 && bytes + lineBytes > payloadMaxBytes) {
      payloads.push(payload);
      payload = '';
      bytes = 0;
    }
    payload += line;
    bytes += lineBytes;
  }
  if (bytes > 0) payloads.push(payload);
  return payloads;
}

function linesOf(tag: SignalTag, node: string | undefined, changes: readonly Change[]): string[] {
  const rooms = new Map<string, Change[]>();
  for (const change of changes) {
    const ofRoom = rooms.get(change.roomId);
    if (ofRoom === undefined) rooms.set(change.roomId, [change]);
    else ofRoom.push(change);
  }
  const lines: string[] = [];
  for (const [room_id, ofRoom] of rooms) {
    for (const run of runsOf(ofRoom)) {
      const on = run.filter(({ isOn }) => isOn).map(({ userId, username }): [string, string] => [userId, username]);
      const off = run.filter(({ isOn }) => !isOn).map(({ userId }) => userId);
      lines.push(`\n${tag}${JSON.stringify({ room_id, ...(node !== undefined && { node }), on, off } satisfies Signal)}`);
    }
  }
  return lines;
}

function runsOf(changes: readonly Change[]): Change[][] {
  const runs: Change[][] = [];
  let run: Change[] = [];
  let bytes = 0;
  for (const change of changes) {
    const size = change.isOn ? Buffer.byteLength(JSON.stringify([change.userId, change.username])) + 1 : change.userId.length + 3;
    if (bytes > 0 && bytes + size > lineMaxBytes) {
      runs.push(run);
      run = [];
      bytes = 0;
    }
    run.push(change);
    bytes += size;
  }
  if (run.length > 0) runs.push(run);
  return runs;
}
