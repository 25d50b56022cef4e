import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, createRoom, registerUser, type TestUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { Database } from '../database/database.js';

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

const as = (user: TestUser, method: string, path: string, body?: unknown): Promise<Answer> =>
  call(node.url, path, { method, token: user.token, body });
const done = { status: 200, body: { success: true } };
const forbidden = { status: 403, body: { code: 'forbidden' } };
const noRoom = { status: 404, body: { code: 'room_not_found' } };

/** A room of ann's, into which the others come one after the other. */
async function roomWith(name: string, ...others: TestUser[]): Promise<string> {
  const id = await createRoom(node.url, ann.token, name);
  for (const user of others) expect(await as(user, 'POST', `/rooms/${id}/join`)).toMatchObject(done);
  return id;
}

/** The room's events after seq `after`, as the bus and history carry them. */
async function eventsAfter(roomId: string, after: number): Promise<unknown[]> {
  const { rows } = await db.sql.query<{ json: string }>(
    `SELECT room_event_json(room_id, seq, kind, actor_id, user_id, username, created_at, data) AS json
      FROM room_events WHERE bucket = room_bucket($1) AND room_id = $1 AND seq > $2 ORDER BY seq`,
    [roomId, after],
  );
  return rows.map(({ json }) => {
    const { room_id: _, created_at: at, ...event } = JSON.parse(json) as { room_id: string; created_at: string };
    expect(new Date(at).toISOString()).toBe(at);
    return event;
  });
}

async function roles(roomId: string): Promise<Record<string, string>> {
  const { rows } = await db.sql.query<{ username: string; role: string }>('SELECT username, role FROM room_members WHERE room_id = $1', [
    roomId,
  ]);
  return Object.fromEntries(rows.map(({ username, role }) => [username, role]));
}

describe('roles', () => {
  it('are given and taken by the owner alone, each change with a seq', async () => {
    const id = await roomWith('roles', bob, carol);
    const setRole = (actor: TestUser, user: TestUser, role: unknown) => as(actor, 'PUT', `/rooms/${id}/members/${user.id}`, { role });
    expect(await setRole(bob, carol, 'admin')).toMatchObject(forbidden);
    expect(await setRole(dave, carol, 'admin')).toMatchObject(noRoom);
    expect(await setRole(ann, ann, 'member')).toMatchObject(forbidden);
    expect(await setRole(ann, dave, 'admin')).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(await setRole(ann, bob, 'owner')).toMatchObject({ status: 400, body: { errors: [{ field: 'role' }] } });
    for (let n = 0; n < 2; n++) expect(await setRole(ann, bob, 'admin')).toMatchObject(done);
    expect(await setRole(bob, carol, 'admin')).toMatchObject(forbidden);
    expect(await setRole(ann, bob, 'member')).toMatchObject(done);
    const event = { kind: 'role_changed', actor_id: ann.id, user_id: bob.id, username: 'bob' };
    expect(await eventsAfter(id, 2)).toEqual([
      { seq: 3, ...event, role: 'admin' },
      { seq: 4, ...event, role: 'member' },
    ]);
  });

  it('the owner can hand the room over to a member, and is an admin then', async () => {
    const id = await roomWith('hand over', bob);
    const transfer = (actor: TestUser, user: TestUser) => as(actor, 'POST', `/rooms/${id}/owner`, { user_id: user.id });
    expect(await transfer(bob, bob)).toMatchObject(forbidden);
    expect(await transfer(ann, carol)).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(await transfer(ann, ann)).toMatchObject(done);
    expect(await transfer(ann, bob)).toMatchObject(done);
    expect(await transfer(ann, bob)).toMatchObject(forbidden);
    expect(await roles(id)).toEqual({ ann: 'admin', bob: 'owner' });
    expect(await eventsAfter(id, 1)).toEqual([{ seq: 2, kind: 'owner_changed', actor_id: ann.id, user_id: bob.id, username: 'bob' }]);
  });

  it('of two who hand the room over at once, one does', async () => {
    const id = await roomWith('one crown', bob, carol);
    const answers = await Promise.all([bob, carol].map((user) => as(ann, 'POST', `/rooms/${id}/owner`, { user_id: user.id })));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 403]);
    expect(Object.values(await roles(id)).filter((role) => role === 'owner')).toHaveLength(1);
  });

  it('an owner who leaves passes the room on to the admin who was there first, else to the member', async () => {
    const id = await roomWith('inheritance', bob, carol, dave);
    await as(ann, 'PUT', `/rooms/${id}/members/${dave.id}`, { role: 'admin' });
    for (const user of [ann, dave, bob, carol]) expect(await as(user, 'POST', `/rooms/${id}/leave`)).toMatchObject(done);
    const left = (seq: number, user: TestUser) => ({ seq, kind: 'left', actor_id: user.id, user_id: user.id, username: user.username });
    const passed = (seq: number, from: TestUser, to: TestUser) => ({
      seq,
      kind: 'owner_changed',
      actor_id: from.id,
      user_id: to.id,
      username: to.username,
    });
    expect(await eventsAfter(id, 4)).toEqual([
      passed(5, ann, dave),
      left(6, ann),
      passed(7, dave, bob),
      left(8, dave),
      passed(9, bob, carol),
      left(10, bob),
      left(11, carol),
    ]);
  });

  it('who comes into a room that everybody has left owns it', async () => {
    const id = await roomWith('found');
    await as(ann, 'POST', `/rooms/${id}/leave`);
    await Promise.all([bob, carol].map((user) => as(user, 'POST', `/rooms/${id}/join`)));
    expect(Object.values(await roles(id)).toSorted()).toEqual(['member', 'owner']);
    expect((await eventsAfter(id, 0)).map((event) => (event as { kind: string }).kind)).toEqual([
      'left',
      'joined',
      'owner_changed',
      'joined',
    ]);
  });
});

