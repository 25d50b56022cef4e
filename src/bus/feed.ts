/**
 * The feed: each followed room's log, in order, complete and once, whatever the bus does.
 *
 * Promises: for every room that is followed, what is passed on goes up by exactly one from the head at which following began, or the follower is
 * told that it does not. A lost, doubled, reordered or forged notification is not seen by anybody.
 *
 * Relies on the table: the row lock of a room makes its order of seq the order of commit, so what is read up to a head has no hole that
 * will be filled later. Notifications are a fast path. What they did not bring is read: on every `connected` of the listener, when a later seq
 * arrives than the next one, and once a second when a room's head in the table is above what was passed on.
 *
 * The key of the bus may be known to somebody else. So a notification is believed only until its own, which the commit of the true entry sends, has
 * been heard: where the two differ, where the table is behind what was passed on, and where LISTEN was lost between, the table decides, and a room
 * in which something forged was passed on is begun anew. An end of memberships is always read from the table.
 */
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { connectionConfig, Database, directUrl } from '../database/database.js';
import { LOGGER, seldom } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import type { ResyncReason } from '../protocol/replies.js';
import { endsMembership } from '../protocol/room-event.js';
import { pageMaxBytes, readBusKey, readHeads, readServerState, sendHeartbeat } from './bus.store.js';
import { Listener } from './listener.js';
import { LogReads } from './log-reads.js';
import { fitsPayload, readPayload, type LogEntry, type PayloadReader, type SignalTag } from './payload.js';
import { RoomLog } from './room-log.js';

const sweepIntervalMs = 1_000;
/** A sweep that has not succeeded for so long means that the database can't be asked. */
const sweepStaleMs = 3_500;
const repairRetryMs = 200;
/** How long a new connection of another epoch waits for clients to be told of it, and how often it is looked. */
const admitDeadlineMs = 5_000;
const admitRetryMs = 100;

/** What the feed hands to the hub. All calls are synchronous. */
export interface FeedFollower {
  /** The next entries of a followed room, ascending, the first one after the last one given. */
  deliver(roomId: string, entries: readonly LogEntry[]): void;
  /**
   * The room's log is not the one that was passed on so far: what clients hold of it is void.
   * @param isAnew what was known of memberships is void too
   */
  resync(roomId: string, reason: ResyncReason, isAnew: boolean): void;
}

/** Who keeps what is known of followed rooms beside their logs. All calls are synchronous. */
export interface SignalFollower {
  followed(roomId: string): void;
  unfollowed(roomId: string): void;
  /** What was just handed to the hub. */
  delivered(roomId: string, entries: readonly LogEntry[]): void;
  /** A signal about a followed room. Signals are not repaired: one that is lost is lost. */
  signal(tag: SignalTag, json: string): void;
  /** The bus is connected, again: what was signalled before was lost. */
  connected(): void;
}

export interface FeedCounters {
  payloads: number;
  refusedPayloads: number;
  repairs: number;
  reconnects: number;
  /** Reads that found seqs missing from the table. */
  holes: number;
}

