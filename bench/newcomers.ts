/** Users who come online: each opens a socket, joins its rooms, and is told who else is online there. */
import { setTimeout as delay } from 'node:timers/promises';
import { LeanSocket, textFrame, type FrameHandler } from './lean-socket.js';
import type { Newcomer } from './plan.js';

/** What they have in common. */
export interface Tally {
  readonly frames: Record<string, number>;
  bytes: number;
  /** Users of whom they know that they are online, summed up over users and rooms. */
  known: number;
  joined(microseconds: number): void;
  unexpected(what: string): void;
  /** µs of the generator's clock. */
  now(): number;
}

const presenceStart = '{"event":"presence","data":{"room_id":"';
const idChars = 36;
const expected: ReadonlySet<string> = new Set(['hello', 'joined_room', 'presence', 'room_online']);

class NewcomerSocket implements FrameHandler {
  private readonly socket: LeanSocket;
  /** How many are online in each room that it has joined. */
  private readonly online = new Map<string, number>();
  private owed: number;
  private ending = false;

  constructor(
    { nodeUrl, token, roomIds }: Newcomer,
    private readonly dueAt: number,
    private readonly tally: Tally,
  ) {
    this.owed = roomIds.length;
    const joins = roomIds.map((room_id) => textFrame(JSON.stringify({ event: 'join_room', data: { room_id } }))).join('');
    this.socket = new LeanSocket(new URL(nodeUrl), token, this, () => this.socket.write(joins));
  }

  get hasJoined(): boolean {
    return this.owed === 0;
  }

  frame(bytes: Buffer, start: number, end: number): void {
    this.tally.bytes += end - start;
    const text = bytes.toString('latin1', start, end);
    if (text.startsWith(presenceStart)) {
      this.count('presence');
      const roomId = text.slice(presenceStart.length, presenceStart.length + idChars);
      this.knows(roomId, (this.online.get(roomId) ?? 0) + (text.includes('"status":"online"') ? 1 : -1));
      return;
    }
    const { event, data } = JSON.parse(text) as { event: string; data: { room_id: string; online_count?: number } };
    this.count(event);
    if (!expected.has(event)) this.tally.unexpected(text.slice(0, 200));
    if (data.online_count !== undefined) this.knows(data.room_id, data.online_count);
    if (event === 'joined_room' && --this.owed === 0) this.tally.joined(this.tally.now() - this.dueAt);
  }

  closed(code: number): void {
    if (!this.ending) this.tally.unexpected(`a newcomer was closed with ${code}`);
  }

  end(): void {
    this.ending = true;
    this.socket.end();
  }

  private count(event: string): void {
    this.tally.frames[event] = (this.tally.frames[event] ?? 0) + 1;
  }

  private knows(roomId: string, online: number): void {
    this.tally.known += online - (this.online.get(roomId) ?? 0);
    this.online.set(roomId, online);
  }
}

/** Resolves when the last has been told to come, each at its moment. */
export async function comeOnline(newcomers: readonly Newcomer[], withinMs: number, tally: Tally): Promise<NewcomerSocket[]> {
  const from = tally.now();
  const sockets: NewcomerSocket[] = [];
  for (const newcomer of newcomers) {
    const dueAt = from + (sockets.length / newcomers.length) * withinMs * 1_000;
    const waitMs = (dueAt - tally.now()) / 1_000;
    if (waitMs > 0) await delay(waitMs);
    sockets.push(new NewcomerSocket(newcomer, dueAt, tally));
  }
  return sockets;
}

/** What `known` comes to when each knows of all the members of its rooms. */
export function allKnown(newcomers: readonly Newcomer[]): number {
  const members = new Map<string, number>();
  for (const { roomIds } of newcomers) for (const roomId of roomIds) members.set(roomId, (members.get(roomId) ?? 0) + 1);
  return [...members.values()].reduce((sum, count) => sum + count * count, 0);
}
