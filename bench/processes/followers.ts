/** Has the sockets of followers and senders, and does what it is asked (followers.ts). */
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { serveCalls } from '../calls.js';
import { contentsOf } from '../content.js';
import { dialects } from '../dialect.js';
import { Follower, type RoomReader, type Witness } from '../follower.js';
import type { Arrival, Checked, FollowerPlan, Latency, Return } from '../followers.js';
import { HistoryPages } from '../history-pages.js';
import { histogram, microseconds, percentiles, whole } from '../histogram.js';
import { LeanSocket, textFrame } from '../lean-socket.js';
import { onSchedule } from '../on-schedule.js';
import type { Person } from '../plan.js';
import { RoomFrames } from '../room-frames.js';
import { Sender, type Answers } from '../sender.js';

/** How much is said. */
interface Speech {
  readonly perSecond: number;
  readonly contentChars: number;
}

const pollMs = 2;
const liveDeadlineMs = 120_000;
const settleDeadlineMs = 30_000;

const unexpected: Record<string, number> = {};
const readers = new Map<string, RoomReader>();
const followers: Follower[] = [];
let senders: Sender[] = [];
let talkers: LeanSocket[] = [];
let sending = new AbortController();
/** Of rooms that are broadcast. */
const spoken: Record<string, number> = {};
let [delivery, late, coming] = [histogram(), histogram(), histogram()];
let measuredFrom = { at: 0, deliveries: 0 };
let gone = 0;
let lastLiveAt = 0;
let liveCount = 0;

const note = (what: string): void => void (unexpected[what] = (unexpected[what] ?? 0) + 1);

const witness: Witness = {
  bytes: 0,
  deliveries: 0,
  doubled: 0,
  reordered: 0,
  readerOf(roomId) {
    const reader = readers.get(roomId) ?? { live: new RoomFrames(roomId, 1, dialects.trunkline.live), pages: new HistoryPages(roomId) };
    readers.set(roomId, reader);
    return reader;
  },
  delivered(sampledSends) {
    const now = microseconds();
    for (const sentAt of sampledSends) delivery.recordValue(whole(now - sentAt));
  },
  live(us) {
    liveCount++;
    lastLiveAt = Date.now();
    coming.recordValue(whole(us));
  },
  gone() {
    liveCount--;
    gone++;
  },
  unexpected: note,
  now: microseconds,
};
const answers: Answers = {
  acked: 0,
  outOfOrder: 0,
  ackedAfter: () => undefined,
  refused: (code) => note(`a send was refused with ${code}`),
  unexpected: note,
  now: microseconds,
};

