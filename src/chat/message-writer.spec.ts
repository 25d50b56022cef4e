import fc from 'fast-check';
import pg from 'pg';
import { DatabaseAway } from '../database/sql-error.js';
import type { ErrorCode } from '../protocol/errors.js';
import { ClientError } from '../protocol/errors.js';
import type { NewMessage, Outcome } from './message.store.js';
import { MessageWriter, type DoubtEnd, type StoredBatch, type WriterOptions } from './message-writer.js';

/** A batch in the hands of the database: it stays in flight until the test answers. */
interface Flight {
  readonly messages: readonly NewMessage[];
  readonly contents: readonly string[];
  store(): void;
  fail(error: unknown): void;
}

const sqlError = (code: string) => Object.assign(new pg.DatabaseError('as the server says', 1, 'error'), { code });
const refused = () => sqlError('23514');
const contended = () => sqlError('55P03');
const unavailable = () => new DatabaseAway('the connection was lost');

/** Time that passes only when somebody waits for it. */
class TestClock {
  ms = 1_000_000;
  readonly waits: number[] = [];

  now(): number {
    return this.ms;
  }

  delay(ms: number): Promise<void> {
    this.ms += ms;
    this.waits.push(ms);
    return Promise.resolve();
  }

  /** To be let go off by the test. */
  readonly alarms = new Set<() => void>();

  after(_: number, call: () => void): () => void {
    this.alarms.add(call);
    return () => this.alarms.delete(call);
  }
}

function setUp(options: Partial<WriterOptions> = {}) {
  const flights: Flight[] = [];
  const failures: number[] = [];
  const stored: StoredBatch[] = [];
  const doubts: DoubtEnd[] = [];
  const clock = new TestClock();
  let waiter: (() => void) | undefined;
  let seq = 0;
  const writer = new MessageWriter({
    lanes: 1,
    queueMaxMessages: 10_000,
    laneOf: () => 0,
    append: (messages) =>
      new Promise<Outcome[]>((store, fail) => {
        const contents = messages.map(({ content }) => content);
        flights.push({
          messages,
          contents,
          store: () => store(messages.map(() => ({ status: 'stored', seq: ++seq, id: seq, at: 0 }))),
          fail,
        });
        waiter?.();
      }),
    onBatchFailed: (_, messages) => failures.push(messages),
    onBatchStored: (batch) => stored.push(batch),
    onDoubtEnded: (end) => doubts.push(end),
    clock,
    ...options,
  });
  let taken = 0;
  /** The next batch that reaches the database. */
  const flight = async (): Promise<Flight> => {
    for (;;) {
      const next = flights[taken];
      if (next !== undefined) {
        taken++;
        return next;
      }
      await new Promise<void>((arrived) => (waiter = arrived));
    }
  };
  const send = (content: string, { roomId = 'room', userId = 'ann', clientMsgId }: Partial<NewMessage> = {}) =>
    appended(writer, { roomId, userId, content, clientMsgId });
  return { writer, clock, flight, flights, failures, stored, doubts, send };
}

const appended = (writer: MessageWriter, message: NewMessage): Promise<Outcome> =>
  new Promise((stored, failed) => {
    writer.append(message, (settled) => (settled.status === 'failed' ? failed(settled.error) : stored(settled)));
  });

/** The outcome's seq, or the code that the sender was told. */
const answer = (sent: Promise<Outcome>): Promise<number | ErrorCode | 'another error'> =>
  sent.then(
    (outcome) => ('seq' in outcome ? outcome.seq : -1),
    (error: unknown) => (error instanceof ClientError ? error.code : 'another error'),
  );

/** Lets everything run that is ready to. */
const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((next) => setImmediate(next));
};

