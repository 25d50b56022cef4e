/** What can be done with the key of the bus, or with EXECUTE on bus_notify: a forged entry never takes the place of the true one. */
import { randomUUID } from 'node:crypto';
import { Feed } from '../src/bus/feed.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, type Person } from './support/people.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let node: TestNode;
let ann: Person;
let bob: Person;
let room: string;
let client: TestClient;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
});
beforeEach(async () => {
  room = await createRoom(db.sql, [ann, bob]); // last seq 1
  client = await TestClient.connect(node.url, ann.token);
  await client.join(room);
});
afterEach(() => client.close());
afterAll(async () => {
  await node.close();
  await db.drop();
});

const notify = (line: string) => db.sql.query('SELECT bus_notify($1)', [`\n${line}`]);
const message = (seq: number, content = 'forged') =>
  `m${JSON.stringify({ room_id: room, seq, id: 1, user_id: bob.id, username: bob.name, content, created_at: '2026-01-01T00:00:00.000Z' })}`;
const event = (seq: number, kind: string, user: Person) =>
  `e${JSON.stringify({ room_id: room, seq, kind, actor_id: user.id, user_id: user.id, username: user.name, created_at: '2026-01-01T00:00:00.000Z' })}`;
const insert = (content: string) =>
  db.sql.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, bob.id, content]);

/** The client was told to fetch anew; and what is said from then on arrives, on this connection and for one that resumes. */
async function violationsAfterResync(lastSeq: number): Promise<string[]> {
  const { data } = await client.frame('resync', ({ room_id }) => room_id === room);
  expect(data).toMatchObject({ reason: 'gap_in_log', last_seq: lastSeq });
  await insert('afterwards');
  await client.reaches(room, lastSeq + 1);
  const other = await TestClient.connect(node.url, bob.token);
  await other.command('join_room', { room_id: room, last_seen_seq: 0 });
  await other.reaches(room, lastSeq + 1);
  expect(other.contents(room)).toEqual((await roomLog(db.sql, room)).contents);
  await other.close();
  return [...client.violations, ...other.violations];
}

it('a forged message whose seq the true one takes soon is found out by that', async () => {
  await notify(message(2));
  await client.reaches(room, 2);
  await insert('true');
  expect(await violationsAfterResync(2)).toEqual([]);
});

it('a forged message above the log is found out within 2 s', async () => {
  await notify(message(2));
  await client.reaches(room, 2);
  expect(await violationsAfterResync(1)).toEqual([]);
});

it('a forged message in the place of one that is too large to be notified is found out', async () => {
  await notify(message(2));
  await client.reaches(room, 2);
  await insert('x'.repeat(9_000));
  expect(await violationsAfterResync(2)).toEqual([]);
});

it('a forged message whose true one was notified while LISTEN was lost is found out', async () => {
  await notify(message(2));
  await client.reaches(room, 2);
  await db.sql.query('BEGIN; ALTER TABLE messages DISABLE TRIGGER messages_notify; COMMIT');
  await insert('not heard');
  await db.sql.query('ALTER TABLE messages ENABLE TRIGGER messages_notify');
  await db.sql.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trunkline listen'",
  );
  expect(await violationsAfterResync(2)).toEqual([]);
});

it('a forged end of a membership ends nothing', async () => {
  for (const kind of ['kicked', 'left', 'banned']) await notify(event(2, kind, ann));
  await notify(`e${JSON.stringify({ room_id: room, seq: 2, kind: 'deleted', actor_id: bob.id, created_at: '2026-01-01T00:00:00.000Z' })}`);
  await insert('still here');
  await client.reaches(room, 2);
  expect(client.contents(room)).toEqual(['[start]', 'still here']);
  expect(client.frames.filter(({ event: name }) => ['user_left', 'resync', 'room_event'].includes(name))).toEqual([]);
});

it('an end of a membership in whose place a message was forged holds all the same', async () => {
  const kicked = await TestClient.connect(node.url, bob.token);
  await kicked.join(room);
  await notify(message(2));
  await kicked.reaches(room, 2);
  await db.sql.query("SELECT leave_room($1, $2, $3, 'kicked')", [room, bob.id, ann.id]);
  const send = (content: string) => client.send(room, content);
  await send('among us');
  expect((await kicked.frame('error')).data).toMatchObject({ code: 'not_a_member', room_id: room });
  await send('and later');
  await client.reaches(room, 4);
  await kicked.command('ping', {});
  expect(kicked.messages.map(({ content }) => content)).toEqual(['forged']);
  await kicked.close();
});

it('seqs far above the log are not believed, and cost few reads', async () => {
  const { counters } = node.app.get(Feed);
  const { repairs, holes } = counters;
  for (let n = 0; n < 200; n++) {
    await notify(message(Number.MAX_SAFE_INTEGER - n));
    await notify(`r${JSON.stringify({ room_id: room, seq: Number.MAX_SAFE_INTEGER - n, to: 9 })}`);
  }
  const sent = [];
  for (let n = 0; n < 10; n++) sent.push(await client.send(room, `message ${n}`));
  await client.reaches(room, 11);
  await eventually(() => counters.refusedPayloads > 0);
  expect(sent).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  expect(client.frames.filter(({ event: name }) => name === 'resync')).toEqual([]);
  expect(client.violations).toEqual([]);
  expect(counters.holes).toBe(holes);
  expect(counters.repairs - repairs).toBeLessThan(60);
});

it('a forged repeat of what was passed on changes nothing, also for those who resume', async () => {
  await client.send(room, 'true');
  await client.send(room, 'true too', randomUUID());
  await client.reaches(room, 3);
  const { refusedPayloads } = node.app.get(Feed).counters;
  for (const seq of [1, 2, 3]) await notify(message(seq));
  await notify(`r${JSON.stringify({ room_id: room, seq: 3, to: 3 })}`);
  await client.send(room, 'afterwards');
  await client.reaches(room, 4);
  expect(client.contents(room)).toEqual(['[start]', 'true', 'true too', 'afterwards']);
  expect(client.frames.filter(({ event: name }) => name === 'resync')).toEqual([]);
  expect(node.app.get(Feed).counters.refusedPayloads).toBe(refusedPayloads);
});