describe('a ban', () => {
  it('ends the membership and refuses joins, until it is taken back', async () => {
    const id = await roomWith('banned', bob);
    for (let n = 0; n < 2; n++) expect(await as(ann, 'PUT', `/rooms/${id}/bans/${bob.id}`)).toMatchObject(done);
    expect(await as(bob, 'POST', `/rooms/${id}/join`)).toMatchObject(forbidden);
    expect(await as(bob, 'GET', `/rooms/${id}/messages`)).toMatchObject(noRoom);
    expect((await as(ann, 'GET', `/rooms/${id}/bans`)).body).toEqual([
      { user_id: bob.id, username: 'bob', banned_by: ann.id, banned_at: expect.any(String) },
    ]);
    for (let n = 0; n < 2; n++) expect(await as(ann, 'DELETE', `/rooms/${id}/bans/${bob.id}`)).toMatchObject(done);
    expect(await as(bob, 'POST', `/rooms/${id}/join`)).toMatchObject(done);
    const event = { actor_id: ann.id, user_id: bob.id, username: 'bob' };
    expect((await eventsAfter(id, 1)).slice(0, 2)).toEqual([
      { seq: 2, kind: 'banned', ...event },
      { seq: 3, kind: 'unbanned', ...event },
    ]);
  });

  it('is for who is no member too, and for nobody who does not exist', async () => {
    const id = await roomWith('keep out');
    expect(await as(ann, 'PUT', `/rooms/${id}/bans/${bob.id}`)).toMatchObject(done);
    expect(await as(bob, 'POST', `/rooms/${id}/join`)).toMatchObject(forbidden);
    expect(await as(ann, 'PUT', `/rooms/${id}/bans/${id}`)).toMatchObject({ status: 404, body: { code: 'not_found' } });
  });

  it('is the owner’s and the admins’, never against those above', async () => {
    const id = await roomWith('who bans', bob, carol);
    await as(ann, 'PUT', `/rooms/${id}/members/${bob.id}`, { role: 'admin' });
    const ban = (actor: TestUser, user: TestUser) => as(actor, 'PUT', `/rooms/${id}/bans/${user.id}`);
    expect(await ban(carol, dave)).toMatchObject(forbidden);
    expect(await as(carol, 'GET', `/rooms/${id}/bans`)).toMatchObject(forbidden);
    expect(await ban(bob, ann)).toMatchObject(forbidden);
    expect(await ban(bob, bob)).toMatchObject(forbidden);
    expect(await ban(dave, carol)).toMatchObject(noRoom);
    expect(await as(dave, 'GET', `/rooms/${id}/bans`)).toMatchObject(noRoom);
    expect(await ban(bob, carol)).toMatchObject(done);
  });
});