describe('batches', () => {
  it('what arrives while a batch is in flight is the next batch, in the order of its arrival', async () => {
    const { send, flight, flights } = setUp();
    const first = [send('1'), send('2')];
    const one = await flight();
    expect(one.contents).toEqual(['1', '2']);
    const second = [send('3'), send('4'), send('5')];
    await settled();
    expect(flights).toHaveLength(1);
    one.store();
    const two = await flight();
    expect(two.contents).toEqual(['3', '4', '5']);
    two.store();
    expect(await Promise.all([...first, ...second].map(answer))).toEqual([1, 2, 3, 4, 5]);
  });

  it('are told with how long they and the send before them took, and one seq that is new', async () => {
    const { send, flight, clock, stored, writer } = setUp();
    const first = send('1');
    const one = await flight();
    clock.ms += 7;
    const second = [send('2'), send('3')];
    expect(writer.queued).toEqual([2]);
    clock.ms += 3;
    one.store();
    await first;
    const two = await flight();
    expect(writer.queued).toEqual([0]);
    clock.ms += 5;
    two.store();
    await Promise.all(second);
    expect(stored).toEqual([
      { messages: 1, roundTripMs: 10, longestMs: 10, sample: { roomId: 'room', seq: 1 } },
      { messages: 2, roundTripMs: 5, longestMs: 12, sample: { roomId: 'room', seq: 3 } }, // of which it waited for others for 4
    ]);
  });

  const leftAndRight = { lanes: 2, laneOf: (roomId: string) => (roomId === 'left' ? 0 : 1) };

  it('are shared by the lanes while little waits: one at a time, which is not waited for by who has enough for a batch of its own', async () => {
    const { send, flight, flights } = setUp(leftAndRight);
    const sent = [send('left 1', { roomId: 'left' })];
    const one = await flight();
    expect(one.contents).toEqual(['left 1']);
    sent.push(send('right 1', { roomId: 'right' }), send('left 2', { roomId: 'left' }));
    await settled();
    expect(flights).toHaveLength(1);
    one.store();
    const both = await flight();
    expect(both.contents.toSorted()).toEqual(['left 2', 'right 1']);
    both.store();

    sent.push(send('right 2', { roomId: 'right' }));
    const shared = await flight();
    sent.push(...Array.from({ length: 32 }, () => send('left', { roomId: 'left' })));
    await settled();
    expect(flights).toHaveLength(4);
    const own = await flight();
    expect([shared.contents, own.contents.length]).toEqual([['right 2'], 32]);
    sent.push(...Array.from({ length: 32 }, () => send('left', { roomId: 'left' })));
    await settled();
    expect(flights).toHaveLength(4); // a lane has one in flight
    own.store();
    (await flight()).store();
    shared.store();
    await Promise.all(sent);
  });

  it('one that takes long, because of a room that somebody has locked, keeps the other lanes waiting for a moment only', async () => {
    const { send, flight, flights, clock } = setUp(leftAndRight);
    const sent = [send('left 1', { roomId: 'left' })];
    const stuck = await flight();
    sent.push(send('right 1', { roomId: 'right' }), send('left 2', { roomId: 'left' }));
    await settled();
    expect(flights).toHaveLength(1);
    for (const goOff of clock.alarms) goOff();
    const beside = await flight();
    expect(beside.contents).toEqual(['right 1']);
    beside.store();
    stuck.store();
    const next = await flight();
    expect(next.contents).toEqual(['left 2']);
    next.store();
    await Promise.all(sent);
  });

  it('a few sends wait for others, half as long as the batch before took and 4 ms at most, and keep their order', async () => {
    for (const [tookMs, waitsMs] of [
      [3, 2],
      [100, 4],
    ] as const) {
      let waited: () => void = () => undefined;
      const waits: number[] = [];
      const clock = Object.assign(new TestClock(), {
        delay: (ms: number) => (waits.push(ms), new Promise<void>((over) => (waited = over))),
      });
      const { send, flight, flights } = setUp({ clock });
      const sent = [send('1')];
      const one = await flight();
      sent.push(send('2'), send('3'));
      clock.ms += tookMs;
      one.store();
      await settled();
      expect([waits, flights.length]).toEqual([[waitsMs], 1]);
      sent.push(send('4'));
      waited();
      const two = await flight();
      expect(two.contents).toEqual(['2', '3', '4']);
      two.store();
      expect(await Promise.all(sent.map(answer))).toEqual([1, 2, 3, 4]);
    }
  });

  it.each([
    ['a lone send', 1],
    ['as many sends as are worth a batch', 32],
  ])('%s waits for nothing but the batch in flight', async (_, count) => {
    const { send, flight, clock } = setUp();
    const sent = [send('first')];
    const one = await flight();
    sent.push(...Array.from({ length: count }, () => send('next')));
    clock.ms += 8;
    one.store();
    const two = await flight();
    expect([two.contents.length, clock.waits]).toEqual([count, []]);
    two.store();
    await Promise.all(sent);
  });

  it('no batch has more than 500 messages, and of one user more than 128', async () => {
    const { send, flight } = setUp();
    const sent = Array.from({ length: 1_001 }, (_, n) => send(`${n}`, { userId: `user ${n % 10}` }));
    const lone = Array.from({ length: 129 }, (_, n) => send(`${n}`));
    const sizes: number[] = [];
    for (let n = 0; n < 3; n++) {
      const batch = await flight();
      sizes.push(batch.contents.length);
      batch.store();
    }
    expect(sizes).toEqual([500, 500, 130]);
    const told = await Promise.all([...sent, ...lone].map(answer));
    expect(told.toSorted((a, b) => Number(a) - Number(b))).toEqual(told.map((_, n) => n + 1));
    const alone = Array.from({ length: 129 }, (_, n) => send(`${n}`));
    const first = await flight();
    expect(first.contents).toHaveLength(128);
    first.store();
    (await flight()).store();
    await Promise.all(alone);
  });

  it('no batch has more than 256 KiB, and of one user more than 64 KiB', async () => {
    const { send, flight } = setUp();
    const users = ['ann', 'bob', 'cleo', 'dan', 'eve'];
    const sent = Array.from({ length: 50 }, (_, n) => send('x'.repeat(15_000), { userId: users[n % 5] ?? '' }));
    const all = Promise.all(sent).then(() => undefined);
    for (let batch = await flight(); batch !== undefined;) {
      expect(batch.contents.length).toBeLessThanOrEqual(17);
      for (const user of users) expect(batch.messages.filter(({ userId }) => userId === user).length).toBeLessThanOrEqual(4);
      batch.store();
      const next = await Promise.race([flight(), all]);
      if (next === undefined) break;
      batch = next;
    }
  });

  it('a second send with the same client_msg_id and another content is judged after the first, in a later batch; nothing of its user overtakes it', async () => {
    const { send, flight } = setUp();
    const sent = [
      send('a', { clientMsgId: 'k' }),
      send('b', { clientMsgId: 'l' }),
      send('another', { clientMsgId: 'k' }),
      send('c'),
      send('d', { clientMsgId: 'k', userId: 'bob' }),
    ];
    const one = await flight();
    expect(one.contents).toEqual(['a', 'b', 'd']);
    one.store();
    const two = await flight();
    expect(two.contents).toEqual(['another', 'c']);
    two.store();
    await Promise.all(sent);
  });

  it('the same client_msg_id in two rooms, or of two senders, is no reason to end a batch', async () => {
    const { send, flight } = setUp();
    const sent = [
      send('a', { clientMsgId: 'k' }),
      send('b', { clientMsgId: 'k', roomId: 'other' }),
      send('c', { clientMsgId: 'k', userId: 'bob' }),
    ];
    const one = await flight();
    expect(one.contents).toEqual(['a', 'b', 'c']);
    one.store();
    await Promise.all(sent);
  });

  it('drain resolves when all that was accepted has its answer, and not before', async () => {
    const { writer, send, flight } = setUp();
    const sent = [send('1')];
    const one = await flight();
    sent.push(send('2'));
    let drained = false;
    const draining = writer.drain().then(() => (drained = true));
    one.store();
    const two = await flight();
    await settled();
    expect(drained).toBe(false);
    two.store();
    await draining;
    expect(await Promise.all(sent.map(answer))).toEqual([1, 2]);
  });
});

