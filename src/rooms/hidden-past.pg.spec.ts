import { readdirSync } from 'node:fs';
import { pino } from 'pino';
import { TestClient } from '../../test/support/client.js';
import { startNode, type TestNode } from '../../test/support/node.js';
import { createPerson } from '../../test/support/people.js';
import { call, createRoom, registerUser, type TestUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { migrate } from '../database/migrations.js';

let db: TestDatabase;
let node: TestNode;
let ann: TestUser;
let bob: TestUser;
let carol: TestUser;
let dave: TestUser;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  [ann, bob, carol, dave] = await Promise.all([
    registerUser(node.url, 'ann'),
    registerUser(node.url, 'bob'),
    registerUser(node.url, 'carol'),
    registerUser(node.url, 'dave'),
  ]);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

/** Throws where it does not succeed. */
async function as<Body>(user: TestUser, method: string, path: string, body?: unknown): Promise<Body> {
  const answer = await call(node.url, path, { method, token: user.token, body });
  if (answer.status >= 300) throw new Error(`${method} ${path} answered ${answer.status}`);
  return answer.body as Body;
}

/** Each takes a seq, but for the changes that change nothing. */
const say = async (user: TestUser, room: string): Promise<number> =>
  (await as<{ seq: number }>(user, 'POST', `/rooms/${room}/messages`, { content: 'said' })).seq;
const join = (user: TestUser, room: string) => as(user, 'POST', `/rooms/${room}/join`);
const leave = (user: TestUser, room: string) => as(user, 'POST', `/rooms/${room}/leave`);
const change = (user: TestUser, room: string, changes: object) => as(user, 'PATCH', `/rooms/${room}`, changes);
const makeAdmin = (owner: TestUser, user: TestUser, room: string) =>
  as(owner, 'PUT', `/rooms/${room}/members/${user.id}`, { role: 'admin' });

/** The seqs of the messages that a user can get at, by whatever way. */
async function visible(user: TestUser, room: string, lastSeq: number): Promise<number[]> {
  const seqs = new Set<number>();
  const authors = ['', ...[ann, bob, carol, dave].map(({ id }) => `&author=${id}`)];
  const places = ['', '&after=0', '&cursor=3', `&before=${lastSeq + 1}`, ...Array.from({ length: lastSeq }, (_, n) => `&around=${n + 1}`)];
  for (const author of authors) {
    for (const place of places) {
      const { messages } = await as<{ messages: { seq: number }[] }>(user, 'GET', `/rooms/${room}/messages?limit=100${author}${place}`);
      for (const { seq } of messages) seqs.add(seq);
    }
  }
  const client = await TestClient.connect(node.url, user.token);
  await client.command('join_room', { room_id: room, last_seen_seq: 0 });
  await client.reaches(room, lastSeq);
  for (const { seq } of client.messages) seqs.add(seq);
  await client.close();
  return [...seqs].toSorted((a, b) => a - b);
}

describe('what a room did not show stays hidden', () => {
  it('from a stranger who joins it when everybody has left, and opens its history', async () => {
    const room = await createRoom(node.url, ann.token, 'left behind', { history: 'joined' });
    for (const user of [ann, ann]) await say(user, room); // 1, 2
    await join(bob, room); // 3
    await say(bob, room); // 4
    for (const user of [bob, ann]) await leave(user, room); // the last seq is 6 or 7
    await join(carol, room);
    const first = await say(carol, room);
    expect(await visible(carol, room, first)).toEqual([first]);
    await change(carol, room, { history: 'shared' });
    expect(await visible(carol, room, first + 1)).toEqual([first]);
    await join(dave, room);
    const last = await say(dave, room);
    expect(await visible(dave, room, last)).toEqual([last]);
    expect(await visible(carol, room, last)).toEqual([first, last]);
  });

  it('also where the log was shared with members, when nobody of them is left; and from a member who returns', async () => {
    const room = await createRoom(node.url, ann.token, 'abandoned');
    await say(ann, room); // 1
    await leave(ann, room); // 2
    await join(bob, room); // 3, and 4 makes it the owner
    await say(bob, room); // 5
    await join(ann, room); // 6
    for (const user of [ann, bob]) expect(await visible(user, room, 6)).toEqual([5]);
  });

  it('from a member whom no stranger left it to: an admin opens the history, and the past before each join stays hidden', async () => {
    const room = await createRoom(node.url, ann.token, 'opened by an admin', { history: 'joined' });
    for (let n = 0; n < 3; n++) await say(ann, room); // 1 to 3
    await join(bob, room); // 4
    await say(ann, room); // 5
    await makeAdmin(ann, bob, room); // 6
    await change(bob, room, { history: 'shared', name: 'opened by an admin, and renamed' }); // 7, 8
    await say(ann, room); // 9
    await join(carol, room); // 10
    expect(await visible(ann, room, 10)).toEqual([1, 2, 3, 5, 9]);
    expect(await visible(bob, room, 10)).toEqual([5, 9]);
    expect(await visible(carol, room, 10)).toEqual([9]);
  });

  it('whatever the history is changed to and back, by one change or many', async () => {
    const room = await createRoom(node.url, ann.token, 'to and fro');
    await say(ann, room); // 1, shared
    await join(bob, room); // 2
    expect(await visible(bob, room, 2)).toEqual([1]);
    await change(ann, room, { history: 'shared', private: false }); // is so already
    await change(ann, room, { description: 'other' }); // 3
    expect(await visible(bob, room, 3)).toEqual([1]);
    await change(ann, room, { history: 'joined' }); // 4
    await say(ann, room); // 5
    expect(await visible(bob, room, 5)).toEqual([5]);
    await change(ann, room, { history: 'shared' }); // 6
    await join(carol, room); // 7
    await say(ann, room); // 8
    for (const history of ['joined', 'shared']) await change(ann, room, { history }); // 9, 10
    expect(await visible(bob, room, 10)).toEqual([5, 8]);
    expect(await visible(carol, room, 10)).toEqual([8]);
    await join(dave, room); // 11
    expect(await visible(dave, room, 11)).toEqual([]);
  });

  it('from people who were not invited, when a private room is opened', async () => {
    const room = await createRoom(node.url, ann.token, 'behind closed doors', { private: true });
    await say(ann, room); // 1
    await as(ann, 'POST', `/rooms/${room}/members`, { user_id: bob.id }); // 2
    expect(await visible(bob, room, 2)).toEqual([1]); // an invitation shows it
    await change(ann, room, { private: false }); // 3
    await say(ann, room); // 4
    await join(carol, room); // 5
    expect(await visible(carol, room, 5)).toEqual([4]);
    expect(await visible(ann, room, 5)).toEqual([1, 4]);
  });
});

it('the migration hides what a room would have hidden, had it been there from the start', async () => {
  const old = await createTestDatabase('empty');
  try {
    const names = readdirSync(new URL('../../migrations', import.meta.url)).toSorted();
    const log = pino({ level: 'silent' });
    await migrate(old.url, log, 'up', names.indexOf('0016_hidden_past.sql'));
    const people = [await createPerson(old.sql), await createPerson(old.sql)] as const;
    const joins = (room: string, n: 0 | 1) => old.sql.query('SELECT join_room($1, $2, $3)', [room, people[n].id, people[n].name]);
    const leaves = (room: string, n: 0 | 1) => old.sql.query(`SELECT leave_room($1, $2, $2, 'left')`, [room, people[n].id]);
    const updated = (room: string, data: object) =>
      old.sql.query(`SELECT append_room_event($1, 'updated', $2, NULL, NULL, $3)`, [room, people[0].id, JSON.stringify(data)]);
    const made = async (): Promise<string> => {
      const { rows } = await old.sql.query<{ id: string }>(
        `INSERT INTO rooms (bucket, id, name, created_by) SELECT room_bucket(id), id, id::text, $1 FROM gen_random_uuid() AS id RETURNING id`,
        [people[0].id],
      );
      return rows[0]?.id ?? '';
    };
    const expected = new Map<string, number>();
    const open = await made(); // nothing of it was ever hidden
    for (const n of [0, 1] as const) await joins(open, n); // the first one owns it, as add_member says of every empty room: seqs 1 and 2
    await updated(open, { description: 'x' });
    expected.set(open, 1);
    const inherited = await made();
    await joins(inherited, 0); // 1, 2
    await joins(inherited, 1); // 3
    await leaves(inherited, 0); // 4 and 5: passed on, left
    expected.set(inherited, 1);
    await leaves(inherited, 1); // 6
    const opened = await made();
    await joins(opened, 0); // 1, 2
    await updated(opened, { history: 'joined' }); // 3
    await updated(opened, { history: 'shared' }); // 4
    expected.set(opened, 3);
    const published = await made();
    await joins(published, 0); // 1, 2
    await updated(published, { private: true }); // 3
    await updated(published, { private: false }); // 4
    expected.set(published, 3);
    const again = await made();
    await joins(again, 0); // 1, 2
    await leaves(again, 0); // 3
    await joins(again, 1); // 4, 5
    expected.set(again, 4);
    await migrate(old.url, log);
    const { rows } = await old.sql.query<{ id: string; seq: number }>('SELECT id, shared_from::int AS seq FROM rooms');
    expect(new Map(rows.map(({ id, seq }) => [id, seq]))).toEqual(expected);
  } finally {
    await old.drop();
  }
});
