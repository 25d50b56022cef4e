import type { Feed } from '../bus/feed.js';
import type { LogEntry } from '../bus/payload.js';
import { RoomLog } from '../bus/room-log.js';
import type { Outbox } from './outbox.js';
import { Subscription } from './subscription.js';

const room_id = '018f0000-0000-7000-8000-000000000001';
const user_id = '018f0000-0000-7000-8000-00000000000a';

const message = (seq: number): LogEntry => ({ seq, json: `{"room_id":"${room_id}","seq":${seq}}` });
const kick = (seq: number): LogEntry => {
  const event = { room_id, seq, kind: 'kicked', actor_id: user_id, user_id, username: 'ann' } as NonNullable<LogEntry['event']>;
  return { seq, json: JSON.stringify(event), event };
};

/** A stream from the beginning, of a log of eight entries whose seventh is the end of the membership, in a room that the feed has passed on up to 5. */
function harness() {
  const table = [1, 2, 3, 4, 5, 6].map(message).concat(kick(7), message(8));
  const room = new RoomLog(room_id);
  room.open(5);
  const sent: string[] = [];
  let ended = 0;
  const feed = {
    epoch: 'one',
    noteHole: () => undefined,
    read: (_: RoomLog, after: number, upTo: number, entriesMax: number) =>
      Promise.resolve(table.filter(({ seq }) => seq > after && seq <= upTo).slice(0, entriesMax)),
  } as unknown as Feed;
  const outbox = { hasRoom: true, put: (frame: Buffer) => sent.push(frame.toString('latin1')) } as unknown as Outbox;
  const subscription = new Subscription(room, { userId: user_id, outbox, ended: () => ended++, unconfirmed: () => undefined }, feed, {
    gaps: 0,
    repeats: 0,
  });
  const seqs = () => [...new Set(sent.flatMap((text) => [...text.matchAll(/"seq":(\d+)/g)].map(([, seq]) => Number(seq))))];
  const passOn = () => {
    const entries = table.filter((entry) => room.take(entry));
    for (const { seq, event } of entries) if (event !== undefined) subscription.membershipEnded(seq);
    subscription.offer(entries, Buffer.from(entries.map(({ json }) => json).join('')));
  };
  return { room, subscription, sent, seqs, passOn, ended: () => ended };
}

describe('what a stream reads of its room', () => {
  it('is not what is known to exist and was not passed on: an end of the membership may be in it', async () => {
    const { room, subscription, seqs, passOn, ended } = harness();
    room.exists(8);
    subscription.begin({ lastSeq: 5, joinedSeq: 0 }, 0);
    await subscription.catchUp(1_000_000);
    expect(seqs()).toEqual([1, 2, 3, 4, 5]);
    passOn();
    expect([seqs(), ended()]).toEqual([[1, 2, 3, 4, 5, 6, 7], 1]);
  });

  it('goes up to where the user was found to be a member, also where that was not passed on yet', async () => {
    const { subscription, seqs, passOn, ended } = harness();
    subscription.begin({ lastSeq: 6, joinedSeq: 0 }, 0);
    await subscription.catchUp(1_000_000);
    expect(seqs()).toEqual([1, 2, 3, 4, 5, 6]);
    passOn();
    expect([seqs(), ended()]).toEqual([[1, 2, 3, 4, 5, 6, 7], 1]);
  });

  it('is history up to there, though a page of it ends at what was passed on: the rest may be older than the membership, and is nothing to be live', async () => {
    const { subscription, sent } = harness();
    subscription.begin({ lastSeq: 6, joinedSeq: 0 }, 0);
    await subscription.catchUp(5);
    expect(subscription.isBehind).toBe(true);
    await subscription.catchUp(5);
    expect(subscription.isBehind).toBe(false);
    expect(sent.map((text) => /"has_more":(\w+)/.exec(text)?.[1])).toEqual(['true', 'false']);
  });
});

it('a stream that was begun anew does not bring what was before a membership that is newer than that', async () => {
  const { room, subscription, seqs, sent } = harness();
  subscription.begin({ lastSeq: 5, joinedSeq: 0 });
  subscription.restart('epoch_changed');
  room.open(5);
  subscription.confirm({ lastSeq: 6, joinedSeq: 6 });
  await subscription.catchUp(1_000_000);
  expect(seqs()).toEqual([]);
  expect(sent.filter((text) => text.includes('"resync"')).map((text) => /"last_seq":(\d+)/.exec(text)?.[1])).toEqual(['5', '6']);
});