describe('users take turns', () => {
  it('a backlog of one user costs another the batch in flight, not the backlog', async () => {
    const { send, flight } = setUp();
    const backlog = Array.from({ length: 2_000 }, (_, n) => send(`${n}`));
    const one = await flight();
    const other = send('of another', { userId: 'bob' });
    one.store();
    const two = await flight();
    expect(two.contents).toContain('of another');
    expect(two.contents).toHaveLength(129);
    two.store();
    await other;
    for (let n = 256; n < 2_000; n += 128) (await flight()).store();
    await Promise.all(backlog);
  });

  it('each gets as much of a batch as the others: a user with a few sends is not behind those with many', async () => {
    const { send, flight } = setUp();
    const sent = Array.from({ length: 1_000 }, (_, n) => send(`${n}`, { userId: `user ${Math.floor(n / 100)}` }));
    sent.push(...Array.from({ length: 10 }, () => send('few', { userId: 'bob' })));
    const one = await flight();
    expect(one.contents).toHaveLength(500);
    expect(one.contents.filter((content) => content === 'few')).toHaveLength(10);
    one.store();
    for (let n = 0; n < 2; n++) (await flight()).store();
    await Promise.all(sent);
  });

  it('a large send goes beside the batch of the others, and is not overtaken by what its user sends to the room after it', async () => {
    const { send, flight, flights } = setUp();
    const large = 'x'.repeat(60_000);
    const sent = [send('before', { roomId: 'flooded' }), send(large, { roomId: 'flooded' }), send('after', { roomId: 'flooded' })];
    const one = await flight();
    expect(one.contents).toEqual(['before']);
    sent.push(send('1', { userId: 'bob' }));
    await settled();
    expect(flights).toHaveLength(1); // the room is in flight
    one.store();
    const [two, beside] = [await flight(), await flight()];
    expect([two.contents, beside.contents]).toEqual([['1'], [large]]);
    two.store();
    for (let n = 2; n <= 4; n++) {
      const other = send(`${n}`, { userId: 'bob' });
      const next = await flight();
      expect(next.contents).toEqual([`${n}`]);
      next.store();
      await other;
    }
    beside.store();
    const last = await flight();
    expect(last.contents).toEqual(['after']);
    last.store();
    await Promise.all(sent);
  });

  it('in the room of large sends, those of others are in each second batch; and large ones find their place in a busy room', async () => {
    const { send, flight } = setUp();
    const sent = Array.from({ length: 4 }, () => send('x'.repeat(60_000)));
    const order: string[] = [];
    const larges = Promise.all(sent).then(() => undefined);
    for (;;) {
      const small = send('small', { userId: 'bob' });
      const batch = await Promise.race([larges, flight()]);
      if (batch === undefined) break;
      order.push(batch.contents[0]?.length === 60_000 ? 'large' : 'small');
      batch.store();
      void small.catch(() => undefined);
      await settled();
    }
    expect(order.indexOf('small')).toBeLessThan(2);
    expect(order.join(' ')).not.toContain('large large');
    expect(order.filter((size) => size === 'large')).toHaveLength(4);
  });

  it('repeats of a send in one batch cost no statement: its outcome settles them, in their order', async () => {
    const { writer, flight, flights } = setUp();
    const told: string[] = [];
    const append = (n: number, message: Partial<NewMessage>) =>
      writer.append({ roomId: 'room', userId: 'ann', content: 'a', ...message }, (outcome) => told.push(`${n} ${outcome.status}`));
    append(0, { clientMsgId: 'k' });
    append(1, { content: 'between' });
    for (let n = 2; n < 400; n++) append(n, { clientMsgId: 'k' });
    append(400, { content: 'after' });
    const one = await flight();
    expect(one.contents).toEqual(['a', 'between', 'after']);
    one.store();
    await writer.drain();
    expect(flights).toHaveLength(1);
    expect(told).toEqual(['0 stored', '1 stored', ...Array.from({ length: 398 }, (_, n) => `${n + 2} duplicate`), '400 stored']);
  });

  it.each<[string, Outcome]>([
    ['a conflict', { status: 'conflict', seq: 7 }],
    ['no member', { status: 'not_a_member' }],
    ['no room', { status: 'no_such_room' }],
  ])('%s is the outcome of the repeats too', async (_, outcome) => {
    const { send, writer } = setUp({ append: (batch) => Promise.resolve(batch.map(() => outcome)) });
    const sent = [1, 2, 3].map(() => send('a', { clientMsgId: 'k' }));
    expect(await Promise.all(sent)).toEqual([outcome, outcome, outcome]);
    await writer.drain();
  });

  it('repeats are tried again with the send that they repeat when no answer came, and in halves each by itself', async () => {
    const { send, flight } = setUp();
    const sent = [1, 2, 3].map(() => send('a', { clientMsgId: 'k' }));
    (await flight()).fail(unavailable());
    const again = await flight();
    expect(again.contents).toEqual(['a']);
    again.fail(refused()); // of three
    for (let n = 0; n < 2; n++) (await flight()).fail(refused()); // of the first two, of the first one
    for (let n = 0; n < 2; n++) (await flight()).store();
    expect(await Promise.all(sent.map(answer))).toEqual(['internal', 1, 2]);
  });

  it.each<[string, Outcome]>([
    ['repeated what was stored', { status: 'duplicate', seq: 1, id: 1, at: 0 }],
    ['sent another content under a used client_msg_id', { status: 'conflict', seq: 1 }],
    ['sent to a room without being a member', { status: 'not_a_member' }],
    ['sent to a room that is not there', { status: 'no_such_room' }],
  ])('the sends of a user who just %s are stored beside those of others', async (_, outcome) => {
    const batches: { users: string[]; retriesLikely: boolean }[] = [];
    const { send, clock } = setUp({
      append: (batch, retriesLikely) => {
        batches.push({ users: batch.map(({ userId }) => userId), retriesLikely });
        return Promise.resolve(batch.map(({ userId }) => (userId === 'eve' ? outcome : { status: 'stored', seq: 1, id: 1, at: 0 })));
      },
    });
    const both = (roomId: string) => Promise.all([send('a', { userId: 'eve' }), send('b', { userId: 'bob', roomId })]);
    await both('other');
    await both('other');
    clock.ms += 11_000;
    await both('other');
    expect(batches).toEqual([
      { users: ['eve', 'bob'], retriesLikely: false },
      { users: ['bob'], retriesLikely: false },
      { users: ['eve'], retriesLikely: true },
      { users: ['eve', 'bob'], retriesLikely: false },
    ]);
  });

  it('a user who fills the queue is refused while there is room for every other', async () => {
    const { writer, send, flight } = setUp({ queueMaxMessages: 900 });
    const sent = Array.from({ length: 2_000 }, () => answer(send('of one')));
    const others = Array.from({ length: 3 }, (_, n) => answer(send('of another', { userId: `user ${n}` })));
    const second = Array.from({ length: 900 }, () => answer(send('of two', { userId: 'bob' })));
    const third = answer(send('of three', { userId: 'cleo' }));
    for (let n = 0; n < 4; n++) (await flight()).store();
    const draining = writer.drain().then(() => undefined);
    for (;;) {
      const batch = await Promise.race([flight(), draining]);
      if (batch === undefined) break;
      batch.store();
    }
    const taken = async (answers: Promise<unknown>[]) => (await Promise.all(answers)).filter((told) => told !== 'overloaded').length;
    expect(await taken(sent)).toBe(450);
    expect(await taken(others)).toBe(3);
    expect(await taken(second)).toBe(224);
    expect(await third).not.toBe('overloaded');
  });

  it('a backlog of one user does not make the node look busy, those of many do', () => {
    const { writer, send } = setUp();
    void Array.from({ length: 2_000 }, () => send('of one'));
    expect(writer.isBackedUp).toBe(false);
    void Array.from({ length: 501 }, (_, n) => send('of many', { userId: `user ${n}` }));
    expect(writer.isBackedUp).toBe(true);
  });
});

