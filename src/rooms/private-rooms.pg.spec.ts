import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, createRoom, registerUser, type TestUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { decodeInvite, encodeInvite, newSecret } from './invite-code.js';

let db: TestDatabase;
let node: TestNode;
let ann: TestUser;
let bob: TestUser;
let carol: TestUser;
let room: string;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  [ann, bob, carol] = await Promise.all([registerUser(node.url, 'ann'), registerUser(node.url, 'bob'), registerUser(node.url, 'carol')]);
});
let rooms = 0;
beforeEach(async () => {
  room = await createRoom(node.url, ann.token, `secret ${rooms++}`, { private: true });
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const as = (user: TestUser, method: string, path: string, body?: unknown): Promise<Answer> =>
  call(node.url, path, { method, token: user.token, body });
const done = { status: 200, body: { success: true } };
const noRoom = { status: 404, body: { code: 'room_not_found' } };
const ofNoUse = { status: 404, body: { code: 'not_found' } };
const listed = async (user: TestUser, query = '') =>
  ((await as(user, 'GET', `/rooms${query}`)).body as { id: string }[]).map(({ id }) => id);
const invite = async (user: TestUser, body: unknown = {}) => {
  const answer = await as(user, 'POST', `/rooms/${room}/invites`, body);
  expect(answer.status).toBe(201);
  return answer.body as { id: string; code: string };
};
const use = (user: TestUser, code: string) => as(user, 'POST', `/invites/${code}/join`);

/** Each route of the room, as somebody asks who sees nothing of it. */
async function isNothingTo(user: TestUser): Promise<void> {
  for (const [method, path, body] of [
    ['GET', ''],
    ['PATCH', '', { description: 'mine' }],
    ['DELETE', ''],
    ['POST', '/join'],
    ['POST', '/leave'],
    ['GET', '/members'],
    ['POST', '/members', { user_id: bob.id }],
    ['PUT', `/members/${ann.id}`, { role: 'member' }],
    ['DELETE', `/members/${ann.id}`],
    ['PUT', `/bans/${ann.id}`],
    ['POST', '/owner', { user_id: bob.id }],
    ['GET', '/invites'],
    ['POST', '/invites', {}],
    ['GET', '/messages'],
    ['POST', '/messages', { content: 'hello' }],
  ] as const) {
    expect([method, path, await as(user, method, `/rooms/${room}${path}`, body)]).toMatchObject([method, path, noRoom]);
  }
  for (const query of ['', '?q=secret', '?member=me']) expect(await listed(user, query)).not.toContain(room);
  // A page goes on by the time in an id, whether the room is there or not.
  expect((await as(user, 'GET', `/rooms?before=${room}`)).status).toBe(200);
}

describe('a private room', () => {
  it('is to others as if it did not exist, by every route', async () => {
    expect((await as(ann, 'GET', `/rooms/${room}`)).body).toMatchObject({ id: room, private: true });
    await isNothingTo(bob);
  });

  it('can be neither held up nor told from one that does not exist by strangers, who take no lock of it', async () => {
    const holder = await db.sql.connect();
    try {
      await holder.query('BEGIN');
      await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
      await isNothingTo(bob); // a request that waits for the lock would end in 503
      expect(await use(bob, encodeInvite(newSecret(room)))).toMatchObject(ofNoUse);
    } finally {
      await holder.query('ROLLBACK');
      holder.release();
    }
  });

  it('is deleted when its last member leaves, and its name is free', async () => {
    const { name } = (await as(ann, 'GET', `/rooms/${room}`)).body as { name: string };
    await as(ann, 'POST', `/rooms/${room}/members`, { user_id: bob.id }); // seq 1
    const { code } = await invite(bob);
    await as(ann, 'POST', `/rooms/${room}/leave`); // 2 and 3: it passes to bob
    expect(await as(bob, 'GET', `/rooms/${room}`)).toMatchObject({ status: 200 });
    await as(bob, 'POST', `/rooms/${room}/leave`); // 4, and 5 deletes it
    const { rows } = await db.sql.query('SELECT seq::int, kind FROM room_events WHERE room_id = $1 AND seq > 3 ORDER BY seq', [room]);
    expect(rows).toEqual([
      { seq: 4, kind: 'left' },
      { seq: 5, kind: 'deleted' },
    ]);
    expect(await use(carol, code)).toMatchObject(ofNoUse);
    await db.sql.query("UPDATE room_names SET claimed_at = claimed_at - interval '2 minutes' WHERE room_id = $1", [room]);
    expect(await as(carol, 'POST', '/rooms', { name })).toMatchObject({ status: 201 });
  });

  it('is made of an open one and made open again by the owner and admins, each time by an event', async () => {
    for (const user of [bob, carol]) await as(ann, 'POST', `/rooms/${room}/members`, { user_id: user.id }); // seqs 1 and 2
    const make = (user: TestUser, isPrivate: unknown) => as(user, 'PATCH', `/rooms/${room}`, { private: isPrivate });
    expect(await make(ann, false)).toMatchObject({ status: 200, body: { id: room, private: false, last_seq: 3 } });
    for (const query of ['', '?q=secret', '?member=me']) expect(await listed(bob, query)).toContain(room);
    await as(carol, 'POST', `/rooms/${room}/leave`); // seq 4
    expect(await as(carol, 'GET', `/rooms/${room}`)).toMatchObject({ status: 200, body: { private: false } });

    expect(await make(bob, true)).toMatchObject({ status: 403, body: { code: 'forbidden' } });
    expect(await make(carol, true)).toMatchObject(noRoom);
    for (const value of ['true', 1, {}]) {
      expect(await make(ann, value)).toMatchObject({ status: 400, body: { errors: [{ field: 'private' }] } });
    }
    await as(ann, 'PUT', `/rooms/${room}/members/${bob.id}`, { role: 'admin' }); // seq 5
    for (let n = 0; n < 2; n++) expect(await make(bob, true)).toMatchObject({ status: 200, body: { private: true, last_seq: 6 } });
    expect(await make(ann, null)).toMatchObject({ status: 200, body: { private: true, last_seq: 6 } });
    await isNothingTo(carol);
    for (const query of ['', '?q=secret', '?member=me']) expect(await listed(bob, query)).toContain(room);

    const { rows } = await db.sql.query("SELECT seq::int, actor_id, data FROM room_events WHERE room_id = $1 AND kind = 'updated'", [room]);
    expect(rows).toEqual([
      { seq: 3, actor_id: ann.id, data: { private: false } },
      { seq: 6, actor_id: bob.id, data: { private: true } },
    ]);
  });

  it('is in the lists of its members, among the open ones in the order of age', async () => {
    const open = await createRoom(node.url, bob.token, `open ${room}`);
    expect(await listed(ann, '?limit=2')).toEqual([open, room]);
    expect(await listed(ann, `?limit=1&before=${open}`)).toEqual([room]);
    expect(await listed(ann, '?member=me&limit=1')).toEqual([room]);
  });

  it('is joined by who was added by a member', async () => {
    expect(await as(ann, 'POST', `/rooms/${room}/members`, { user_id: room })).toMatchObject(ofNoUse);
    for (let n = 0; n < 2; n++) expect(await as(ann, 'POST', `/rooms/${room}/members`, { user_id: bob.id })).toMatchObject(done);
    expect(await as(bob, 'POST', `/rooms/${room}/join`)).toMatchObject(done);
    expect(await as(bob, 'POST', `/rooms/${room}/members`, { user_id: carol.id })).toMatchObject(done);
    expect(await listed(carol)).toContain(room);
    const { rows } = await db.sql.query('SELECT seq::int, kind, actor_id, user_id FROM room_events WHERE room_id = $1 ORDER BY seq', [
      room,
    ]);
    expect(rows).toEqual([
      { seq: 1, kind: 'joined', actor_id: ann.id, user_id: bob.id },
      { seq: 2, kind: 'joined', actor_id: bob.id, user_id: carol.id },
    ]);
    expect(await as(bob, 'POST', `/rooms/${room}/leave`)).toMatchObject(done);
    expect(await as(bob, 'GET', `/rooms/${room}`)).toMatchObject(noRoom);
    expect(await as(bob, 'POST', `/rooms/${room}/join`)).toMatchObject(noRoom);
  });

  it('keeps out who is banned, whoever invites', async () => {
    await as(ann, 'PUT', `/rooms/${room}/bans/${bob.id}`);
    const { code } = await invite(ann, { max_uses: 1 });
    const forbidden = { status: 403, body: { code: 'forbidden' } };
    expect(await as(ann, 'POST', `/rooms/${room}/members`, { user_id: bob.id })).toMatchObject(forbidden);
    expect(await use(bob, code)).toMatchObject(forbidden);
    expect(await as(bob, 'POST', `/rooms/${room}/join`)).toMatchObject(noRoom);
    expect(await use(carol, code)).toMatchObject(done); // the refused one used nothing up
  });
});

describe('an invitation', () => {
  it('lets in as many as it was made for, however many come at once, and a member without a use', async () => {
    const { code } = await invite(ann, { max_uses: 1 });
    expect(await use(ann, code)).toMatchObject({ status: 200, body: { success: true, room_id: room } });
    const answers = await Promise.all([use(bob, code), use(carol, code)]);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 404]);
    expect(await as(ann, 'GET', `/rooms/${room}/invites`)).toMatchObject({ body: [] });
  });

  it('is of no use after its time, when it was deleted, or to the room when that was deleted', async () => {
    const [late, gone, homeless] = [await invite(ann, { expires_in_s: 60 }), await invite(ann), await invite(ann)];
    await db.sql.query("UPDATE room_invites SET expires_at = now() - interval '1 s' WHERE id = $1", [late.id]);
    expect(await use(bob, late.code)).toMatchObject(ofNoUse);
    expect(await as(ann, 'DELETE', `/rooms/${room}/invites/${gone.id}`)).toMatchObject(done);
    expect(await use(bob, gone.code)).toMatchObject(ofNoUse);
    await as(ann, 'DELETE', `/rooms/${room}`);
    expect(await use(bob, homeless.code)).toMatchObject(ofNoUse);
  });

  it('is of no use after who made it was kicked or banned, and stays good when it left or another was kicked', async () => {
    const { code } = await invite(ann);
    const byBob = async () => (await use(bob, code), (await invite(bob)).code);
    const left = await byBob();
    await as(bob, 'POST', `/rooms/${room}/leave`);
    expect(await use(carol, left)).toMatchObject(done);
    await as(ann, 'PUT', `/rooms/${room}/bans/${bob.id}`);
    await as(ann, 'DELETE', `/rooms/${room}/bans/${bob.id}`);
    const kicked = await byBob();
    await as(ann, 'DELETE', `/rooms/${room}/members/${carol.id}`);
    expect(await use(carol, left)).toMatchObject(ofNoUse);
    expect(await use(carol, kicked)).toMatchObject(done);
    await as(carol, 'POST', `/rooms/${room}/leave`);
    await as(ann, 'DELETE', `/rooms/${room}/members/${bob.id}`);
    expect(await use(carol, kicked)).toMatchObject(ofNoUse);
    const banned = await byBob();
    await as(ann, 'PUT', `/rooms/${room}/bans/${bob.id}`);
    expect(await use(carol, banned)).toMatchObject(ofNoUse);
    expect(await use(carol, code)).toMatchObject(done);
  });

  it('is not made by who is being kicked, at whatever moment', async () => {
    const { code } = await invite(ann);
    for (let n = 0; n < 20; n++) {
      await use(bob, code);
      const [made] = await Promise.all([
        as(bob, 'POST', `/rooms/${room}/invites`, {}),
        as(ann, 'DELETE', `/rooms/${room}/members/${bob.id}`),
      ]);
      expect([201, 404]).toContain(made.status);
      expect(await as(ann, 'GET', `/rooms/${room}/invites`)).toMatchObject({ body: [{ created_by: ann.id }] });
    }
  });

  it('is not found in the database', async () => {
    const { code } = await invite(ann);
    const { rows } = await db.sql.query<{ row: string }>('SELECT i::text AS row FROM room_invites AS i');
    const secret = decodeInvite(code)?.secret.toString('hex') ?? '';
    expect(secret).toHaveLength(32);
    for (const { row } of rows) expect(row).not.toContain(secret);
  });

  it('is seen and deleted by who made it, and by the owner', async () => {
    const { code } = await invite(ann);
    for (const user of [bob, carol]) await use(user, code);
    const [ofBob, ofCarol] = [await invite(bob), await invite(carol)];
    const ids = async (user: TestUser) => ((await as(user, 'GET', `/rooms/${room}/invites`)).body as { id: string }[]).map(({ id }) => id);
    expect(await ids(bob)).toEqual([ofBob.id]);
    await as(bob, 'DELETE', `/rooms/${room}/invites/${ofCarol.id}`);
    expect(await ids(ann)).toHaveLength(3);
    await as(ann, 'DELETE', `/rooms/${room}/invites/${ofCarol.id}`);
    expect(await ids(carol)).toEqual([]);
  });

  it('is refused where the code or its limits are none', async () => {
    for (const code of ['x', encodeInvite(newSecret(room)), 'A'.repeat(43), '%00']) {
      expect((await use(bob, code)).status).toBe(code === '%00' ? 400 : 404);
    }
    for (const [body, field] of [
      [{ expires_in_s: 59 }, 'expires_in_s'],
      [{ expires_in_s: 1.5 }, 'expires_in_s'],
      [{ expires_in_s: '3600' }, 'expires_in_s'],
      [{ max_uses: '' }, 'max_uses'],
      [{ max_uses: 0 }, 'max_uses'],
      [{ uses: 1 }, 'uses'],
    ] as const) {
      const { status, body: answer } = await as(ann, 'POST', `/rooms/${room}/invites`, body);
      expect([status, answer]).toMatchObject([400, { errors: [{ field }] }]);
    }
  });

  it('a room has at most a hundred', async () => {
    await Promise.all(Array.from({ length: 100 }, () => invite(ann)));
    expect(await as(ann, 'POST', `/rooms/${room}/invites`, {})).toMatchObject({ status: 409, body: { code: 'conflict' } });
  });

  it('counts no more when it is used up, for nobody could see and delete it', async () => {
    const codes = await Promise.all(Array.from({ length: 100 }, () => invite(ann, { max_uses: 1 })));
    expect(await use(bob, codes[0]?.code ?? '')).toMatchObject({ status: 200 });
    await invite(ann);
    expect(await as(ann, 'POST', `/rooms/${room}/invites`, {})).toMatchObject({ status: 409 });
  });
});
