import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type pg from 'pg';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { eventually } from '../../test/support/eventually.js';
import { createPerson, createRoom, roomLog, type Person } from '../../test/support/people.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { Database } from '../database/database.js';
import { appendMessages, type NewMessage, type Outcome } from './message.store.js';

let test: TestDatabase;
let one: Database;
let two: Database;
let ann: Person;
let bob: Person;

beforeAll(async () => {
  test = await createTestDatabase();
  const config = loadConfig({ DATABASE_URL: test.url, JWT_ACCESS_SECRET: 'x'.repeat(32) });
  [one, two] = [new Database(config, pino({ level: 'silent' })), new Database(config, pino({ level: 'silent' }))];
  [ann, bob] = [await createPerson(test.sql), await createPerson(test.sql)];
});
afterAll(async () => {
  await Promise.all([one.onApplicationShutdown(), two.onApplicationShutdown()]);
  await test.drop();
});

const by = (user: Person, roomId: string, content: string, clientMsgId?: string): NewMessage => ({
  userId: user.id,
  roomId,
  content,
  clientMsgId,
});
const brief = (outcomes: readonly Outcome[]) =>
  outcomes.map((outcome) => ('seq' in outcome ? `${outcome.status} ${outcome.seq}` : outcome.status));

/** Whether what `db` appends next is judged at once, as it is for a while after a retry, or stored first. */
async function judgeAtOnce(db: Database, isJudged: boolean): Promise<void> {
  const room = await createRoom(test.sql, [ann]);
  const again = by(ann, room, 'again', randomUUID());
  for (let n = 0; n < 12; n++) await appendMessages(db, [isJudged ? again : by(ann, room, 'new')]);
}

/** Does `work` in a transaction on a connection of its own, then lets `meanwhile` run into its locks, and commits when somebody waits for one. */
async function commitWhileAwaited<T>(work: (client: pg.PoolClient) => Promise<unknown>, meanwhile: () => Promise<T>): Promise<T> {
  const client = await test.sql.connect();
  try {
    await client.query('BEGIN');
    await work(client);
    const outcome = meanwhile();
    await eventually(async () => {
      const waiting = await test.sql.query(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline writer' AND wait_event_type = 'Lock'",
      );
      return waiting.rowCount === 1;
    }, 'the batch to wait for a lock');
    await client.query('COMMIT');
    return await outcome;
  } finally {
    client.release(true); // whatever it still holds
  }
}

