import type { Socket } from 'node:net';
import { jest } from '@jest/globals';
import { eventually } from '../../test/support/eventually.js';
import type { Feed } from '../bus/feed.js';
import { RoomLog } from '../bus/room-log.js';
import { Hub } from './hub.js';
import { Outbox } from './outbox.js';
import type { Subscriber } from './subscription.js';

const roomId = '018f0000-0000-7000-8000-000000000001';

const keeping = (frames: Buffer[]) => ({ hasRoom: true, put: (frame: Buffer) => void frames.push(frame) }) as unknown as Outbox;

/** The hub on a feed that is driven by hand, with sockets that keep what they are given. */
function harness(sockets: number, outboxOf = keeping) {
  const log = new RoomLog(roomId);
  log.open(0);
  const hub = new Hub({ attach: () => undefined, follow: () => log, unfollow: () => undefined, epoch: 'one' } as unknown as Feed);
  const received: Buffer[][] = [];
  const subscriptions = Array.from({ length: sockets }, () => {
    const frames: Buffer[] = [];
    received.push(frames);
    const owner: Subscriber = {
      userId: 'user',
      outbox: outboxOf(frames),
      ended: () => undefined,
      unconfirmed: () => undefined,
    };
    const subscription = hub.subscribe(roomId, owner);
    subscription.begin({ lastSeq: 0, joinedSeq: 0 });
    return subscription;
  });
  const deliver = (seq: number) => {
    const entry = { seq, json: `{"seq":${seq}}` };
    log.take(entry);
    hub.deliver(roomId, [entry]);
  };
  return { hub, received, subscriptions, deliver };
}

const seqsIn = (frame: Buffer) => (frame.toString('latin1').match(/"seq":\d+/g) ?? []).map((text) => Number(text.slice(6)));

it('waits after a fan-out that took long for as long again', async () => {
  const writesSlowly = (frames: Buffer[]): Outbox => {
    const write = (frame: Buffer) => {
      for (const until = performance.now() + 60; performance.now() < until;);
      frames.push(frame);
    };
    const socket = { writable: true, writableLength: 0, write, on() {} };
    return new Outbox(socket as unknown as Socket, 1_048_576, () => undefined, { framesOut: 0, bytesOut: 0 });
  };
  const { received, deliver } = harness(1, writesSlowly);
  const startedAt = performance.now();
  deliver(1);
  await eventually(() => received[0]?.length === 1, 'the first frame');
  deliver(2);
  await eventually(() => received[0]?.length === 2, 'the second frame');
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(100);
});

describe('the fan-out of a room', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(async () => {
    await jest.advanceTimersByTimeAsync(100); // what waits for a turn is of the module, which the next test has too
    jest.useRealTimers();
  });

  it('sends a lone message at once, and what follows within 20 ms together at the end of the window', async () => {
    const { received, deliver } = harness(1);
    deliver(1);
    await jest.advanceTimersByTimeAsync(0);
    expect(received[0]?.map(seqsIn)).toEqual([[1]]);
    for (let seq = 2; seq <= 20; seq++) {
      deliver(seq);
      await jest.advanceTimersByTimeAsync(1);
    }
    expect(received[0]).toHaveLength(1);
    await jest.advanceTimersByTimeAsync(1);
    expect(received[0]?.map(seqsIn)).toEqual([[1], Array.from({ length: 19 }, (_, n) => n + 2)]);
    await jest.advanceTimersByTimeAsync(100);
    deliver(21);
    await jest.advanceTimersByTimeAsync(0);
    expect(received[0]).toHaveLength(3);
  });

  it('makes at most 50 frames a second of any number of messages', async () => {
    const { received, deliver } = harness(1);
    for (let seq = 1; seq <= 5_000; seq++) {
      deliver(seq);
      if (seq % 5 === 0) await jest.advanceTimersByTimeAsync(1);
    }
    await jest.advanceTimersByTimeAsync(20);
    expect(received[0]?.length).toBeLessThanOrEqual(52);
    expect(received[0]?.flatMap(seqsIn)).toEqual(Array.from({ length: 5_000 }, (_, n) => n + 1));
  });

  it('frames once and gives the same buffer to every socket', async () => {
    const { received, deliver } = harness(100);
    deliver(1);
    await jest.advanceTimersByTimeAsync(0);
    expect(new Set(received.map(([frame]) => frame)).size).toBe(1);
  });

  it('gives what is not in the log to who follows the room, not to who may not be a member, and nobody’s own to himself', () => {
    const { hub, received, subscriptions } = harness(3);
    const owner = (userId: string): Subscriber => {
      const frames: Buffer[] = [];
      received.push(frames);
      return {
        userId,
        outbox: keeping(frames),
        ended: () => undefined,
        unconfirmed: () => undefined,
      };
    };
    hub.subscribe(roomId, owner('asks to join'));
    hub.subscribe(roomId, owner('types')).begin({ lastSeq: 0, joinedSeq: 0 });
    subscriptions[1]?.stop();
    subscriptions[2]?.membershipEnded(5);
    hub.push(roomId, [{ text: 'one', exceptUserId: 'types' }]);
    hub.push(roomId, [{ text: 'two', exceptUserId: 'types' }, { text: 'three' }]);
    const texts = received.map((frames) => frames.map((frame) => frame.toString('latin1').replaceAll(/[^a-z]/g, '')));
    expect(texts).toEqual([['one', 'twothree'], [], [], [], ['three']]);
  });

  it('counts what does not go up by one, for all sockets once, and where one socket has less than the others', async () => {
    const { hub, subscriptions } = harness(3);
    const put = async (...seqs: number[]) => {
      hub.deliver(
        roomId,
        seqs.map((seq) => ({ seq, json: `{"seq":${seq}}` })),
      );
      await jest.advanceTimersByTimeAsync(50);
      return { ...hub.faults };
    };
    expect(await put(1, 2, 3)).toEqual({ gaps: 0, repeats: 0 });
    expect(await put(4, 3, 4)).toEqual({ gaps: 0, repeats: 1 });
    expect(await put(5, 5)).toEqual({ gaps: 0, repeats: 2 });
    expect(await put(6, 8)).toEqual({ gaps: 1, repeats: 2 });
    hub.resync(roomId, 'gap_in_log', false);
    for (const subscription of subscriptions) subscription.begin({ lastSeq: 19, joinedSeq: 0 });
    expect(await put(20)).toEqual({ gaps: 1, repeats: 2 });
    subscriptions[0]?.begin({ lastSeq: 18, joinedSeq: 0 });
    expect(await put(21)).toEqual({ gaps: 2, repeats: 2 });
  });

  it('gives a socket that is ahead of the others only what it does not have', async () => {
    const { received, subscriptions, deliver } = harness(2);
    subscriptions[1]?.begin({ lastSeq: 2, joinedSeq: 0 });
    for (const seq of [1, 2, 3]) deliver(seq);
    await jest.advanceTimersByTimeAsync(0);
    expect(received.map((frames) => frames.flatMap(seqsIn))).toEqual([[1, 2, 3], [3]]);
  });
});