describe('a full queue', () => {
  it('refuses what it can’t hold with overloaded and a time to wait, and loses nothing that it took', async () => {
    const { send, flight } = setUp({ queueMaxMessages: 6 });
    const taken = ['1', '2', '3'].map((content) => send(content));
    await expect(send('4')).rejects.toMatchObject({ code: 'overloaded', temporary: true, details: { retryAfterMs: expect.any(Number) } });
    const one = await flight();
    expect(one.contents).toEqual(['1', '2', '3']);
    expect(await answer(send('5'))).toBe('overloaded'); // what is in flight is held too
    one.store();
    expect(await Promise.all(taken.map(answer))).toEqual([1, 2, 3]);
    const after = ['6', '7', '8'].map((content) => send(content)); // who has an answer finds the place free
    (await flight()).store();
    expect(await Promise.all(after.map(answer))).toEqual([4, 5, 6]);
  });

  it('is full by bytes too', async () => {
    const { send, flight } = setUp({ queueMaxMessages: 500 });
    const taken = Array.from({ length: 3 }, () => send('x'.repeat(100_000)));
    expect(await answer(send('x'.repeat(100_000)))).toBe('overloaded');
    const small = send('x', { userId: 'bob' });
    for (let n = 0; n < 4; n++) (await flight()).store();
    expect(await Promise.all([small, ...taken].map(answer))).toEqual([1, 2, 3, 4]);
  });

  it('is as empty after failures as before', async () => {
    const { send, flight, clock } = setUp({ queueMaxMessages: 4 });
    for (const error of [refused(), unavailable(), unavailable()]) {
      const sent = [send('1'), send('2')];
      (await flight()).fail(error);
      if (error instanceof pg.DatabaseError) for (let n = 0; n < 2; n++) (await flight()).fail(refused());
      expect(await Promise.all(sent.map(answer))).not.toContain('overloaded');
    }
    const expired = [send('1'), send('2')];
    clock.ms += 60_000;
    expect(await Promise.all(expired.map(answer))).toEqual(['unavailable', 'unavailable']);
    const sent = [send('1'), send('2')];
    (await flight()).store();
    expect(await Promise.all(sent.map(answer))).toEqual([1, 2]);
  });
});