describe('a batch', () => {
  it('answers each item for itself, in order, and gives the stored ones the next seqs without a hole', async () => {
    const [room, other] = [await createRoom(test.sql, [ann, bob]), await createRoom(test.sql, [bob])]; // last seqs 1 and 0
    const [used, fresh] = [randomUUID(), randomUUID()];
    expect(brief(await appendMessages(one, [by(ann, room, 'earlier', used)]))).toEqual(['stored 2']);
    const [earlier] = await appendMessages(one, [by(ann, room, 'earlier', used)]);

    const before = Date.now();
    const outcomes = await appendMessages(one, [
      by(ann, room, 'first'),
      by(ann, other, 'as a stranger'),
      by(ann, room, 'earlier', used),
      by(bob, room, 'earlier', used), // another sender's id is another id
      by(ann, uuidv7(), 'nowhere'),
      by(bob, other, 'here', used), // and so is that of another room
      by(ann, room, 'something else', fresh),
      by(bob, other, 'and here'),
    ]);
    expect(brief(outcomes)).toEqual([
      'stored 3',
      'not_a_member',
      'duplicate 2',
      'stored 4',
      'no_such_room',
      'stored 1',
      'stored 5',
      'stored 2',
    ]);
    expect(outcomes[2]).toEqual(earlier);
    for (const outcome of outcomes) {
      if (outcome.status === 'stored') expect(Math.abs(outcome.at - before)).toBeLessThan(5_000);
    }
    expect(brief(await appendMessages(one, [by(ann, room, 'changed', fresh), by(ann, room, 'last')]))).toEqual(['conflict 5', 'stored 6']);
    expect(await roomLog(test.sql, room)).toEqual({
      lastSeq: 6,
      contiguous: true,
      contents: ['[joined]', 'earlier', 'first', 'earlier', 'something else', 'last'],
    });
    expect(await roomLog(test.sql, other)).toEqual({ lastSeq: 2, contiguous: true, contents: ['here', 'and here'] });
  });

  it('of which nothing can be stored takes no seq', async () => {
    const room = await createRoom(test.sql, [ann]);
    expect(brief(await appendMessages(one, [by(bob, room, 'x'), by(bob, uuidv7(), 'x'), by(ann, uuidv7(), 'x', randomUUID())]))).toEqual([
      'not_a_member',
      'no_such_room',
      'no_such_room',
    ]);
    expect(await roomLog(test.sql, room)).toEqual({ lastSeq: 0, contiguous: true, contents: [] });
  });

  it('answers what was stored before also where its sender has left since, and stores nothing else of them', async () => {
    const room = await createRoom(test.sql, [ann, bob]);
    const key = randomUUID();
    const [stored] = await appendMessages(one, [by(bob, room, 'x', key)]);
    await test.sql.query("SELECT leave_room($1, $2, $3, 'kicked')", [room, bob.id, ann.id]);
    const outcomes = await appendMessages(one, [by(bob, room, 'x', key), by(bob, room, 'y', randomUUID()), by(bob, room, 'x')]);
    expect(outcomes[0]).toEqual({ ...stored, status: 'duplicate' });
    expect(brief(outcomes)).toEqual(['duplicate 2', 'not_a_member', 'not_a_member']);
    expect(brief(await appendMessages(one, [by(bob, room, 'changed', key)]))).toEqual(['not_a_member']);
  });

  it('that holds one client_msg_id twice is refused as a whole', async () => {
    const room = await createRoom(test.sql, [ann]);
    const key = randomUUID();
    await expect(appendMessages(one, [by(ann, room, 'x', key), by(ann, room, 'y'), by(ann, room, 'x', key)])).rejects.toMatchObject({
      code: '23505',
    });
    expect((await roomLog(test.sql, room)).lastSeq).toBe(0);
  });

  it('is told to the bus once, also where it was stored in vain before it was judged', async () => {
    const room = await createRoom(test.sql, [ann]);
    const again = by(ann, room, 'again', randomUUID());
    const listener = await test.sql.connect();
    try {
      await judgeAtOnce(one, false);
      await appendMessages(one, [again]);
      const heard: string[] = [];
      listener.on('notification', ({ payload = '' }) => heard.push(...payload.split('\n').slice(1)));
      await listener.query('LISTEN trunkline');
      expect(brief(await appendMessages(one, [by(ann, room, 'new'), again, by(ann, room, 'newer')]))).toEqual([
        'stored 2',
        'duplicate 1',
        'stored 3',
      ]);
      await listener.query("SELECT pg_notify('trunkline', E'\\nend')");
      await eventually(() => heard.at(-1) === 'end', 'the bus to say all');
      expect(heard.filter((line) => line.includes(room)).map((line) => (JSON.parse(line.slice(1)) as { seq: number }).seq)).toEqual([2, 3]);
    } finally {
      listener.release(true);
    }
  });

  it('gives ids that no other message has, in whatever batch', async () => {
    const room = await createRoom(test.sql, [ann]);
    const batch = Array.from({ length: 500 }, (_, n) => by(ann, room, `${n}`));
    const batches = await Promise.all([one, two, one, two].map((db) => appendMessages(db, batch)));
    await test.sql.query("INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, 'plain' FROM generate_series(1, 20)", [
      room,
      ann.id,
    ]);
    const { rows } = await test.sql.query<{ n: string; ids: string }>('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM messages');
    expect(rows[0]?.ids).toBe(rows[0]?.n);
    const told = batches.flat().map((outcome) => ('id' in outcome ? outcome.id : 0));
    const stored = await test.sql.query<{ id: string }>('SELECT id FROM messages WHERE room_id = $1 AND content <> $2 ORDER BY seq', [
      room,
      'plain',
    ]);
    expect(told.toSorted((a, b) => a - b)).toEqual(stored.rows.map(({ id }) => Number(id)).toSorted((a, b) => a - b));
  });
});

