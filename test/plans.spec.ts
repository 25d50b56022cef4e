import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { readHeads, readLogs } from '../src/bus/bus.store.js';
import { readHistory, type HistoryPage, type Place } from '../src/chat/history.store.js';
import { connectionConfig, type Queryable } from '../src/database/database.js';
import { listMembers } from '../src/rooms/member.store.js';
import { findMembership, findMemberships, findVisibleRoom, listOwnRooms, listRooms } from '../src/rooms/room.store.js';
import { eventually } from './support/eventually.js';
import { createPerson, createRoom, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const rooms = 100_000;
const messagesInHuge = 500_000;
const messagesElsewhere = 500_000;
const rareSeqs = [3, 250_000, 250_001];

const scanOf = (table: string): RegExp => new RegExp(`"Node Type":"Seq Scan"[^{}]*"Relation Name":"${table}"`);

const big = ['rooms', 'room_members', 'messages', 'room_events'];

describe(`with ${rooms} rooms and ${messagesInHuge + messagesElsewhere} messages, half of them in one room`, () => {
  let db: TestDatabase;
  let client: pg.Client;
  let ann: Person;
  let huge: string;
  let rare: string;
  let some: string[];

  beforeAll(async () => {
    db = await createTestDatabase();
    client = new pg.Client(connectionConfig(db.url, 'plans'));
    await client.connect();
    ann = await createPerson(db.sql);
    huge = await createRoom(db.sql, [ann]);
    rare = uuidv7();
    await fill();
  }, 110_000);
  afterAll(async () => {
    await client.end();
    await db.drop();
  });

  /** As the functions would have written it, without a notification a statement. */
  async function fill(): Promise<void> {
    const { sql } = db;
    for (const table of ['messages', 'room_events']) await sql.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    // Ids of which every bucket has its share. A hundred rooms are ann's, ten of these private; every room has two members.
    await sql.query(
      `CREATE TABLE many AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, ${rooms}) AS n;
       INSERT INTO rooms (bucket, id, name, created_by, created_at, last_seq, private)
         SELECT room_bucket(id), id, 'room ' || md5(n::text), id, now() - n * interval '1 minute', 6, n % 10000 = 1 FROM many;`,
    );
    await sql.query(
      `INSERT INTO room_members (bucket, room_id, user_id, username, role, joined_seq)
         SELECT room_bucket(id), id, CASE WHEN n % 1000 = 1 THEN $1 ELSE gen_random_uuid() END, 'user', 'owner', 0 FROM many
         UNION ALL SELECT room_bucket(id), id, gen_random_uuid(), 'user', 'member', 1 FROM many
         UNION ALL SELECT room_bucket($2), $2, gen_random_uuid(), 'user', 'member', 1 FROM generate_series(1, 10000)`,
      [ann.id, huge],
    );
    await sql.query(
      `INSERT INTO room_events (bucket, room_id, seq, kind, actor_id) SELECT room_bucket(id), id, 1, 'joined', id FROM many;
       INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content)
         SELECT room_bucket(id), id, 1 + s, 1, id, 'user', 'hello' FROM many, generate_series(1, ${messagesElsewhere / rooms}) AS s`,
    );
    await sql.query(
      `INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content)
         SELECT room_bucket($1), $1, s, 1, CASE WHEN s = ANY ($4::int[]) THEN $3::uuid ELSE $2::uuid END, 'ann', 'hello'
         FROM generate_series(1, ${messagesInHuge}) AS s`,
      [huge, ann.id, rare, rareSeqs],
    );
    await sql.query('UPDATE rooms SET last_seq = $2 WHERE id = $1', [huge, messagesInHuge]);
    for (const table of ['messages', 'room_events']) await sql.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    some = (await sql.query<{ id: string }>('SELECT id FROM many LIMIT 99')).rows.map(({ id }) => id);
    await eventually(vacuum, 'a vacuum that nobody’s snapshot holds back', 30_000);
  }

  /** @returns whether every page is known to be visible to all: not while an autovacuum of another table, say, has a snapshot of before */
  async function vacuum(): Promise<boolean> {
    await db.sql.query('VACUUM (ANALYZE)');
    const { rows } = await db.sql.query<{ whole: boolean }>(
      'SELECT bool_and(relallvisible = relpages) AS whole FROM pg_class WHERE oid = ANY ($1::regclass[])',
      [big],
    );
    return rows[0]?.whole === true;
  }

  const rangeOf = (roomId: string, after: number) => ({ roomId, after, upTo: messagesInHuge, maxBytes: 1_048_576 });
  const ofAnn = (ids: readonly string[]) => ids.map((roomId) => ({ roomId, userId: ann.id }));
  const member = { hiddenTo: 0, lastSeq: messagesInHuge };
  /** Every statement that is asked for while people talk, join and look around. */
  const reads: [string, (on: Queryable) => Promise<unknown>][] = [
    ['the newest history', (on) => readHistory(on, huge, member, 50, { before: Number.MAX_SAFE_INTEGER })],
    ['history before a seq', (on) => readHistory(on, huge, member, 50, { before: 250_000 })],
    ['history around a seq', (on) => readHistory(on, huge, member, 50, { around: 250_000 })],
    ['history after a seq', (on) => readHistory(on, huge, member, 50, { after: 1 })],
    ['the newest of an author', (on) => readHistory(on, huge, member, 50, { before: Number.MAX_SAFE_INTEGER }, rare)],
    ['history of an author around a seq', (on) => readHistory(on, huge, member, 50, { around: 250_000 }, rare)],
    ['history of an author after a seq', (on) => readHistory(on, huge, member, 50, { after: 1 }, rare)],
    ['the log for who resumes', (on) => readLogs(on, [rangeOf(huge, 250_000)])],
    ['the logs for many who resume', (on) => readLogs(on, [rangeOf(huge, 1), rangeOf(huge, 250_000), ...some.map((id) => rangeOf(id, 0))])],
    ['the heads of rooms', (on) => readHeads(on, [huge, ...Array.from({ length: 99 }, () => uuidv7())])],
    ['memberships of many', (on) => findMemberships(on, ofAnn([huge, ...some]))],
    ['a membership', (on) => findMembership(on, huge, ann.id)],
    ['a room', (on) => findVisibleRoom(on, huge, ann.id)],
    ['the list of rooms', (on) => listRooms(on, ann.id, { limit: 50 })],
    ['the list of rooms from the middle', (on) => listRooms(on, ann.id, { limit: 50, before: { id: huge, created_at: middle } })],
    ['a search for rooms', (on) => listRooms(on, ann.id, { limit: 50, nameContains: 'c4ca4238a0b9' })],
    ['a search that finds nothing', (on) => listRooms(on, ann.id, { limit: 50, nameContains: 'no such room' })],
    ['one’s own rooms', (on) => listOwnRooms(on, ann.id, { limit: 50 })],
    ['the members of a room', (on) => listMembers(on, huge, 1_000)],
  ];
  const middle = new Date(Date.now() - (rooms / 2) * 60_000).toISOString();

  async function plansOf(read: (on: Queryable) => Promise<unknown>): Promise<string[]> {
    const plans: string[] = [];
    await read({
      query: async (query, values) => {
        const { text, values: own = values } = typeof query === 'string' ? { text: query } : query;
        plans.push(JSON.stringify((await client.query(`EXPLAIN (FORMAT JSON) ${text}`, own)).rows));
        return { rows: [], rowCount: 0, command: '', oid: 0, fields: [] };
      },
    });
    return plans;
  }

  it.each(reads)('%s is read by an index', async (_, read) => {
    const plans = await plansOf(read);
    expect(plans.length).toBeGreaterThan(0);
    for (const plan of plans) {
      for (const table of big) expect(plan).not.toMatch(scanOf(table));
    }
  });

  it('the messages of an author are found wherever they are, a bounded part of the room a page, from either end', async () => {
    const seqsFrom = async (start: Place, next: (page: HistoryPage) => Place | undefined): Promise<number[]> => {
      const seqs: number[] = [];
      let pages = 0;
      for (let place: Place | undefined = start; place !== undefined; pages++) {
        const page: HistoryPage = await readHistory(client, huge, member, 2, place, rare);
        seqs.push(...page.messages.map((json) => (JSON.parse(json) as { seq: number }).seq));
        place = next(page);
      }
      expect(pages).toBeGreaterThanOrEqual(messagesInHuge / 50_000);
      expect(pages).toBeLessThan(messagesInHuge / 50_000 + 2);
      return seqs;
    };
    const down = await seqsFrom({ before: Number.MAX_SAFE_INTEGER }, ({ nextCursor }) =>
      nextCursor === null ? undefined : { before: nextCursor },
    );
    expect(down).toEqual(rareSeqs.toReversed());
    const up = await seqsFrom({ after: 0 }, ({ newerCursor }) => (typeof newerCursor === 'number' ? { after: newerCursor } : undefined));
    expect(up.toSorted((a, b) => a - b)).toEqual(rareSeqs);
  });

  it('the messages of an author are looked for in the index alone', async () => {
    const plans = await plansOf((on) => readHistory(on, huge, member, 50, { around: 250_000 }, rare));
    expect(plans).toHaveLength(2);
    for (const plan of plans) expect(plan).toMatch(/"Index Only Scan"[^{}]*"Index Name":"messages_pkey"/);
  });

  it('a scan would be seen', async () => {
    const { rows: plan } = await client.query("EXPLAIN (FORMAT JSON) SELECT id FROM rooms WHERE description = 'none'");
    expect(JSON.stringify(plan)).toMatch(scanOf('rooms'));
  });

  it('a search is read by the index of names', async () => {
    const { rows: plan } = await client.query(
      "EXPLAIN SELECT id FROM rooms WHERE NOT private AND deleted_at IS NULL AND name ILIKE '%c4ca4238%'",
    );
    expect(JSON.stringify(plan)).toContain('rooms_name_search_idx');
    expect((await listRooms(client, ann.id, { limit: 50, nameContains: 'C4CA4238A0B9' })).length).toBe(1);
  });

  it('nothing scans a table from end to end, also by the plans that are kept, and writes too', async () => {
    const scans = async () => {
      await client.query('SELECT pg_stat_force_next_flush()');
      const { rows } = await client.query<{ relname: string; n: number }>(
        'SELECT relname, seq_scan::int AS n FROM pg_stat_user_tables WHERE relname = ANY ($1) ORDER BY relname',
        [big],
      );
      return rows;
    };
    const before = await scans();
    for (let n = 0; n < 12; n++) {
      for (const [, read] of reads) await read(client);
      const user = uuidv7();
      await client.query('SELECT join_room($1, $2, $3)', [huge, user, 'visitor']);
      await client.query({
        name: 'append',
        text: 'SELECT heads FROM append_batch($1::uuid[], $2::int[], $3::int[], $4::uuid[], $5::int[], $6::text[], $7::uuid[], $8)',
        values: [[huge], [1], [1], [user], [1], ['hello'], [uuidv7()], n % 2 === 0],
      });
      await client.query({
        name: 'append lone',
        text: 'SELECT heads FROM append_lone($1::uuid, $2::uuid, $3, $4::uuid)',
        values: [huge, user, 'hello', n % 2 === 0 ? uuidv7() : null],
      });
      await client.query("SELECT leave_room($1, $2, $2, 'left')", [huge, user]);
    }
    expect(await scans()).toEqual(before);
    await client.query("SELECT count(*) FROM rooms WHERE description = 'none'");
    expect(await scans()).not.toEqual(before); // what was not seen would have been
  }, 60_000);
});