it('a batch that failed by a bug of ours is answered with internal at once, and not tried again', async () => {
  const { send, flight, flights } = setUp();
  const sent = [send('1'), send('2', { clientMsgId: 'one' })];
  (await flight()).fail(new TypeError('of ours'));
  expect(await Promise.all(sent.map(answer))).toEqual(['internal', 'internal']);
  await settled();
  expect(flights).toHaveLength(1);
  const next = send('3');
  (await flight()).store();
  expect(await next).toMatchObject({ status: 'stored' });
});

describe('a refused batch', () => {
  it('is tried again in halves until the item that spoils it stands alone, and only that one is refused', async () => {
    const { send, flight, failures } = setUp();
    const sent = ['1', '2', '3', 'poison', '5', '6', '7'].map((content) => send(content));
    const batches: string[] = [];
    const answers = Promise.all(sent.map(answer));
    for (;;) {
      const batch = await Promise.race([flight(), answers]);
      if (Array.isArray(batch)) break;
      batches.push(batch.contents.join(' '));
      if (batch.contents.includes('poison')) batch.fail(refused());
      else batch.store();
    }
    expect(batches).toEqual(['1 2 3 poison 5 6 7', '1 2 3 poison', '1 2', '3 poison', '3', 'poison', '5 6 7']);
    expect(await answers).toEqual([1, 2, 3, 'internal', 4, 5, 6]);
    expect(failures).toEqual([7, 4, 2, 1]);
  });
});