describe.each([
  ['stored first', false],
  ['judged at once', true],
])('while a batch that is %s waits for a room', (_way, isJudged) => {
  beforeEach(() => judgeAtOnce(one, isJudged));

  it('a member who was kicked meanwhile is no member any more', async () => {
    const room = await createRoom(test.sql, [ann, bob]);
    const outcomes = await commitWhileAwaited(
      (client) => client.query("SELECT leave_room($1, $2, $3, 'kicked')", [room, bob.id, ann.id]),
      () => appendMessages(one, [by(bob, room, 'too late'), by(ann, room, 'in time')]),
    );
    expect(brief(outcomes)).toEqual(['not_a_member', 'stored 3']);
    expect((await roomLog(test.sql, room)).contents).toEqual(['[joined]', '[kicked]', 'in time']);
  });

  it('who was let in meanwhile is a member', async () => {
    const room = await createRoom(test.sql, [ann]);
    const outcomes = await commitWhileAwaited(
      (client) => client.query('SELECT join_room($1, $2, $3)', [room, bob.id, bob.name]),
      () => appendMessages(one, [by(bob, room, 'hello'), by(ann, room, 'welcome')]),
    );
    expect(brief(outcomes)).toEqual(['stored 2', 'stored 3']);
  });

  it('a client_msg_id that was committed meanwhile is a duplicate, with the seq that it got', async () => {
    const room = await createRoom(test.sql, [ann]);
    const key = randomUUID();
    const outcomes = await commitWhileAwaited(
      (client) =>
        client.query('INSERT INTO messages (room_id, user_id, content, client_msg_id) VALUES ($1, $2, $3, $4)', [
          room,
          ann.id,
          'once',
          key,
        ]),
      () => appendMessages(one, [by(ann, room, 'new'), by(ann, room, 'once', key)]),
    );
    expect(brief(outcomes)).toEqual(['stored 2', 'duplicate 1']);
    expect(await roomLog(test.sql, room)).toEqual({ lastSeq: 2, contiguous: true, contents: ['once', 'new'] });
  });

  it('what the other takes back leaves no hole', async () => {
    const room = await createRoom(test.sql, [ann]);
    const outcomes = await commitWhileAwaited(
      async (client) => {
        await client.query('SAVEPOINT before');
        await client.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, ann.id, 'taken back']);
        await client.query('ROLLBACK TO before; SELECT FROM rooms WHERE id = $$' + room + '$$ FOR UPDATE');
      },
      () => appendMessages(one, [by(ann, room, 'kept'), by(ann, room, 'too')]),
    );
    expect(brief(outcomes)).toEqual(['stored 1', 'stored 2']);
  });
});

describe('while a message that is alone in its batch waits for a room', () => {
  it('its sender, kicked meanwhile, is no member any more', async () => {
    const room = await createRoom(test.sql, [ann, bob]);
    const outcomes = await commitWhileAwaited(
      (client) => client.query("SELECT leave_room($1, $2, $3, 'kicked')", [room, bob.id, ann.id]),
      () => appendMessages(one, [by(bob, room, 'too late')]),
    );
    expect(brief(outcomes)).toEqual(['not_a_member']);
  });

  it.each([
    ['a duplicate', 'once', 'duplicate 1'],
    ['a conflict', 'something else', 'conflict 1'],
  ])('its client_msg_id, committed meanwhile, makes it %s', async (_what, content, outcome) => {
    const room = await createRoom(test.sql, [ann]);
    const key = randomUUID();
    const outcomes = await commitWhileAwaited(
      (client) =>
        client.query("INSERT INTO messages (room_id, user_id, content, client_msg_id) VALUES ($1, $2, 'once', $3)", [room, ann.id, key]),
      () => appendMessages(one, [by(ann, room, content, key)]),
    );
    expect(brief(outcomes)).toEqual([outcome]);
    expect(await roomLog(test.sql, room)).toEqual({ lastSeq: 1, contiguous: true, contents: ['once'] });
  });
});