@Injectable()
export class Feed implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly counters: FeedCounters = { payloads: 0, refusedPayloads: 0, repairs: 0, reconnects: 0, holes: 0 };
  /** Share of the server's notification queue that is in use, 0 to 1, as of the last sweep. */
  queueUsage = 0;
  /** Of the database, as of the last time it was asked. */
  epoch = '';

  private readonly rooms = new Map<string, RoomLog>();
  private readonly repairing = new Set<RoomLog>();
  /** Rooms of an epoch that is over, or in which something forged was passed on, until they are begun anew; and why. */
  private readonly outdated = new Map<RoomLog, ResyncReason>();
  /** Seqs of which two different entries were heard, until the table has said which one is true. Nothing is passed on of these rooms. */
  private readonly doubts = new Map<RoomLog, Set<number>>();
  private readonly reads: LogReads;
  private readonly noteBug: (error: unknown) => void;
  private readonly warnOfForgery: (what: unknown) => void;
  private readonly listener: Listener;
  private readonly reader: PayloadReader;
  private key: Buffer | undefined;
  private follower: FeedFollower | undefined;
  private signals: SignalFollower | undefined;
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  private sweptAt = 0;
  /** The epoch of which all followed rooms were told. */
  private toldEpoch = '';
  /** How often LISTEN was begun, in all and as of the start of the last sweep that succeeded. */
  private listens = 0;
  private provenListens = 0;
  /** Since LISTEN took, until it is lost. */
  private isHearing = false;
  private closed = false;

  constructor(
    private readonly db: Database,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) private readonly log: Logger,
  ) {
    this.listener = new Listener(
      connectionConfig(directUrl(config), 'listen'),
      randomUUID(),
      {
        connected: () => {
          this.log.info('listening on the bus');
          this.signals?.connected();
          this.listens++;
          this.isHearing = true;
          void this.sweepAnew();
        },
        lost: (reason) => {
          if (this.isHearing) this.doubtUnproven();
          this.isHearing = false;
          this.counters.reconnects++;
          this.log.warn({ reason }, 'the bus was lost and is connected again; rooms are read from the table meanwhile');
        },
        payload: (payload) => this.receive(payload),
      },
      (beat) => sendHeartbeat(this.db.watch, beat),
    );
    this.reads = new LogReads(db);
    this.noteBug = seldom((error) => log.error({ err: error }, 'the feed could not read, and tries again'));
    this.warnOfForgery = seldom((what) =>
      log.error(what, 'a notification was forged with the key of the bus: see bus_key in docs/operations.md'),
    );
    this.reader = this.payloadReader();
  }

  get isDatabaseAway(): boolean {
    return performance.now() - this.sweptAt > sweepStaleMs;
  }

  /** Why this node can't pass messages on now; undefined when it can. */
  get problem(): string | undefined {
    if (this.isDatabaseAway) return 'the database does not answer';
    return this.listener.healthy ? undefined : 'the bus (LISTEN) is not connected';
  }

  /** Whether LISTEN is in force, and how long its last heartbeat took in ms. */
  get bus(): { readonly isConnected: boolean; readonly heartbeatMs: number } {
    return { isConnected: this.listener.healthy, heartbeatMs: this.listener.heartbeatMs };
  }

  /** Rooms with a socket on this node. */
  get roomCount(): number {
    return this.rooms.size;
  }

  /** Who is told. To be called once, before a room is followed. */
  attach(follower: FeedFollower): void {
    this.follower = follower;
  }

  attachSignals(follower: SignalFollower): void {
    this.signals = follower;
  }

  /** Starts to note what exists of a room. Entries are passed on from the moment when the log is opened with a head. */
  follow(roomId: string): RoomLog {
    let room = this.rooms.get(roomId);
    if (room === undefined) {
      room = new RoomLog(roomId);
      this.rooms.set(roomId, room);
      this.signals?.followed(roomId);
    }
    return room;
  }

  unfollow(roomId: string): void {
    const room = this.rooms.get(roomId);
    if (room !== undefined) this.outdated.delete(room);
    this.rooms.delete(roomId);
    this.signals?.unfollowed(roomId);
  }

  /** Opens a followed room at a head that was read after `follow`; if more exists already, it is read and passed on. */
  open(room: RoomLog, head: number): void {
    room.open(head);
    if (room.isBehind) void this.repair(room);
  }

  /**
   * The entries of a room after seq `after`, up to and with `upTo`, at most one page of about `maxBytes`, which has at least one entry; from memory
   * where they are there.
   * @throws ClientError unavailable
   */
  async read(room: RoomLog, after: number, upTo: number, maxBytes: number): Promise<readonly LogEntry[]> {
    const remembered = room.since(after);
    if (remembered !== undefined && room.lastSeq >= upTo) return cut(remembered, upTo, maxBytes);
    const { generation } = room;
    const page = await this.reads.read({ roomId: room.roomId, after, upTo, maxBytes });
    if (generation === room.generation) room.remember(page);
    return cut(page, upTo, maxBytes);
  }

  /**
   * The first seqs that a read should have brought and did not, if there are any. The room's head says that they exist, and no commit will bring
   * them any more: somebody took them out of the table.
   */
  noteHole(roomId: string, entries: readonly LogEntry[], after: number, upTo: number): ReturnType<typeof firstHole> {
    const hole = firstHole(entries, after, upTo);
    if (hole !== undefined) {
      this.counters.holes++;
      this.log.error({ room: roomId, ...hole }, 'seqs are missing from the log of a room');
    }
    return hole;
  }

  async onApplicationBootstrap(): Promise<void> {
    this.key = await readBusKey(this.db);
    this.epoch = (await readServerState(this.db)).epoch;
    this.toldEpoch = this.epoch;
    this.db.admit = (epoch) => this.admit(epoch);
    this.sweptAt = performance.now();
    await this.listener.start(); // so that a node that says it listens for clients is ready for them
    this.timer = setInterval(() => void this.sweep(), sweepIntervalMs);
  }

  /** Ends before the database does: shutdown hooks run in the order of dependence. */
  async onApplicationShutdown(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    await this.listener.close();
    await this.sweeping;
  }

  private receive(payload: string): void {
    this.counters.payloads++;
    if (this.key === undefined || readPayload(payload, this.key, this.reader)) return;
    this.counters.refusedPayloads++;
    if (this.counters.refusedPayloads === 1)
      this.log.warn('a notification that is not ours was dropped; who else may connect to this database?');
  }

  /** Until a sweep has followed the start of LISTEN, nobody knows whether what is heard is of the epoch that clients know: it is read then. */
  private get isProven(): boolean {
    return this.listens === this.provenListens;
  }

  private payloadReader(): PayloadReader {
    return {
      wants: (roomId) => this.rooms.has(roomId),
      entries: (roomId, entries) => {
        const room = this.rooms.get(roomId);
        if (room === undefined) return;
        for (const entry of entries) {
          if (entry.seq > room.lastSeq) break;
          const passedOn = room.remembered(entry.seq);
          if (passedOn !== undefined && passedOn.json !== entry.json) this.doubt(room, [entry.seq]);
        }
        if (!this.isProven || this.isHeld(room) || entries.some(isEnd)) {
          for (const { seq } of entries) room.exists(seq);
        } else this.take(room, entries);
        if (room.isBehind && this.isProven) void this.repair(room);
      },
      upTo: (roomId, seq) => {
        const room = this.rooms.get(roomId);
        if (room === undefined) return;
        room.exists(seq);
        // What has a line of its own is not announced by such a line.
        const passedOn = room.remembered(seq);
        if (passedOn !== undefined && fitsPayload(passedOn)) this.doubt(room, [seq]);
        if (room.isBehind && this.isProven) void this.repair(room);
      },
      signal: (tag, json) => this.signals?.signal(tag, json),
      heartbeat: (beat) => this.listener.heard(beat),
    };
  }

  /** What is heard of the room is not passed on for now. */
  private isHeld(room: RoomLog): boolean {
    return this.doubts.has(room) || this.outdated.has(room);
  }

  /** Notifications may be lost from here on, also those that would have shown that something forged was passed on before them. */
  private doubtUnproven(): void {
    for (const room of this.rooms.values()) {
      const { unproven } = room;
      if (unproven !== undefined) this.doubt(room, [unproven.from, unproven.to]);
    }
  }

  /** One of the entries of a seq was forged, by whoever has the key of the bus. The one that was passed on, or the one that came later? */
  private doubt(room: RoomLog, seqs: readonly number[]): void {
    const doubts = this.doubts.get(room) ?? new Set();
    for (const seq of seqs) doubts.add(seq);
    if (this.doubts.has(room)) return;
    this.doubts.set(room, doubts);
    void this.settle(room, doubts);
  }

  /** Compares what was passed on of the doubted seqs, and of those between, with the table. */
  private async settle(room: RoomLog, doubts: Set<number>): Promise<void> {
    try {
      while (doubts.size > 0 && !this.closed && this.rooms.get(room.roomId) === room) {
        const [after, upTo] = [Math.min(...doubts) - 1, Math.max(...doubts)];
        doubts.clear();
        if (await this.isTrue(room, after, upTo)) continue;
        this.noteForged(room, 'an entry that was passed on is not the one in the table');
        room.forget();
        if (!this.outdated.has(room)) this.outdated.set(room, 'gap_in_log'); // at the next sweep: a flood of these is one resync a second
        break;
      }
      this.doubts.delete(room);
      if (room.isBehind) void this.repair(room);
    } catch (error) {
      this.noteFailure(error, 'a room could not be compared with the table yet');
      for (const seq of [room.unproven?.from, room.lastSeq]) if (seq !== undefined) doubts.add(seq);
      setTimeout(() => void this.settle(room, doubts), repairRetryMs).unref();
    }
  }

  /** Whether what is remembered after seq `after` up to `upTo` is what the table has. */
  private async isTrue(room: RoomLog, after: number, upTo: number): Promise<boolean> {
    const { generation } = room;
    for (let read = after; read < upTo;) {
      const page = await this.reads.read({ roomId: room.roomId, after: read, upTo, maxBytes: pageMaxBytes });
      if (generation !== room.generation) return true; // it was begun anew meanwhile
      if (page.length === 0 || page.some(({ seq, json }) => (room.remembered(seq)?.json ?? json) !== json)) return false;
      read = page.at(-1)?.seq ?? upTo;
    }
    return true;
  }

  private noteForged({ roomId }: RoomLog, what: string): void {
    this.counters.refusedPayloads++;
    this.warnOfForgery({ room: roomId, what });
  }

  /** Compares the heads of all followed rooms with the table's, and the epoch with the one that clients know. One at a time. */
  private sweep(): Promise<void> {
    this.sweeping ??= this.compareHeads()
      .catch((error: unknown) => this.noteFailure(error, 'the heads of the rooms could not be read'))
      .finally(() => (this.sweeping = undefined));
    return this.sweeping;
  }

  /** A sweep that begins now, or as soon as the one that is under way has ended. */
  private async sweepAnew(): Promise<void> {
    await this.sweeping;
    await this.sweep();
  }

  /**
   * Resolves when every follower of a room was told that the database is of this epoch, so that no answer of it comes before.
   * @throws ClientError unavailable, also where the others of this node's connections are of another epoch
   */
  private async admit(epoch: string): Promise<void> {
    const deadline = performance.now() + admitDeadlineMs;
    while (epoch !== this.toldEpoch) {
      if (this.closed || performance.now() > deadline) throw new ClientError('unavailable');
      await this.sweep();
      if (epoch !== this.toldEpoch) await delay(admitRetryMs);
    }
  }

  private async compareHeads(): Promise<void> {
    const { listens } = this;
    const { epoch, queueUsage } = await readServerState(this.db.watch);
    this.queueUsage = queueUsage;
    const open = [...this.rooms.values()].filter((room) => room.isOpen).map((room) => ({ room, lastSeq: room.lastSeq }));
    // In the turn in which the rooms are taken down: who opens one from now on is told the new epoch.
    if (epoch !== this.epoch) {
      for (const { room } of open) this.outdated.set(room, 'epoch_changed');
      for (const room of this.rooms.values()) room.forgetHeard();
    }
    this.epoch = epoch;
    const heads =
      open.length === 0
        ? new Map<string, number>()
        : await readHeads(
            this.db.watch,
            open.map(({ room }) => room.roomId),
          );
    this.sweptAt = performance.now();
    for (const { room, lastSeq } of open) {
      const head = heads.get(room.roomId) ?? 0;
      // What is notified was committed: a seq above the head that is read afterwards was forged.
      const isForged = lastSeq > head;
      const reason = this.outdated.get(room) ?? (isForged ? 'gap_in_log' : undefined);
      this.outdated.delete(room);
      if (this.rooms.get(room.roomId) !== room) continue;
      if (reason !== undefined) {
        if (reason !== 'epoch_changed' && isForged) this.noteForged(room, 'a seq that was passed on is not in the table');
        const { knownSeq } = room;
        room.reset(head);
        this.follower?.resync(room.roomId, reason, true);
        if (reason === 'epoch_changed' || isForged) continue;
        room.exists(knownSeq); // what was heard while nothing was passed on
        if (room.isBehind) void this.repair(room);
        continue;
      }
      if (this.listener.healthy) room.noteCompared(lastSeq);
      room.exists(head);
      if (room.isBehind) void this.repair(room);
    }
    this.toldEpoch = epoch;
    this.provenListens = listens;
  }

  /** Reads what is missing and passes it on, until the room has all that is known to exist. One at a time for a room. */
  private async repair(room: RoomLog): Promise<void> {
    if (this.repairing.has(room) || this.isHeld(room)) return;
    this.repairing.add(room);
    try {
      while (!this.closed && room.isBehind && !this.isHeld(room) && this.rooms.get(room.roomId) === room) {
        this.counters.repairs++;
        const { lastSeq, knownSeq, generation } = room;
        const range = { roomId: room.roomId, after: lastSeq, upTo: knownSeq, maxBytes: pageMaxBytes };
        let entries = await this.reads.read(range);
        if (entries.length === 0) {
          const head = (await readHeads(this.db.watch, [room.roomId])).get(room.roomId) ?? 0;
          if (generation !== room.generation) continue;
          if (head < knownSeq) {
            // A notification said that there is more than the table has. A while passes, so that a flood of these is few reads.
            this.noteForged(room, 'a seq that was notified is not in the table');
            room.disclaim(head);
            await delay(repairRetryMs);
            continue;
          }
          entries = await this.reads.read(range); // it may have been committed since the first read
        }
        // Who followed it may have left while it was read, and others come to a log of their own, which has got further.
        if (this.rooms.get(room.roomId) !== room) return;
        if (generation === room.generation) this.passOn(room, entries, lastSeq, knownSeq);
      }
    } catch (error) {
      this.noteFailure(error, 'a room could not be repaired yet');
      setTimeout(() => void this.repair(room), repairRetryMs).unref();
    } finally {
      this.repairing.delete(room);
    }
  }

  /** @param entries what the table has after seq `after`; all up to `upTo`, or a page of it */
  private passOn(room: RoomLog, entries: readonly LogEntry[], after: number, upTo: number): void {
    const hole = this.noteHole(room.roomId, entries, after, upTo);
    if (hole === undefined) return this.take(room, entries);
    this.take(
      room,
      entries.filter(({ seq }) => seq < hole.from),
    );
    if (room.lastSeq >= hole.to) return;
    room.skipTo(hole.to + 1);
    this.follower?.resync(room.roomId, 'gap_in_log', false);
  }

  private take(room: RoomLog, entries: readonly LogEntry[]): void {
    const taken = entries.filter((entry) => room.take(entry));
    if (taken.length > 0) this.deliver(room.roomId, taken);
  }

  private noteFailure(error: unknown, what: string): void {
    this.log.debug({ err: error }, what);
    if (!(error instanceof ClientError && error.temporary)) this.noteBug(error);
  }

  private deliver(roomId: string, entries: readonly LogEntry[]): void {
    this.follower?.deliver(roomId, entries);
    this.signals?.delivered(roomId, entries);
  }
}

/** An end of memberships is not believed to a notification: it is read from the table. */
const isEnd = ({ event }: LogEntry): boolean => event !== undefined && (event.kind === 'deleted' || endsMembership(event.kind));

/** The entries up to `upTo` of which the first ones have fewer characters than `maxChars`: as a page from the table, it may go over by its last one. */
function cut(entries: readonly LogEntry[], upTo: number, maxChars: number): readonly LogEntry[] {
  let chars = 0;
  let n = 0;
  for (const { seq, json } of entries) {
    if (seq > upTo || chars >= maxChars) break;
    chars += json.length;
    n++;
  }
  return entries.slice(0, n);
}

/** The first seqs that a read should have brought and did not. A page may end early, but not be empty. */
export function firstHole(entries: readonly LogEntry[], after: number, upTo: number): { from: number; to: number } | undefined {
  if (entries.length === 0) return after < upTo ? { from: after + 1, to: upTo } : undefined;
  const n = entries.findIndex(({ seq }, index) => seq !== after + 1 + index);
  const entry = entries[n];
  return entry && { from: after + 1 + n, to: entry.seq - 1 };
}