describe('a room that somebody else has locked', () => {
  it('stops its own sends only; they are stored in order when the lock is gone', async () => {
    const { send, flight } = setUp();
    const locked = [send('l1', { roomId: 'locked' })];
    const second = [send('s1', { roomId: 'second' })];
    locked.push(send('l2', { roomId: 'locked' }));
    (await flight()).fail(contended());
    const alone = await flight();
    expect(alone.contents).toEqual(['l1', 'l2']); // and waits for its lock, for as long as that takes
    locked.push(send('l3', { roomId: 'locked' }));
    second.push(send('s2', { roomId: 'second' }));
    for (let n = 1; n <= 3; n++) {
      const third = send(`t${n}`, { roomId: 'third' });
      const beside = await flight();
      expect(beside.contents).toEqual([`t${n}`]);
      beside.store();
      expect(await answer(third)).toBe(n);
    }

    alone.fail(contended());
    const other = await flight();
    expect(other.contents).toEqual(['s1', 's2']);
    other.store();
    expect(await Promise.all(second.map(answer))).toEqual([4, 5]);
    const again = await flight();
    expect(again.contents).toEqual(['l1', 'l2', 'l3']);
    again.store();
    expect(await Promise.all(locked.map(answer))).toEqual([6, 7, 8]);

    const after = [send('l4', { roomId: 'locked' }), send('s3', { roomId: 'second' })];
    const together = await flight();
    expect(together.contents).toEqual(['l4', 's3']); // as if nothing had been
    together.store();
    await Promise.all(after);
  });

  it('tells its senders that it is unavailable when their time is up, and keeps nobody else waiting', async () => {
    const { writer, send, flight, clock } = setUp();
    const start = clock.ms;
    const locked = answer(send('l', { roomId: 'locked' }));
    for (;;) {
      const batch = await Promise.race([flight(), locked]);
      if (typeof batch !== 'object') break;
      clock.ms += 2_000;
      batch.fail(contended());
    }
    expect(await locked).toBe('unavailable');
    expect(clock.ms - start).toBeLessThan(13_000);
    await writer.drain();
  });

  it('in the first half of a refused batch is not overtaken by what of it is in the second', async () => {
    const { send, flight } = setUp();
    const sent = ['1', '2', '3', '4'].map((content) => send(content, { roomId: content === '2' ? 'other' : 'room' }));
    (await flight()).fail(refused());
    const half = await flight();
    expect(half.contents).toEqual(['1', '2']);
    half.fail(contended());
    const rooms = [await flight()];
    expect(rooms[0]?.contents).toEqual(['1', '3', '4']);
    rooms[0]?.store();
    rooms.push(await flight());
    expect(rooms[1]?.contents).toEqual(['2']);
    rooms[1]?.store();
    expect(await Promise.all(sent.map(answer))).toEqual([1, 4, 2, 3]);
  });
});

