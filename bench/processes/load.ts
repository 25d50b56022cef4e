/**
 * The load generator: a process of its own, started by bench.ts, that has all sockets of a run. One process, so that senders and receivers have one
 * clock; and a lean one, because it shares the cores with the nodes.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { dialects } from '../dialect.js';
import { histogram, microseconds, percentiles, whole } from '../histogram.js';
import { allKnown, comeOnline, type Tally } from '../newcomers.js';
import { onSchedule } from '../on-schedule.js';
import type { ArrivalsResult, FromLoad, LoadResult, Percentiles, Plan, ToLoad } from '../plan.js';
import { Receiver, type Receipts } from '../receiver.js';
import { RoomFrames } from '../room-frames.js';
import { Sender, type Answers } from '../sender.js';

const connectingAtOnce = 20;
const progressMs = 500;
/** How long what was sent may take to be answered, and what was stored to be received. */
const settleDeadlineMs = 30_000;
const pollMs = 5;

const say = (message: FromLoad): void => void process.send?.(message);

const heads = new Promise<Readonly<Record<string, number>>>((known) => {
  process.on('message', (message: ToLoad) => {
    if (message.kind === 'heads') known(message.heads);
    else void run(message.plan);
  });
});

async function run(plan: Plan): Promise<void> {
  const counts: Record<string, number> = {};
  const refusals: Record<string, number> = {};
  let [delivery, ack, late] = [histogram(), histogram(), histogram()];
  let measuring = false;

  const receipts: Receipts = {
    deliveries: 0,
    frames: 0,
    doubled: 0,
    reordered: 0,
    delivered(sampledSends) {
      if (!measuring || sampledSends.length === 0) return;
      const now = microseconds();
      for (const sentAt of sampledSends) delivery.recordValue(whole(now - sentAt));
    },
    unexpected: (what) => count(counts, what),
  };
  const answers: Answers = {
    acked: 0,
    outOfOrder: 0,
    ackedAfter: (us) => void (measuring && ack.recordValue(whole(us))),
    refused: (code) => count(refusals, code),
    unexpected: (what) => count(counts, what),
    now: microseconds,
  };

  const { scenario } = plan;
  const dialect = dialects[plan.dialect];
  const framesOfRoom = new Map<string, RoomFrames>();
  const receivers = await inTurn(plan.receivers, (person) => {
    const frames = framesOfRoom.get(person.roomId) ?? new RoomFrames(person.roomId, scenario.sampleEvery, dialect.live);
    framesOfRoom.set(person.roomId, frames);
    return new Receiver(person, dialect, frames, receipts);
  });
  const unanswered = scenario.offer.kind === 'closed' ? scenario.offer.unansweredPerSender : 0;
  const options = { contentChars: plan.contentChars, clientMsgIds: scenario.clientMsgIds, unanswered };
  const senders = await inTurn(plan.senders, (person) => new Sender(person, dialect, options, answers));
  say({ kind: 'connected' });

  const progress = setInterval(() => say({ kind: 'progress', acked: answers.acked, deliveries: receipts.deliveries }), progressMs);
  const offering = new AbortController();
  if (scenario.offer.kind === 'open' && scenario.offer.afterBusy !== undefined) {
    const { seconds: busyS, messagesPerSecond } = scenario.offer.afterBusy;
    await onSchedule(messagesPerSecond, AbortSignal.timeout(busyS * 1_000), sendInTurn);
  }
  offer();

  await delay(plan.warmUpMs);
  measuring = true;
  const { arrivals } = scenario;
  const before = arrivals && (await latencyOf(plan.measureMs));
  const from = { at: performance.now(), acked: answers.acked, deliveries: receipts.deliveries, frames: receipts.frames };
  say({ kind: 'measuring' });
  const come = arrivals === undefined ? await delay(plan.measureMs) : await arrive(plan, arrivals.withinMs, (what) => count(counts, what));
  const to = { at: performance.now(), acked: answers.acked, deliveries: receipts.deliveries, frames: receipts.frames };
  measuring = false;
  say({ kind: 'measured' });
  const measured = { deliveryMs: percentiles(delivery), ackMs: percentiles(ack), lateMs: percentiles(late) };
  let arrivalsResult: ArrivalsResult | undefined;
  if (before !== undefined && come !== undefined) {
    measuring = true;
    arrivalsResult = { ...come.result, before, after: await latencyOf(plan.measureMs) };
    measuring = false;
  }

  const settlingFrom = performance.now();
  offering.abort();
  for (const sender of senders) sender.stop();
  await until(() => senders.every((sender) => sender.unanswered === 0));
  const notAnswered = senders.reduce((sum, sender) => sum + sender.unanswered, 0);
  if (notAnswered > 0) counts['a send without an answer'] = notAnswered;
  const ackedByRoom: Record<string, number> = {};
  for (const sender of senders) ackedByRoom[sender.roomId] = (ackedByRoom[sender.roomId] ?? 0) + sender.acked;
  say({ kind: 'settled', ackedByRoom, errors: refusals });

  const headOfRoom = await heads;
  const lost = () => receivers.reduce((sum, receiver) => sum + receiver.lost(headOfRoom[receiver.roomId] ?? 0), 0);
  await until(() => lost() === 0);
  clearInterval(progress);
  const seconds = (to.at - from.at) / 1_000;
  const rooms = [...framesOfRoom.values()];
  const result: LoadResult = {
    seconds,
    acked: to.acked - from.acked,
    deliveries: to.deliveries - from.deliveries,
    frames: to.frames - from.frames,
    ...measured,
    lost: lost(),
    doubled: receipts.doubled,
    reordered: receipts.reordered,
    acksOutOfOrder: answers.outOfOrder,
    unexpected: counts,
    framesRead: rooms.reduce((sum, { read }) => sum + read, 0),
    framesCompared: rooms.reduce((sum, { compared }) => sum + compared, 0),
    settleMs: performance.now() - settlingFrom,
    ...(arrivalsResult !== undefined && { arrivals: arrivalsResult }),
  };
  for (const client of [...receivers, ...senders, ...(come?.sockets ?? [])]) client.end();
  say({ kind: 'done', result });
  process.disconnect();

  function offer(): void {
    switch (scenario.offer.kind) {
      case 'closed':
        for (const sender of senders) sender.start();
        return;
      case 'delivered': {
        const receiversOfRoom = receivers.length / scenario.rooms;
        void sendAsDelivered(senders, scenario.offer.undelivered, () => receipts.deliveries / receiversOfRoom, offering.signal);
        return;
      }
      case 'open':
        void onSchedule(scenario.offer.messagesPerSecond, offering.signal, sendInTurn);
    }
  }

  function sendInTurn(dueAt: number, n: number): void {
    if (measuring) late.recordValue(whole(microseconds() - dueAt));
    senders[n % senders.length]?.send(1, dueAt);
  }

  /** Of messages alone, in so many ms from now; measuring begins anew after it. */
  async function latencyOf(ms: number): Promise<Percentiles> {
    delivery = histogram();
    await delay(ms);
    const taken = percentiles(delivery);
    [delivery, ack, late] = [histogram(), histogram(), histogram()];
    return taken;
  }
}

