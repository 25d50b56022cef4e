/**
 * The message writer alone with PostgreSQL, beside its limit: bare multi-row INSERT of the same rows into a table of the same columns, constraints and
 * indexes, from the same process, by as many connections, with as many rows a transaction. The two take turns, each round after a checkpoint.
 */
import pg from 'pg';
import { callsTo } from '../calls.js';
import type { WriteCalls } from '../processes/write.js';
import { postmasterPid, usageOf, usageOfFamily } from '../process-usage.js';
import { makeCrowd, readStored, unlikeAcked } from '../set-up.js';
import type { Figure, Goal, Run, Suite } from '../suite.js';

const entry = new URL('../processes/write.ts', import.meta.url);

const crowd = { rooms: 10, senders: 20, receivers: 0 } as const;
/** So many that each lane has a full batch waiting while one is in flight. */
const unansweredPerRoom = 400;
const rounds = 4;
const quickRounds = 2;
/** Of each round, before it is measured. */
const rampMs = 250;

const loads = [
  { name: 'plain', clientMsgIds: false, goal: { atLeast: 0.5 } },
  { name: 'ids', clientMsgIds: true, goal: { atLeast: 0.4 } },
] as const satisfies readonly { name: string; clientMsgIds: boolean; goal: Goal }[];
type Load = (typeof loads)[number];

type Way = 'writer' | 'bare INSERT';

/** Of all rounds of one way. */
interface Measured {
  rows: number;
  seconds: number;
  allRows: number;
  batches: number;
  /** Seconds of CPU for allRows. */
  processCpu: number;
  postgresCpu: number;
}

interface Writing {
  readonly call: ReturnType<typeof callsTo<WriteCalls>>;
  readonly db: pg.Client;
  /** CPU seconds so far. */
  cpu(): Promise<Pick<Measured, 'processCpu' | 'postgresCpu'>>;
}

export const write: Suite = {
  name: 'write',
  title: 'the message writer of one node alone with PostgreSQL, in 10 rooms, beside bare multi-row INSERT of the same rows',
  parts: loads.map(({ name }) => name),
  async run(run) {
    const db = new pg.Client({ connectionString: run.databaseUrl });
    await db.connect();
    try {
      const { roomIds } = await makeCrowd(db, crowd, [''], run.secret);
      await db.query('CREATE TABLE bare_messages (LIKE messages INCLUDING ALL)');
      const writing = await startWriting(run, db);
      const figures: Figure[] = [];
      const notes: string[] = [];
      for (const load of loads.filter(({ name }) => run.wants(name))) {
        const measured = await takeTurns(run, writing, load);
        figures.push(...figuresOf(load, measured));
        notes.push(...notesOf(load, measured));
      }
      return { figures, failures: await failuresOf(writing, roomIds), notes: [...notes, ...comparisonNotes] };
    } finally {
      await db.end();
    }
  },
};

async function startWriting(run: Run, db: pg.Client): Promise<Writing> {
  const child = run.fork(entry, 'write');
  const call = callsTo<WriteCalls>(child);
  await call('open', { databaseUrl: run.databaseUrl, contentChars: run.contentChars });
  const serverPid = await postmasterPid(db);
  return {
    call,
    db,
    async cpu() {
      const server = serverPid === undefined ? undefined : await usageOfFamily(serverPid);
      return { processCpu: (await usageOf(child.pid)).cpuSeconds, postgresCpu: server?.cpuSeconds ?? Number.NaN };
    },
  };
}

async function takeTurns(run: Run, writing: Writing, { name, clientMsgIds }: Load): Promise<Readonly<Record<Way, Measured>>> {
  const sums: Record<Way, Measured> = { writer: nothing(), 'bare INSERT': nothing() };
  const { call, db } = writing;
  let rowsPerBatch = 0;
  const play = async (way: Way, measureMs: number): Promise<Measured> => {
    run.status(`${name}: ${way}`);
    await db.query('CHECKPOINT').catch(() => undefined); // may need rights
    const options = { clientMsgIds, rampMs, measureMs };
    const before = await writing.cpu();
    const round =
      way === 'writer' ? await call('write', { ...options, unansweredPerRoom }) : await call('insert', { ...options, rowsPerBatch });
    const after = await writing.cpu();
    if (way === 'writer') rowsPerBatch = Math.round(round.allRows / round.batches);
    return { ...round, processCpu: after.processCpu - before.processCpu, postgresCpu: after.postgresCpu - before.postgresCpu };
  };
  for (const way of ['writer', 'bare INSERT'] as const) await play(way, (run.warmUp * 1_000) / 2);
  for (let round = 0; round < (run.quick ? quickRounds : rounds); round++) {
    // Each is first as often as the other, so that neither has the smaller table.
    const ways: readonly Way[] = round % 2 === 0 ? ['writer', 'bare INSERT'] : ['bare INSERT', 'writer'];
    for (const way of ways) add(sums[way], await play(way, (run.seconds * 1_000) / rounds));
  }
  return sums;
}

const nothing = (): Measured => ({ rows: 0, seconds: 0, allRows: 0, batches: 0, processCpu: 0, postgresCpu: 0 });

function add(sum: Measured, round: Measured): void {
  for (const key of Object.keys(sum) as (keyof Measured)[]) sum[key] += round[key];
}

function figuresOf({ name, goal }: Load, { writer, 'bare INSERT': bare }: Readonly<Record<Way, Measured>>): Figure[] {
  const beside = (what: string, unit: string, value: (measured: Measured) => number, ratioGoal?: Goal): Figure => ({
    name: `${name}, ${what}`,
    value: value(writer),
    unit,
    against: [{ name: 'bare INSERT', value: value(bare), ...(ratioGoal && { goal: ratioGoal }) }],
  });
  return [
    beside('stored', 'rows/s', ({ rows, seconds }) => rows / seconds, goal),
    beside('CPU of PostgreSQL', 'µs/row', ({ postgresCpu, allRows }) => (postgresCpu / allRows) * 1e6),
    beside('CPU of the process that writes', 'µs/row', ({ processCpu, allRows }) => (processCpu / allRows) * 1e6),
  ];
}

const notesOf = ({ name }: Load, measured: Readonly<Record<Way, Measured>>): string[] => [
  `${name}: ${Object.entries(measured)
    .map(([way, { allRows, batches }]) => `${way} ${(allRows / batches).toFixed(0)} rows a transaction`)
    .join(', ')}`,
];

const comparisonNotes = [
  `${crowd.rooms} rooms, ${unansweredPerRoom} sends unanswered in each; nobody LISTENs. Both have the contents and keys made as they go, and wait for the commit.`,
  'Bare INSERT is given room, seq, id and username of each row. It leaves out: the locks of the rooms and their new last_seq, the judging of members and of',
  'earlier messages with the same key, the triggers with their check of the seqs, the JSON and digest of the payloads, NOTIFY, and the outcomes.',
];

async function failuresOf({ call, db }: Writing, roomIds: readonly string[]): Promise<string[]> {
  const { ackedByRoom, inserted, faults } = await call('tally', undefined);
  const { messages, problems } = await readStored(db, roomIds);
  const { rows } = await db.query<{ count: string }>('SELECT count(*) FROM bare_messages');
  return [
    ...Object.entries(faults).map(([what, count]) => `${what}: ${count}`),
    ...problems,
    ...unlikeAcked(ackedByRoom, messages),
    ...(Number(rows[0]?.count) === inserted ? [] : [`bare INSERT: ${inserted} inserted, ${rows[0]?.count} stored`]),
  ];
}
