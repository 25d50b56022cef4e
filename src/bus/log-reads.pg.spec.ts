import fc from 'fast-check';
import pg from 'pg';
import { connectionConfig, type Queryable } from '../database/database.js';
import { createPerson, createRoom, type Person } from '../../test/support/people.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { pageMaxBytes, pageMaxEntries, readLogs } from './bus.store.js';
import { LogReads, sharedRanges, type LogRead } from './log-reads.js';

describe('reading the logs of rooms', () => {
  let db: TestDatabase;
  let client: pg.Client;
  let ann: Person;
  let statements = 0;
  /** One connection, so that the statements come one after the other as they are counted. */
  const counted: Queryable = {
    query: (query, values) => {
      statements++;
      return client.query(query as string, values);
    },
  };

  beforeAll(async () => {
    db = await createTestDatabase();
    client = new pg.Client(connectionConfig(db.url, 'test'));
    await client.connect();
    ann = await createPerson(db.sql);
  });
  beforeEach(() => (statements = 0));
  afterAll(async () => {
    await client.end();
    await db.drop();
  });

  const fill = async (contents: string, count: number, room?: string) => {
    const id = room ?? (await createRoom(db.sql, [ann]));
    await db.sql.query(
      `INSERT INTO messages (room_id, user_id, content) SELECT $1, $2, ${contents} FROM generate_series(1, $3::int) AS n`,
      [id, ann.id, count],
    );
    return id;
  };
  const event = (room: string) =>
    db.sql.query('SELECT append_room_event($1, \'renamed\', $2, NULL, NULL, \'{"name":"x"}\')', [room, ann.id]);
  const range = (roomId: string, after: number, upTo: number, maxBytes = pageMaxBytes) => ({ roomId, after, upTo, maxBytes });
  const seqs = (entries: readonly { seq: number }[] | undefined) => entries?.map(({ seq }) => seq);
  const upFrom = (first: number, count: number) => Array.from({ length: count }, (_, n) => first + n);

  describe('a page', () => {
    it('has at most so many entries, messages and events together', async () => {
      const room = await fill("'x'", 250);
      for (let n = 0; n < 5; n++) await event(room);
      await fill("'x'", 300, room);
      for (const [after, upTo, length] of [
        [0, 555, pageMaxEntries],
        [55, 555, pageMaxEntries],
        [56, 555, pageMaxEntries - 1],
        [0, pageMaxEntries - 1, pageMaxEntries - 1],
        [554, 555, 1],
        [555, 555, 0],
      ] as const) {
        const [page] = await readLogs(client, [range(room, after, upTo)]);
        expect(seqs(page)).toEqual(upFrom(after + 1, length));
        for (const { seq, event: isEvent } of page ?? []) expect(isEvent !== undefined).toBe(seq > 250 && seq <= 255);
      }
    });

    it('ends with the entry that reaches its bytes, an entry being its content and 300', async () => {
      const room = await fill("repeat('x', 700)", 100); // 1,000 each
      const lengths = [];
      for (const maxBytes of [1, 999, 1_000, 1_001, 49_999, 50_000, 50_001])
        lengths.push((await readLogs(client, [range(room, 0, 100, maxBytes)]))[0]?.length);
      expect(lengths).toEqual([1, 1, 1, 2, 50, 50, 51]);
      const large = await fill("repeat('x', 60000)", 20);
      expect(seqs((await readLogs(client, [range(large, 0, 20, 2 * pageMaxBytes)]))[0])).toEqual(upFrom(1, 18));
    });
  });

  it('ranges share what one statement reads in equal parts, each with at least one entry, until the sum is reached', async () => {
    const rooms: string[] = [];
    for (let n = 0; n < 5; n++) rooms.push(await fill("repeat('x', 60000)", 20));
    const pages = await readLogs(
      client,
      rooms.map((room) => range(room, 0, 20)),
    );
    expect(pages.map((page) => page?.length)).toEqual([14, 14, 14, 14, 14]); // 838,861 bytes each
    const many = Array.from({ length: 40 }, () => range(rooms[0] ?? '', 0, 20));
    // 120,600 bytes each, of which 35 reach 4 MiB
    expect((await readLogs(client, many)).map((page) => page?.length)).toEqual(many.map((_, n) => (n < 35 ? 2 : undefined)));
  });

  it('what no statement may hold is left over, and read by the next one', async () => {
    const room = await fill("repeat('x', 60000)", 3);
    const ranges = Array.from({ length: 100 }, () => range(room, 0, 3));
    const pages = await readLogs(client, ranges);
    expect(seqs(pages[0])).toEqual([1]);
    expect(pages.filter((page) => page !== undefined)).toHaveLength(70); // 70 × 60,300 is above 4 MiB
    const rooms: string[] = [];
    for (let n = 0; n < 100; n++) rooms.push(await fill("repeat('x', 60000)", 1));
    const read = new LogReads(counted);
    const all = await Promise.all(rooms.map((id) => read.read(range(id, 0, 1))));
    expect(all.map(seqs)).toEqual(rooms.map(() => [1]));
    expect(statements).toBe(2);
  });

  it('a thousand who come back to one room, to wherever, cost a few statements', async () => {
    const room = await fill("'message ' || n", 1_000);
    const read = new LogReads(counted);
    const starts = Array.from({ length: 1_000 }, (_, n) => (n * 7) % 500);
    await Promise.all(
      starts.map(async (from) => {
        let at = from;
        while (at < 1_000) {
          const page = await read.read(range(room, at, 1_000, 100_000));
          expect(page[0]?.seq).toBe(at + 1);
          at = page.at(-1)?.seq ?? at;
        }
      }),
    );
    expect(statements).toBeLessThanOrEqual(8);
  }, 20_000);

  it('a hole is seen by those whose range has it, and by nobody else', async () => {
    const room = await fill("'x'", 20);
    await db.sql.query('ALTER TABLE messages DISABLE TRIGGER USER');
    await db.sql.query('DELETE FROM messages WHERE room_id = $1 AND (seq = 10 OR seq > 18)', [room]);
    await db.sql.query('ALTER TABLE messages ENABLE TRIGGER USER');
    const read = new LogReads(client);
    const pages = await Promise.all(
      [range(room, 0, 9), range(room, 5, 15), range(room, 9, 18), range(room, 18, 20), range(room, 19, 20)].map((one) => read.read(one)),
    );
    expect(pages.map(seqs)).toEqual([upFrom(1, 9), [6, 7, 8, 9, 11, 12, 13, 14, 15], upFrom(11, 8), [], []]);
  });

  it('whoever reads together with others gets of its range what it would get alone, or a shorter part of it', async () => {
    const rooms: string[] = [];
    for (const contents of ["'x'", "repeat('x', n % 7 * 9000 + 1)", "repeat('é', 2000)"]) {
      const room = await fill(contents, 150);
      for (let n = 0; n < 10; n++) await event(room);
      await fill(contents, 440, room);
      rooms.push(room);
    }
    const whole = new Map<string, string[]>();
    for (const room of rooms) {
      const jsons: string[] = [];
      while (jsons.length < 600)
        jsons.push(...((await readLogs(client, [range(room, jsons.length, 600)]))[0] ?? []).map(({ json }) => json));
      whole.set(room, jsons);
    }
    const oneRead = fc.record({
      room: fc.integer({ min: 0, max: 2 }),
      after: fc.integer({ min: 0, max: 599 }),
      length: fc.integer({ min: 1, max: 600 }),
      maxBytes: fc.integer({ min: 1, max: 300_000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(oneRead, { minLength: 1, maxLength: 60 }), async (asked) => {
        const read = new LogReads(client);
        const ranges = asked.map(({ room, after, length, maxBytes }) =>
          range(rooms[room] ?? '', after, Math.min(600, after + length), maxBytes),
        );
        const pages = await Promise.all(ranges.map((one) => read.read(one)));
        for (const [n, page] of pages.entries()) {
          const { roomId, after, upTo } = ranges[n] ?? range('', 0, 0);
          expect(page.length).toBeGreaterThan(0);
          expect(page.map(({ json }) => json)).toEqual(whole.get(roomId)?.slice(after, Math.min(upTo, after + page.length)));
        }
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe('which reads are one range', () => {
  const reads = fc.array(
    fc.record({
      roomId: fc.constantFrom('a', 'b'),
      after: fc.integer({ min: 0, max: 2_000 }),
      upTo: fc.integer({ min: 2_000, max: 3_000 }),
      maxBytes: fc.integer({ min: 1, max: pageMaxBytes }),
      alone: fc.boolean(),
    }),
    { minLength: 1, maxLength: 40 },
  );

  it('each read is answered by one range, which has all of it; the oldest read by the first', () => {
    fc.assert(
      fc.property(reads, (asked: LogRead[]) => {
        const ranges = sharedRanges(asked);
        expect(ranges.flatMap((one) => one.reads).toSorted((a, b) => a - b)).toEqual([...asked.keys()]);
        expect(ranges[0]?.reads).toContain(0);
        for (const { roomId, after, upTo, maxBytes, reads: places } of ranges) {
          for (const n of places) {
            const read = asked[n];
            expect(read).toMatchObject({ roomId });
            expect(read?.after).toBeGreaterThanOrEqual(after);
            expect(read?.after).toBeLessThan(after + pageMaxEntries / 2);
            expect(read?.upTo).toBeLessThanOrEqual(upTo);
            expect(read?.maxBytes).toBeLessThanOrEqual(maxBytes);
            if (read?.alone) expect(read.after).toBe(after);
          }
        }
      }),
    );
  });

  it('reads that have no entry in common are not', () => {
    expect(
      sharedRanges([
        { roomId: 'a', after: 0, upTo: 5, maxBytes: 1 },
        { roomId: 'a', after: 5, upTo: 9, maxBytes: 1 },
      ]),
    ).toHaveLength(2);
    expect(
      sharedRanges([
        { roomId: 'a', after: 0, upTo: 6, maxBytes: 1 },
        { roomId: 'a', after: 5, upTo: 9, maxBytes: 1 },
      ]),
    ).toHaveLength(1);
  });
});