describe('no answer from the database', () => {
  it('only what carries a client_msg_id is tried again; of the rest its sender is told that nobody knows', async () => {
    const { send, flight } = setUp();
    const sent = [send('1', { clientMsgId: 'k' }), send('2'), send('3', { clientMsgId: 'l' }), send('4', { roomId: 'elsewhere' })];
    const told: number[] = [];
    sent.forEach((one, n) => void answer(one).then(() => told.push(n + 1)));
    (await flight()).fail(unavailable());
    const again = await flight();
    expect(again.contents).toEqual(['1', '3']);
    await expect(sent[3]).rejects.toMatchObject({ code: 'unavailable', temporary: true });
    again.store();
    expect(await Promise.all(sent.map(answer))).toEqual([1, 'unavailable', 2, 'unavailable']);
    expect(told).toEqual([4, 1, 2, 3]); // in each room in its order
  });

  it('is counted by what became of each send that it put in doubt', async () => {
    const outcomes: Outcome[] = [
      { status: 'stored', seq: 3, id: 3, at: 0 },
      { status: 'duplicate', seq: 2, id: 2, at: 0 },
      { status: 'not_a_member' },
    ];
    let tries = 0;
    const { send, doubts } = setUp({
      append: () => (++tries === 1 ? Promise.reject(unavailable()) : Promise.resolve(outcomes)),
    });
    const sent = [send('without a key'), ...[1, 2, 3].map((n) => send(`${n}`, { clientMsgId: `key ${n}` }))];
    await Promise.all(sent.map(answer));
    expect(doubts).toEqual(['unknown', 'stored', 'found', 'refused']);
  });

  it('is counted as refused where the database refuses the next try', async () => {
    let tries = 0;
    const { send, doubts } = setUp({ append: () => Promise.reject(++tries === 1 ? unavailable() : refused()) });
    expect(await answer(send('1', { clientMsgId: 'k' }))).toBe('internal');
    expect(doubts).toEqual(['refused']);
  });

  it('is waited out with longer and longer pauses, until the send’s time is up', async () => {
    const { send, flight, clock, flights } = setUp();
    const start = clock.ms;
    const sent = answer(send('1', { clientMsgId: 'k' }));
    for (;;) {
      const batch = await Promise.race([flight(), sent]);
      if (typeof batch !== 'object') break;
      batch.fail(sqlError('57P03'));
    }
    expect(await sent).toBe('unavailable');
    expect(clock.ms - start).toBeGreaterThan(10_000);
    expect(clock.ms - start).toBeLessThan(11_500);
    expect(Math.max(...clock.waits)).toBeLessThanOrEqual(1_000);
    expect(Math.min(...clock.waits)).toBeLessThanOrEqual(20);
    expect(flights.length).toBeLessThan(40);
  });

  it('a send whose time is up while it waits in the queue is not stored any more', async () => {
    const { send, flight, flights, clock } = setUp();
    const first = send('1');
    const one = await flight();
    const second = answer(send('2'));
    clock.ms += 10_001;
    one.store();
    expect(await answer(first)).toBe(1); // it was on its way
    expect(await second).toBe('unavailable');
    expect(flights).toHaveLength(1);
  });
});

const keyOf = ({ roomId, userId, clientMsgId }: NewMessage): string | undefined =>
  clientMsgId === undefined ? undefined : `${roomId}/${userId}/${clientMsgId}`;

type Fault = 'stored' | 'lost before' | 'lost after' | 'deadlock';

