/**
 * Does it stay as fast? The message writer alone with PostgreSQL, on a table that holds nothing yet and on tables that were filled before, each row through
 * both indexes, with random keys as clients make them (UUIDv4), which land anywhere in theirs. The tables take turns, each round after a checkpoint.
 */
import pg from 'pg';
import { callsTo } from '../calls.js';
import type { WriteCalls } from '../processes/write.js';
import { postmasterPid, usageOfFamily } from '../process-usage.js';
import { makeCrowd, readStored, unlikeAcked } from '../set-up.js';
import type { Figure, Run, Suite } from '../suite.js';

const entry = new URL('../processes/write.ts', import.meta.url);

const crowd = { rooms: 10, senders: 20, receivers: 0 } as const;
const sizes = [0, 1_000_000, 10_000_000];
const quickSizes = [0, 200_000];
const unansweredPerRoom = 400;
const rounds = 4;
const rampMs = 250;
const fillStep = 200_000;

interface Table {
  /** Messages that it was filled with. */
  readonly size: number;
  readonly db: pg.Client;
  readonly call: ReturnType<typeof callsTo<WriteCalls>>;
  readonly roomIds: readonly string[];
  readonly fillSeconds: number;
  rows: number;
  seconds: number;
  allRows: number;
  postgresCpu: number;
}

export const grownTable: Suite = {
  name: 'grown-table',
  title: 'the message writer of one node, with a random client_msg_id on each message, on tables that hold 0, 1 and 10 million messages',
  isExtra: true,
  isLong: true,
  async run(run) {
    const tables: Table[] = [];
    try {
      for (const size of run.quick ? quickSizes : sizes) tables.push(await startTable(run, size));
      for (const table of tables) await play(run, table, (run.warmUp * 1_000) / 2);
      for (const table of tables) Object.assign(table, { rows: 0, seconds: 0, allRows: 0, postgresCpu: 0 });
      for (let round = 0; round < rounds; round++) {
        for (const table of round % 2 === 0 ? tables : tables.toReversed()) await play(run, table, (run.seconds * 1_000) / rounds);
      }
      const failures = await Promise.all(tables.map(failuresOf));
      return {
        figures: tables.flatMap((table) => figuresOf(table, tables[0] ?? table)),
        failures: failures.flat(),
        notes: await Promise.all(tables.map(noteOf)),
      };
    } finally {
      await Promise.all(tables.map(({ db }) => db.end()));
    }
  },
};

async function startTable(run: Run, size: number): Promise<Table> {
  const databaseUrl = await run.newDatabase();
  const db = new pg.Client({ connectionString: databaseUrl });
  await db.connect();
  const { roomIds } = await makeCrowd(db, crowd, [''], run.secret);
  const startedAt = performance.now();
  await fill(run, db, size);
  const fillSeconds = (performance.now() - startedAt) / 1_000;
  const call = callsTo<WriteCalls>(run.fork(entry, 'write'));
  await call('open', { databaseUrl, contentChars: run.contentChars });
  return { size, db, call, roomIds, fillSeconds, rows: 0, seconds: 0, allRows: 0, postgresCpu: 0 };
}

/** As messages come: room by turn, in the order of their seqs. Nobody is told of these, so without the triggers. */
async function fill(run: Run, db: pg.Client, size: number): Promise<void> {
  await db.query('ALTER TABLE messages DISABLE TRIGGER USER');
  for (let from = 0; from < size; from += fillStep) {
    run.signal.throwIfAborted();
    run.status(`filling: ${from.toLocaleString('en')} of ${size.toLocaleString('en')}`);
    await db.query(
      `INSERT INTO messages (bucket, room_id, seq, id, user_id, username, content, client_msg_id)
       SELECT r.bucket, r.id, r.last_seq + n, nextval('message_id_blocks'), m.user_id, m.username, repeat('x', $2), gen_random_uuid()
       FROM generate_series(1, $1::int) AS n, rooms AS r, LATERAL (
         SELECT user_id, username FROM room_members WHERE bucket = r.bucket AND room_id = r.id ORDER BY user_id LIMIT 1
       ) AS m`,
      [fillStep / crowd.rooms, run.contentChars],
    );
    await db.query('UPDATE rooms SET last_seq = last_seq + $1', [fillStep / crowd.rooms]);
  }
  await db.query('ALTER TABLE messages ENABLE TRIGGER USER');
  await db.query('VACUUM ANALYZE messages');
}

async function play(run: Run, table: Table, measureMs: number): Promise<void> {
  const { db, call, size } = table;
  run.status(`${size.toLocaleString('en')} messages`);
  const serverPid = await postmasterPid(db);
  const cpu = async () => (serverPid === undefined ? Number.NaN : (await usageOfFamily(serverPid)).cpuSeconds);
  await db.query('CHECKPOINT').catch(() => undefined); // may need rights
  const before = await cpu();
  const { rows, seconds, allRows } = await call('write', { clientMsgIds: true, rampMs, measureMs, unansweredPerRoom });
  table.rows += rows;
  table.seconds += seconds;
  table.allRows += allRows;
  table.postgresCpu += (await cpu()) - before;
}

function figuresOf(table: Table, empty: Table): Figure[] {
  const name = table.size === 0 ? 'empty' : `${table.size / 1e6} million`;
  const figure = (what: string, unit: string, value: (of: Table) => number): Figure => ({
    name: `${name}, ${what}`,
    value: value(table),
    unit,
    ...(table !== empty && { against: [{ name: 'an empty table', value: value(empty) }] }),
  });
  return [
    figure('stored', 'rows/s', ({ rows, seconds }) => rows / seconds),
    figure('CPU of PostgreSQL', 'µs/row', ({ postgresCpu, allRows }) => (postgresCpu / allRows) * 1e6),
  ];
}

async function noteOf({ db, size, fillSeconds }: Table): Promise<string> {
  const { rows } = await db.query<{ heap: string; key: string; ids: string; hot: string | null; autovacuums: string }>(
    `SELECT pg_size_pretty(pg_relation_size('messages')) AS heap, pg_size_pretty(pg_relation_size('messages_pkey')) AS key,
       pg_size_pretty(pg_relation_size('messages_client_msg_id_key')) AS ids,
       (SELECT round(100.0 * n_tup_hot_upd / nullif(n_tup_upd, 0)) FROM pg_stat_user_tables WHERE relname = 'rooms') AS hot,
       (SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'messages') AS autovacuums`,
  );
  const [{ heap, key, ids, hot, autovacuums } = { heap: '', key: '', ids: '', hot: '', autovacuums: '' }] = rows;
  return (
    `filled with ${size.toLocaleString('en')} in ${fillSeconds.toFixed(0)} s; at the end ${heap}, primary key ${key}, keys of clients ${ids}; ` +
    `${hot} % of the updates of rooms were HOT, ${autovacuums} autovacuums of messages`
  );
}

async function failuresOf({ call, db, roomIds, size }: Table): Promise<string[]> {
  const { ackedByRoom, faults } = await call('tally', undefined);
  const { messages, problems } = await readStored(db, roomIds);
  return [
    ...Object.entries(faults).map(([what, count]) => `${what}: ${count}`),
    ...problems,
    ...unlikeAcked(
      Object.fromEntries(roomIds.map((roomId) => [roomId, (ackedByRoom[roomId] ?? 0) + size / crowd.rooms])), // with what it was filled with
      messages,
    ),
  ];
}