describe('two nodes', () => {
  it('that send the same client_msg_id at the same moment make one message, and both learn its seq', async () => {
    const [room, other] = [await createRoom(test.sql, [ann]), await createRoom(test.sql, [ann])];
    for (let round = 1; round <= 100; round++) {
      const message = by(ann, room, `${round}`, randomUUID());
      const batch = round % 2 === 0 ? [message] : [message, by(ann, other, 'beside it')];
      const [[a], [b]] = await Promise.all([appendMessages(one, batch), appendMessages(two, batch)]);
      expect(new Set([a?.status, b?.status])).toEqual(new Set(['stored', 'duplicate']));
      expect({ ...a, status: '' }).toEqual({ ...b, status: '' });
      expect(a).toMatchObject({ seq: round });
    }
    expect(await roomLog(test.sql, room)).toMatchObject({ lastSeq: 100, contiguous: true });
  });

  it('that write to the same rooms in whatever order never wait for each other for ever', async () => {
    const rooms = await Promise.all(Array.from({ length: 12 }, () => createRoom(test.sql, [ann])));
    const { rows } = await test.sql.query<{ deadlocks: string }>(
      'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
    );
    const batches = Array.from({ length: 60 }, (_, n) => {
      const order = n % 2 === 0 ? rooms : rooms.toReversed();
      return [...order.slice(n % 12), ...order.slice(0, n % 12)].map((room) => by(ann, room, `${n}`));
    });
    const outcomes = await Promise.all(batches.map((batch, n) => appendMessages(n % 3 === 0 ? one : two, batch)));
    expect(outcomes.flat().every(({ status }) => status === 'stored')).toBe(true);
    for (const room of rooms) expect(await roomLog(test.sql, room)).toMatchObject({ lastSeq: 60, contiguous: true });
    const after = await test.sql.query<{ deadlocks: string }>('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()');
    expect(after.rows).toEqual(rows);
  });
});

it('any batches over any rooms have the outcomes that a list in memory would have', async () => {
  const items = fc.array(
    fc.record({ room: fc.nat(3), bob: fc.boolean(), key: fc.option(fc.nat(3), { nil: undefined }), content: fc.constantFrom('x', 'y') }),
    { minLength: 1, maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(items, { minLength: 1, maxLength: 5 }), async (batches) => {
      // Ann is in three rooms, Bob in the first two; the fourth room is not there.
      const rooms = [
        await createRoom(test.sql, [ann, bob]),
        await createRoom(test.sql, [ann, bob]),
        await createRoom(test.sql, [ann]),
        uuidv7(),
      ];
      const keys = Array.from({ length: 4 }, () => randomUUID());
      const logs = [['[joined]'], ['[joined]'], [], []] as string[][];
      const earlier = new Map<string, { seq: number; content: string }>();
      for (const batch of batches) {
        const identity = (item: (typeof batch)[number]) => `${item.room}/${item.bob}/${item.key}`;
        const sends = batch.filter(
          (item, n) => item.key === undefined || batch.findIndex((other) => identity(other) === identity(item)) === n,
        );
        const expected = sends.map((item) => {
          if (item.room === 3) return 'no_such_room';
          if (item.bob && item.room === 2) return 'not_a_member';
          const found = item.key === undefined ? undefined : earlier.get(identity(item));
          if (found !== undefined) return `${found.content === item.content ? 'duplicate' : 'conflict'} ${found.seq}`;
          const seq = logs[item.room]?.push(item.content) ?? 0;
          if (item.key !== undefined) earlier.set(identity(item), { seq, content: item.content });
          return `stored ${seq}`;
        });
        const outcomes = await appendMessages(
          one,
          sends.map(({ room, bob: isBob, key, content }) =>
            by(isBob ? bob : ann, rooms[room] ?? '', content, key === undefined ? undefined : keys[key]),
          ),
        );
        expect(brief(outcomes)).toEqual(expected);
      }
      for (const [n, room] of rooms.slice(0, 3).entries()) {
        expect(await roomLog(test.sql, room)).toEqual({ lastSeq: logs[n]?.length, contiguous: true, contents: logs[n] });
      }
    }),
    { numRuns: 40 },
  );
});