it('whatever the database does, every send is answered, truly and once, and each user’s sends to a room are stored and answered in their order', async () => {
  const send = fc.record({
    room: fc.nat(4),
    user: fc.constantFrom('ann', 'bob', 'a stranger'),
    key: fc.option(fc.nat(6), { nil: undefined }),
    repeats: fc.boolean(),
    isLarge: fc.nat(5).map((n) => n === 0),
    poison: fc.nat(9).map((n) => n === 0),
  });
  const fault = fc.constantFrom<Fault>('stored', 'stored', 'stored', 'lost before', 'lost after', 'deadlock');
  await fc.assert(
    fc.asyncProperty(
      fc.array(send, { maxLength: 120 }),
      fc.array(fault, { maxLength: 12 }),
      fc.array(fc.nat(4)),
      fc.nat(3),
      fc.constantFrom(1, 2, 100),
      async (sends, faults, locked, burst, turns) => {
        const logs = new Map<string, NewMessage[]>();
        const keys = new Map<string, { seq: number; content: string }>();
        const busy = new Set<string>();
        let overlaps = 0;
        let twice = 0;
        const locks = new Map(locked.map((room) => [`room ${room}`, 3]));
        const remaining = [...faults];
        const append = async (messages: readonly NewMessage[]): Promise<Outcome[]> => {
          const keysOfBatch = messages.map(keyOf).filter((key) => key !== undefined);
          if (new Set(keysOfBatch).size < keysOfBatch.length) twice++;
          const rooms = new Set(messages.map(({ roomId }) => roomId));
          for (const room of rooms) {
            if (busy.has(room)) overlaps++; // thrown, it would be taken for the end of a connection
            busy.add(room);
          }
          for (let turn = 0; turn < turns; turn++) await new Promise((later) => setImmediate(later));
          if (turns > 2) for (const goOff of clock.alarms) goOff();
          for (const room of rooms) busy.delete(room);
          const waited = [...rooms].filter((room) => (locks.get(room) ?? 0) > 0);
          for (const room of waited) locks.set(room, (locks.get(room) ?? 0) - 1);
          if (waited.length > 0) throw contended();
          const next = remaining.shift() ?? 'stored';
          if (next === 'deadlock') throw sqlError('40P01');
          if (next === 'lost before') throw unavailable();
          if (messages.some(({ content }) => content.endsWith('poison'))) throw refused();
          const outcomes = messages.map((message): Outcome => {
            const log = logs.get(message.roomId) ?? [];
            logs.set(message.roomId, log);
            if (message.userId === 'a stranger') return { status: 'not_a_member' };
            const key = keyOf(message);
            const earlier = key === undefined ? undefined : keys.get(key);
            if (earlier !== undefined && earlier.content !== message.content) return { status: 'conflict', seq: earlier.seq };
            if (earlier !== undefined) return { status: 'duplicate', seq: earlier.seq, id: earlier.seq, at: 0 };
            log.push(message);
            if (key !== undefined) keys.set(key, { seq: log.length, content: message.content });
            return { status: 'stored', seq: log.length, id: log.length, at: 0 };
          });
          if (next === 'lost after') throw unavailable();
          return outcomes;
        };
        const { writer, clock } = setUp({ append, lanes: 2, laneOf: (roomId, lanes) => Number(roomId.slice(-1)) % lanes });
        const sent: { message: NewMessage; told: Promise<number | string> }[] = [];
        const answeredFirst = new Map<string, number[]>();
        for (const [n, { room, user, key, repeats, isLarge, poison }] of sends.entries()) {
          const text = repeats && key !== undefined ? `key ${key}` : `${n}`;
          const message = {
            roomId: `room ${room}`,
            userId: user,
            content: `${isLarge ? 'x'.repeat(20_000) : ''}${text}${poison ? ' poison' : ''}`,
            clientMsgId: key === undefined ? undefined : `${key}`,
          };
          const told = answer(appended(writer, message));
          const stream = `${message.roomId} ${user}`;
          const answered = answeredFirst.get(stream) ?? [];
          answeredFirst.set(stream, answered);
          void told.then(() => answered.push(n));
          sent.push({ message, told });
          if (burst > 0 && n % burst === 0) await new Promise((later) => setImmediate(later));
        }
        const answers = await Promise.all(sent.map(({ told }) => told));
        await writer.drain();
        expect([overlaps, twice]).toEqual([0, 0]);

        for (const [n, { message }] of sent.entries()) {
          const log = logs.get(message.roomId) ?? [];
          const told = answers[n];
          if (told === -1) expect([message.userId, log.includes(message)]).toEqual(['a stranger', false]);
          else if (typeof told === 'number') {
            const stored = log[told - 1];
            expect(stored === message || (stored !== undefined && keyOf(stored) === keyOf(message))).toBe(true);
          } else {
            expect(message.content.endsWith('poison') ? ['internal', 'unavailable'] : ['unavailable']).toContain(told);
            expect(told === 'internal' && log.includes(message)).toBe(false);
          }
        }
        for (const log of logs.values()) {
          for (const user of ['ann', 'bob']) {
            const order = log.filter(({ userId }) => userId === user).map((message) => sent.findIndex((one) => one.message === message));
            expect(order).toEqual(order.toSorted((a, b) => a - b));
          }
        }
        for (const answered of answeredFirst.values()) expect(answered).toEqual(answered.toSorted((a, b) => a - b));
      },
    ),
    { numRuns: 300 },
  );
});
