import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { eventually } from '../../test/support/eventually.js';
import { createPerson, createRoom, roomLog, type Person } from '../../test/support/people.js';
import { startProxy, type Proxy } from '../../test/support/proxy.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { Database } from '../database/database.js';
import { appendMessages, laneOf } from './message.store.js';
import { MessageWriter, type Settled } from './message-writer.js';

let test: TestDatabase;
let proxy: Proxy;
let ann: Person;
let bob: Person;
const open: Database[] = [];

beforeAll(async () => {
  test = await createTestDatabase();
  proxy = await startProxy(test.url);
  [ann, bob] = [await createPerson(test.sql), await createPerson(test.sql)];
});
afterEach(async () => {
  proxy.onServerData = undefined;
  await Promise.all(open.splice(0).map((db) => db.onApplicationShutdown()));
});
afterAll(async () => {
  await proxy.close();
  await test.drop();
});

/** A node's writer; with one lane, all rooms share their batches. */
function startWriter(lanes = 1, url = test.url) {
  const db = new Database(
    loadConfig({ DATABASE_URL: url, JWT_ACCESS_SECRET: 'x'.repeat(32), WRITER_LANES: `${lanes}` }),
    pino({ level: 'silent' }),
  );
  open.push(db);
  const failures: unknown[] = [];
  const writer = new MessageWriter({
    lanes,
    queueMaxMessages: 20_000,
    laneOf,
    append: (batch, retriesLikely) => appendMessages(db, batch, retriesLikely),
    onBatchFailed: (error) => failures.push(error),
    onBatchStored: () => undefined,
    onDoubtEnded: () => undefined,
  });
  const send = (roomId: string, content: string, clientMsgId?: string, user: Person = ann) =>
    new Promise<Settled>((settled) => writer.append({ roomId, userId: user.id, content, clientMsgId }, settled));
  return { send, failures };
}

const seqOf = async (sent: Promise<Settled>): Promise<number | string> => {
  const outcome = await sent;
  return 'seq' in outcome ? outcome.seq : outcome.status === 'failed' ? outcome.error.code : outcome.status;
};

it('a message that the database refuses is refused alone; its neighbours are stored, in order', async () => {
  await test.sql.query(`
    CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
    CREATE TRIGGER refuse_poison BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.content = 'poison') EXECUTE FUNCTION refuse_poison()`);
  const { send } = startWriter();
  const [room, other] = [await createRoom(test.sql, [ann]), await createRoom(test.sql, [ann])];
  const contents = ['1', '2', 'poison', '3', '4', '5', 'poison', '6'];
  const sent = contents.map((content) => send(room, content, randomUUID()));
  const elsewhere = send(other, 'elsewhere');
  expect(await Promise.all(sent.map(seqOf))).toEqual([1, 2, 'internal', 3, 4, 5, 'internal', 6]);
  expect(await seqOf(elsewhere)).toBe(1);
  expect(await roomLog(test.sql, room)).toEqual({ lastSeq: 6, contiguous: true, contents: ['1', '2', '3', '4', '5', '6'] });
});

it('a commit whose answer is cut off is found by the retry: the original seq, and one row', async () => {
  const { send, failures } = startWriter(1, proxy.through(test.url));
  const room = await createRoom(test.sql, [ann, bob]);
  await send(room, 'before'); // seq 2
  let cuts = 0;
  proxy.onServerData = (chunk) => !(chunk.includes('SELECT 1\0') && cuts++ === 0); // the row and its CommandComplete come in one piece, after the commit
  const sent = [send(room, 'kept', randomUUID()), send(room, 'unknown'), send(room, 'kept too', randomUUID(), bob)];
  expect(await Promise.all(sent.map(seqOf))).toEqual([3, 'unavailable', 5]);
  expect(await sent[0]).toMatchObject({ status: 'duplicate' });
  expect(failures).toHaveLength(1);
  expect(await roomLog(test.sql, room)).toEqual({
    lastSeq: 5,
    contiguous: true,
    contents: ['[joined]', 'before', 'kept', 'unknown', 'kept too'],
  });
});

it('a batch that never reached the server is stored once by its retry', async () => {
  const { send, failures } = startWriter(1, proxy.through(test.url));
  const room = await createRoom(test.sql, [ann]);
  await send(room, 'before');
  proxy.onClientData = () => {
    proxy.onClientData = undefined;
    proxy.cut();
  };
  expect(await seqOf(send(room, 'after', randomUUID()))).toBe(2);
  expect(failures.length).toBeGreaterThan(0);
  expect((await roomLog(test.sql, room)).contents).toEqual(['before', 'after']);
});

it('a room that an open transaction has locked stops its own sends only, which are stored in order after its COMMIT', async () => {
  const { send, failures } = startWriter();
  const [locked, other] = [await createRoom(test.sql, [ann]), await createRoom(test.sql, [ann])];
  const client = await test.sql.connect();
  try {
    await client.query('BEGIN');
    await client.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [locked, ann.id, 'long thought']);
    const waiting = [send(locked, '1')];
    const beside = send(other, 'beside'); // in the same batch
    await eventually(() => failures.length > 0, 'the batch to give up waiting for the lock');
    waiting.push(send(locked, '2', randomUUID()), send(locked, '3'));

    // The transaction stays open, and the lane goes on.
    const third = await createRoom(test.sql, [ann]);
    for (let n = 1; n <= 50; n++) expect(await seqOf(send(third, `${n}`))).toBe(n);
    expect(await seqOf(beside)).toBe(1);
    await client.query('COMMIT');
    expect(await Promise.all(waiting.map(seqOf))).toEqual([2, 3, 4]);
    expect((await roomLog(test.sql, locked)).contents).toEqual(['long thought', '1', '2', '3']);
  } finally {
    client.release(true); // whatever it still holds
  }
});

it('sends through four lanes keep the order of each room, whatever room they share a batch with', async () => {
  const { send } = startWriter(4);
  const rooms = await Promise.all(Array.from({ length: 8 }, () => createRoom(test.sql, [ann])));
  const sent = Array.from({ length: 2_000 }, (_, n) => send(rooms[n % 8] ?? '', `${Math.floor(n / 8)}`));
  const seqs = await Promise.all(sent.map(seqOf));
  expect(seqs).toEqual(seqs.map((_, n) => Math.floor(n / 8) + 1));
  for (const room of rooms) expect((await roomLog(test.sql, room)).contents).toEqual(Array.from({ length: 250 }, (_, n) => `${n}`));
});