const calls = {
  /** More followers come, at most so many at a time. Resolves when all are live. */
  async come({ followers: plans, atOnce }: { readonly followers: readonly FollowerPlan[]; readonly atOnce: number }): Promise<Arrival> {
    const from = { at: performance.now(), bytes: witness.bytes, deliveries: witness.deliveries };
    coming = histogram();
    const limit = pLimit(atOnce);
    const come = plans.map((plan) => {
      const follower = new Follower(plan, witness);
      followers.push(follower);
      return limit(() => follower.connect());
    });
    await Promise.race([Promise.all(come), delay(liveDeadlineMs, undefined, { ref: false })]);
    if (liveCount < followers.length)
      throw new Error(`${followers.length - liveCount} followers were not live in time; ${JSON.stringify(unexpected)}`);
    return {
      allLiveMs: performance.now() - from.at,
      liveMs: percentiles(coming),
      bytes: witness.bytes - from.bytes,
      deliveries: witness.deliveries - from.deliveries,
    };
  },
  /** Senders send, open loop, until `stop`. Resolves when they are connected. */
  async send({ senders: people, perSecond, contentChars }: Speech & { readonly senders: readonly Person[] }): Promise<void> {
    const options = { contentChars, clientMsgIds: false, unanswered: 0 };
    senders = people.map((person) => new Sender(person, dialects.trunkline, options, answers));
    await Promise.all(senders.map((sender) => sender.ready()));
    schedule(perSecond, (dueAt, n) => senders[n % senders.length]?.send(1, dueAt));
  },
  /** As `send`, but what is sent are the frames of a room's messages themselves, to bare servers, which pass them on. */
  async broadcast({
    urls,
    roomId,
    perSecond,
    contentChars,
  }: Speech & { readonly urls: readonly string[]; readonly roomId: string }): Promise<void> {
    const contentAt = contentsOf(contentChars);
    const opened = urls.map(
      (url) =>
        new Promise<LeanSocket>((open) => {
          const closed = () => note('a bare server closed its talker');
          const socket = new LeanSocket(new URL(url), '', { frame: () => undefined, closed }, () => open(socket));
        }),
    );
    talkers = await Promise.all(opened);
    spoken[roomId] = 0;
    schedule(perSecond, (dueAt) => {
      const seq = (spoken[roomId] = (spoken[roomId] ?? 0) + 1);
      const message = {
        room_id: roomId,
        seq,
        id: seq,
        user_id: roomId,
        username: 'bench',
        content: contentAt(dueAt),
        created_at: new Date(),
      };
      const frame = textFrame(JSON.stringify({ event: 'new_message_batch', data: [message] }));
      for (const talker of talkers) talker.write(frame);
    });
  },
  /** Begins to take latencies anew. */
  measure(): Promise<void> {
    [delivery, late] = [histogram(), histogram()];
    measuredFrom = { at: performance.now(), deliveries: witness.deliveries };
    return Promise.resolve();
  },

  measured(): Promise<Latency> {
    return Promise.resolve({
      seconds: (performance.now() - measuredFrom.at) / 1_000,
      deliveries: witness.deliveries - measuredFrom.deliveries,
      deliveryMs: percentiles(delivery),
      lateMs: percentiles(late),
    });
  },

  /** A node is about to go, and so many followers with it. */
  leaving({ nodeUrl }: { readonly nodeUrl: string }): Promise<number> {
    [gone, coming] = [0, histogram()];
    return Promise.resolve(followers.filter((follower) => follower.nodeUrl === nodeUrl).length);
  },

  /** Resolves when so many have lost their connection since, and all are live. */
  async returned({ gone: expected }: { readonly gone: number }): Promise<Return> {
    await until(() => gone >= expected && liveCount === followers.length, liveDeadlineMs);
    if (liveCount < followers.length) note(`${followers.length - liveCount} followers did not come back`);
    return { lastLiveAt, gone, awayMs: percentiles(coming) };
  },

  /** No more is sent. Resolves when all is answered, with what was acked in each room, or, of what was broadcast, with the head. */
  async stop(): Promise<Readonly<Record<string, number>>> {
    sending.abort();
    await until(() => senders.every(({ unanswered }) => unanswered === 0), settleDeadlineMs);
    const unanswered = senders.reduce((sum, sender) => sum + sender.unanswered, 0);
    if (unanswered > 0) note(`${unanswered} sends were not answered`);
    if (answers.outOfOrder > 0) note(`${answers.outOfOrder} acks were out of order`);
    const acked: Record<string, number> = { ...spoken };
    for (const sender of senders) acked[sender.roomId] = (acked[sender.roomId] ?? 0) + sender.acked;
    return acked;
  },

  /** Waits for the followers to reach the heads of their rooms. */
  async check({ heads }: { readonly heads: Readonly<Record<string, number>> }): Promise<Checked> {
    const lost = () => followers.reduce((sum, follower) => sum + follower.lost(heads), 0);
    await until(() => lost() === 0, settleDeadlineMs);
    const { doubled, reordered } = witness;
    return { lost: lost(), doubled, reordered, unexpected };
  },

  /** The pages of history of a room that were read, as frames in base64. */
  pages: ({ roomId }: { readonly roomId: string }): Promise<string> =>
    Promise.resolve(readers.get(roomId)?.pages.frames.toString('base64') ?? ''),
};

export type FollowerCalls = typeof calls;
serveCalls(calls);

function schedule(perSecond: number, send: (dueAt: number, n: number) => void): void {
  sending = new AbortController();
  void onSchedule(perSecond, sending.signal, (dueAt, n) => {
    late.recordValue(whole(microseconds() - dueAt));
    send(dueAt, n);
  });
}

async function until(condition: () => boolean, deadlineMs: number): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!condition() && performance.now() < deadline) await delay(pollMs);
}