/** Lets the newcomers come, and waits until each knows of all the others of its rooms. */
async function arrive({ newcomers }: Plan, withinMs: number, unexpected: (what: string) => void) {
  const joining = histogram();
  const tally: Tally = {
    frames: {},
    bytes: 0,
    known: 0,
    joined: (us) => joining.recordValue(whole(us)),
    unexpected,
    now: microseconds,
  };
  const from = performance.now();
  const sockets = await comeOnline(newcomers, withinMs, tally);
  const all = allKnown(newcomers);
  await until(() => tally.known === all);
  const allToldMs = tally.known === all ? performance.now() - from : null;
  if (allToldMs === null) unexpected(`newcomers know of ${tally.known} online and not of ${all}`);
  const notJoined = sockets.filter(({ hasJoined }) => !hasJoined).length;
  if (notJoined > 0) unexpected(`${notJoined} newcomers have not joined`);
  const { frames, bytes } = tally;
  return { sockets, result: { joinMs: percentiles(joining), allToldMs, frames: { ...frames }, bytes } };
}

/** Closed loop over what was delivered: the senders send in turn what is wanting of so many undelivered messages. */
async function sendAsDelivered(senders: readonly Sender[], undelivered: number, delivered: () => number, stop: AbortSignal): Promise<void> {
  let sent = 0;
  let turn = 0;
  for (; !stop.aborted; await delay(1)) {
    let wanting = Math.floor(undelivered + delivered() - sent);
    for (let left = senders.length; left > 0 && wanting > 0; left--) {
      const share = Math.ceil(wanting / left);
      senders[turn++ % senders.length]?.send(share);
      sent += share;
      wanting -= share;
    }
  }
}

/** Opens clients, some at once. */
async function inTurn<Given, Client extends { ready(): Promise<void> }>(
  all: readonly Given[],
  open: (given: Given) => Client,
): Promise<Client[]> {
  const clients: Client[] = [];
  for (let n = 0; n < all.length; n += connectingAtOnce) {
    const opened = all.slice(n, n + connectingAtOnce).map(open);
    await Promise.all(opened.map((client) => client.ready()));
    clients.push(...opened);
  }
  return clients;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + settleDeadlineMs;
  while (!condition() && performance.now() < deadline) await delay(pollMs);
}

function count(counts: Record<string, number>, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}