describe('changing a room', () => {
  const change = (user: TestUser, id: string, body: unknown) => as(user, 'PATCH', `/rooms/${id}`, body);

  it('is the owner’s and the admins’; a new name and the rest are an event each, and what is so already is none', async () => {
    const id = await roomWith('before', bob);
    expect(await change(bob, id, { name: 'mine' })).toMatchObject(forbidden);
    expect(await change(carol, id, { name: 'mine' })).toMatchObject(noRoom);
    await as(ann, 'PUT', `/rooms/${id}/members/${bob.id}`, { role: 'admin' });
    const wanted = { name: 'after', description: 'two\nlines', history: 'joined' };
    for (let n = 0; n < 2; n++) {
      const answer = await change(bob, id, wanted);
      expect([answer.status, answer.body]).toMatchObject([200, { id, ...wanted, last_seq: 4 }]);
    }
    expect((await change(bob, id, {})).body).toMatchObject(wanted);
    expect((await change(ann, id, { description: null, history: 'shared' })).body).toMatchObject({ ...wanted, history: 'shared' });
    expect(await eventsAfter(id, 2)).toEqual([
      { seq: 3, kind: 'renamed', actor_id: bob.id, name: 'after' },
      { seq: 4, kind: 'updated', actor_id: bob.id, description: 'two\nlines', history: 'joined' },
      { seq: 5, kind: 'updated', actor_id: ann.id, history: 'shared' },
    ]);
  });

  it('claims the new name as creation does, and gives the old one back', async () => {
    const [first, second] = [await roomWith('Mountain'), await roomWith('Valley')];
    expect(await change(ann, second, { name: 'mOUNTAIN' })).toMatchObject({ status: 409, body: { errors: [{ field: 'name' }] } });
    expect((await change(ann, first, { name: 'MOUNTAIN' })).body).toMatchObject({ name: 'MOUNTAIN' });
    expect((await change(ann, first, { name: 'Hill' })).status).toBe(200);
    expect((await change(ann, second, { name: 'mountain' })).status).toBe(200);
    expect(await as(ann, 'POST', '/rooms', { name: 'hill' })).toMatchObject({ status: 409 });
    expect(await as(ann, 'POST', '/rooms', { name: 'valley' })).toMatchObject({ status: 201 });
  });

  it('of ten rooms that want one name at once, one gets it, and of ten names for one room one stays', async () => {
    const rooms = await Promise.all(Array.from({ length: 10 }, (_, n) => createRoom(node.url, ann.token, `racer ${n}`)));
    const answers = await Promise.all(rooms.map((id) => change(ann, id, { name: 'winner' })));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    const id = await roomWith('many names');
    await Promise.all(Array.from({ length: 10 }, (_, n) => change(ann, id, { name: `name ${n}` })));
    const { rows } = await db.sql.query('SELECT name_key, name FROM room_names JOIN rooms ON id = room_id WHERE room_id = $1', [id]);
    expect(rows).toEqual([{ name_key: rows[0]?.name, name: rows[0]?.name }]);
  });

  it('a name that a room takes back before its first rename has released it stays claimed', async () => {
    const id = await roomWith('there');
    await db.sql.query("UPDATE room_names SET claimed_at = now() - interval '61 s' WHERE room_id = $1", [id]);
    const database = node.app.get(Database);
    const query = database.query.bind(database);
    const released = new Promise<void>((release) => {
      database.query = async (...statement) => {
        if (!(statement[0] as string).startsWith?.('DELETE FROM room_names')) return query(...statement);
        database.query = query;
        expect(await change(ann, id, { name: 'there' })).toMatchObject({ status: 200 });
        release();
        return query(...statement);
      };
    });
    expect(await change(ann, id, { name: 'back' })).toMatchObject({ status: 200 });
    await released;
    expect(await as(ann, 'POST', '/rooms', { name: 'there' })).toMatchObject({ status: 409 });
    expect(await as(ann, 'POST', '/rooms', { name: 'back' })).toMatchObject({ status: 201 });
  });

  it('a name that a rename has left claimed is free after the claim’s life', async () => {
    const id = await roomWith('moved on');
    await db.sql.query("INSERT INTO room_names VALUES ('left over', $1, now() - interval '59 s')", [id]);
    expect(await as(ann, 'POST', '/rooms', { name: 'left over' })).toMatchObject({ status: 409 });
    await db.sql.query("UPDATE room_names SET claimed_at = now() - interval '61 s' WHERE room_id = $1", [id]);
    expect(await as(ann, 'POST', '/rooms', { name: 'moved on' })).toMatchObject({ status: 409 });
    expect(await as(ann, 'POST', '/rooms', { name: 'left over' })).toMatchObject({ status: 201 });
  });

  it('a change too large for a notification is an event as every other', async () => {
    const id = await roomWith('large');
    const description = '\u0001'.repeat(1_000);
    await change(ann, id, { name: '💥'.repeat(100), description });
    await db.sql.query('SELECT append_room_event($1, $2, $3, NULL, NULL, $4)', [
      id,
      'updated',
      ann.id,
      { description: description.repeat(2) },
    ]);
    expect(await eventsAfter(id, 1)).toMatchObject([{ seq: 2, description }, { seq: 3 }]);
  });
});
