/**
 * Who is online in the rooms that are followed on this node: read from the table when a room is first followed and whenever the bus was away, kept
 * by signals since, and told to the room's sockets, at most once in a window for each room.
 */
import type { Logger } from 'pino';
import type { Queryable } from '../database/database.js';
import { logLevelOf } from '../database/sql-error.js';
import { encode, encodeRoomOnline, type OnlineText } from '../protocol/encode.js';
import { readPresence, type PresenceRow } from './presence.store.js';
import { RoomPresence, type PresenceNews } from './room-presence.js';
import type { Signal } from './signals.js';

/** The first change after a quiet window is told at once, what follows within the window together at its end. */
const windowMs = 1_000;
/** Of rooms where only the number is told. */
const crowdWindowMs = 5_000;
const roomsPerRead = 100;
const retryMs = 1_000;
/** A join waits no longer for the list; then the list comes after it. */
const listDeadlineMs = 500;

interface OnlineRoom {
  readonly roomId: string;
  readonly presence: RoomPresence;
  /** True once the table was read. */
  loaded: boolean;
  /** True while the answer of the table is awaited. */
  reading: boolean;
  /** Sockets joined without a list. */
  listOwed: boolean;
  /** Signals that came while the table is being read, to be applied to what was read too. */
  meanwhile: Signal[];
  /** Called when the table was read or could not be. */
  waiting: (() => void)[];
  timer: NodeJS.Timeout | undefined;
  nextAt: number;
}

export interface OnlineRoomsOptions {
  readonly db: Queryable;
  readonly log: Logger;
  /** Another node was heard of. */
  meet(nodeId: string): void;
  push(roomId: string, texts: readonly string[]): void;
}

export class OnlineRooms {
  private readonly rooms = new Map<string, OnlineRoom>();
  private toRead = new Set<OnlineRoom>();
  private reading: Promise<void> | undefined;
  private closed = false;

  constructor(private readonly options: OnlineRoomsOptions) {}

  open(roomId: string): void {
    const room: OnlineRoom = {
      roomId,
      presence: new RoomPresence(),
      loaded: false,
      reading: false,
      listOwed: false,
      meanwhile: [],
      waiting: [],
      timer: undefined,
      nextAt: 0,
    };
    this.rooms.set(roomId, room);
    this.toRead.add(room);
    this.reading ??= this.read();
  }

  close(roomId: string): void {
    const room = this.rooms.get(roomId);
    if (room === undefined) return;
    clearTimeout(room.timer);
    this.rooms.delete(roomId);
    this.toRead.delete(room);
    settle(room);
  }

  /** What was known may be old: signals were lost. */
  readAll(): void {
    for (const room of this.rooms.values()) this.toRead.add(room);
    if (this.toRead.size > 0) this.reading ??= this.read();
  }

  /** Resolves when a room's list is there, or does not come soon. */
  async ready(roomId: string): Promise<void> {
    const room = this.rooms.get(roomId);
    if (room === undefined || room.loaded) return;
    let deadline: NodeJS.Timeout | undefined;
    await new Promise<void>((over) => {
      deadline = setTimeout(over, listDeadlineMs);
      room.waiting.push(over);
    });
    clearTimeout(deadline);
  }

  /** What a socket that joins now is to be told; undefined while it is not known, then it is told later. */
  list(roomId: string): OnlineText | undefined {
    const room = this.rooms.get(roomId);
    if (room?.loaded) return room.presence.list;
    if (room !== undefined) room.listOwed = true;
    return undefined;
  }

  signal(signal: Signal): void {
    const room = this.rooms.get(signal.room_id);
    if (room === undefined || signal.node === undefined) return;
    this.options.meet(signal.node);
    if (room.reading) room.meanwhile.push(signal);
    apply(signal, signal.node, room.presence);
    this.tell(room);
  }

  /** Nodes that are no more. */
  drop(nodeIds: readonly string[]): void {
    for (const room of this.rooms.values()) {
      for (const nodeId of nodeIds) room.presence.drop(nodeId);
      this.tell(room);
    }
  }

  async stop(): Promise<void> {
    this.closed = true;
    for (const roomId of this.rooms.keys()) this.close(roomId);
    await this.reading;
  }

  /** Reads the rooms that are to be read, as many as came meanwhile at a time. */
  private async read(): Promise<void> {
    await new Promise((turn) => setImmediate(turn));
    while (this.toRead.size > 0 && !this.closed) {
      const rooms = [...this.toRead].slice(0, roomsPerRead);
      for (const room of rooms) {
        this.toRead.delete(room);
        room.reading = true;
      }
      try {
        const { nodeIds, rooms: rows } = await readPresence(
          this.options.db,
          rooms.map(({ roomId }) => roomId),
        );
        for (const room of rooms) this.take(room, rows.get(room.roomId) ?? [], nodeIds);
      } catch (error) {
        this.options.log[logLevelOf(error)]({ err: error }, 'who is online could not be read yet');
        for (const room of rooms) {
          if (this.rooms.get(room.roomId) === room) this.toRead.add(room);
          settle(room);
        }
        if (!this.closed) await new Promise((again) => setTimeout(again, retryMs).unref());
      } finally {
        for (const room of rooms) {
          room.reading = false;
          room.meanwhile = [];
        }
      }
    }
    this.reading = undefined;
  }

  private take(room: OnlineRoom, rows: readonly PresenceRow[], nodeIds: readonly string[]): void {
    if (this.rooms.get(room.roomId) !== room) return;
    for (const { nodeId } of rows) this.options.meet(nodeId);
    room.presence.replace(rows, nodeIds);
    for (const signal of room.meanwhile) if (signal.node !== undefined) apply(signal, signal.node, room.presence);
    if (!room.loaded) {
      room.loaded = true;
      room.presence.begin();
      if (room.listOwed) this.push(room, { kind: 'list', list: room.presence.list });
    }
    settle(room);
    this.tell(room);
  }

  private tell(room: OnlineRoom): void {
    if (!room.loaded || room.timer !== undefined || !room.presence.hasNews) return;
    room.timer = setTimeout(
      () => {
        room.timer = undefined;
        const news = room.presence.takeNews();
        room.nextAt = performance.now() + (news?.kind === 'count' ? crowdWindowMs : windowMs);
        if (news !== undefined) this.push(room, news);
      },
      Math.max(0, room.nextAt - performance.now()),
    );
  }

  private push({ roomId }: OnlineRoom, news: PresenceNews): void {
    this.options.push(roomId, textsOf(roomId, news));
  }
}

/** The frames of what is to be told. */
function textsOf(roomId: string, news: PresenceNews): string[] {
  switch (news.kind) {
    case 'each':
      return news.changes.map((change) => encode('presence', { room_id: roomId, ...change }));
    case 'list':
      return [encodeRoomOnline(roomId, news.list)];
    case 'count':
      return [encode('room_online', { room_id: roomId, online_count: news.count })];
  }
}

function apply({ on, off }: Signal, nodeId: string, presence: RoomPresence): void {
  for (const [userId, username] of on) presence.on(userId, username, nodeId);
  for (const userId of off) presence.off(userId, nodeId);
}

function settle(room: OnlineRoom): void {
  const { waiting } = room;
  room.waiting = [];
  for (const done of waiting) done();
}
