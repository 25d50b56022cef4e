import { randomUUID } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, createRoom, registerUser, type TestUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { roomBucket } from '../database/bucket.js';

let db: TestDatabase;
let node: TestNode;
let ann: TestUser;
let bob: TestUser;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  [ann, bob] = await Promise.all([registerUser(node.url, 'ann'), registerUser(node.url, 'bob')]);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const as = (user: TestUser, method: string, path: string, body?: unknown): Promise<Answer> =>
  call(node.url, path, { method, token: user.token, body });
const create = (body: unknown): Promise<Answer> => as(ann, 'POST', '/rooms', body);
const eventsOf = async (roomId: string): Promise<unknown[]> =>
  (
    await db.sql.query({
      text: 'SELECT seq::int, kind, actor_id, user_id, username FROM room_events WHERE bucket = room_bucket($1) AND room_id = $1 ORDER BY seq',
      values: [roomId],
    })
  ).rows;
const statuses = (answers: Answer[]): number[] => answers.map(({ status }) => status).toSorted((a, b) => a - b);
const errorFields = (answer: Answer) => (answer.body as { errors?: { field: string }[] }).errors?.map(({ field }) => field);

it('the bucket of a room is the same for the node and for PostgreSQL', async () => {
  const ids = Array.from({ length: 200 }, () => uuidv7());
  const { rows } = await db.sql.query<{ bucket: number }>(
    'SELECT room_bucket(id) AS bucket FROM unnest($1::uuid[]) WITH ORDINALITY AS u (id, n) ORDER BY n',
    [ids],
  );
  expect(rows.map(({ bucket }) => bucket)).toEqual(ids.map(roomBucket));
});

describe('creating a room', () => {
  it('makes its creator the owner, and takes no seq', async () => {
    const answer = await create({ name: '  Tea room ', description: 'for tea' });
    expect(answer.status).toBe(201);
    const { id } = answer.body as { id: string };
    const room = {
      id,
      name: 'Tea room',
      description: 'for tea',
      history: 'shared',
      private: false,
      created_by: ann.id,
      created_at: expect.any(String),
      last_seq: 0,
    };
    expect(answer.body).toEqual(room);
    expect((await as(bob, 'GET', `/rooms/${id.toUpperCase()}`)).body).toEqual(room);
    expect((await as(ann, 'GET', `/rooms/${id}/members`)).body).toEqual([
      { user_id: ann.id, username: 'ann', role: 'owner', joined_at: expect.any(String), online: false },
    ]);
    expect(await eventsOf(id)).toEqual([]);
  });

  it('needs no description, and may keep what was before a join to those who were there', async () => {
    expect((await create({ name: 'bare' })).body).toMatchObject({ description: '', history: 'shared' });
    expect((await create({ name: 'private', description: null, history: 'joined' })).body).toMatchObject({
      description: '',
      history: 'joined',
    });
  });

  it('a name that is taken in whatever case is a conflict', async () => {
    await create({ name: 'Garden' });
    for (const name of ['Garden', 'gARDEN', ' garden ', 'Ｇａｒｄｅｎ']) {
      const answer = await create({ name });
      expect([answer.status, answer.body]).toMatchObject([409, { code: 'conflict', errors: [{ field: 'name', message: 'is taken' }] }]);
    }
  });

  it('a name that looks like a taken one is a conflict, and one of nothing that is seen is refused', async () => {
    await create({ name: 'Book club ΝΙΚΟΣ' });
    for (const name of ['book\u3000club νικος', 'Bооk club νικοσ', 'book  club\u00a0ΝΙΚΟΣ', 'book\u200b club νικος\ufe0f']) {
      const answer = await create({ name });
      expect([name, answer.status, answer.body]).toMatchObject([name, 409, { errors: [{ field: 'name', message: 'is taken' }] }]);
    }
    for (const name of ['\u200b', '\u3164', '\u2800', '\ufe0f', 'a\u202eb', 'a\u2028b', 'a\u{e0061}', '\u0301']) {
      const answer = await create({ name });
      expect([name, answer.status, errorFields(answer)]).toEqual([name, 400, ['name']]);
    }
    for (const name of ['❤️', '👩‍💻 и 👨‍💻', 'می‌خواهم', 'Проект X']) expect([name, (await create({ name })).status]).toEqual([name, 201]);
  });

  it('of many who create one name at the same moment, one succeeds', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => as(n % 2 ? ann : bob, 'POST', '/rooms', { name: n % 3 ? 'rush' : 'RUSH' })),
    );
    expect(statuses(answers)).toEqual([201, ...Array.from({ length: 19 }, () => 409)]);
    expect((await db.sql.query("SELECT 1 FROM rooms WHERE lower(name) = 'rush'")).rowCount).toBe(1);
  });

  it('a name claimed by a node that died before it made the room is free again after a minute, not before', async () => {
    await db.sql.query("INSERT INTO room_names VALUES ('orphan', $1, now() - interval '59 s')", [uuidv7()]);
    expect((await create({ name: 'Orphan' })).status).toBe(409);
    await db.sql.query("UPDATE room_names SET claimed_at = now() - interval '61 s' WHERE name_key = 'orphan'");
    const answers = await Promise.all(Array.from({ length: 5 }, () => create({ name: 'Orphan' })));
    expect(statuses(answers)).toEqual([201, 409, 409, 409, 409]);
  });

  it('a name whose room exists is never taken over, however old its claim', async () => {
    await create({ name: 'old' });
    await db.sql.query("UPDATE room_names SET claimed_at = now() - interval '1 year' WHERE name_key = 'old'");
    expect((await create({ name: 'old' })).status).toBe(409);
  });

  it('a claim is given back when the room is refused', async () => {
    await db.sql.query('ALTER TABLE rooms ADD CONSTRAINT no_cellar CHECK (name <> $$cellar$$)');
    expect((await create({ name: 'cellar' })).status).toBe(500);
    await db.sql.query('ALTER TABLE rooms DROP CONSTRAINT no_cellar');
    expect((await create({ name: 'cellar' })).status).toBe(201);
  });

  it('refuses a bad field by name', async () => {
    const cases: [unknown, string][] = [
      [{}, 'name'],
      [{ name: '' }, 'name'],
      [{ name: '   ' }, 'name'],
      [{ name: 'x'.repeat(101) }, 'name'],
      [{ name: 'a\0b' }, 'name'],
      [{ name: 'a\nb' }, 'name'],
      [{ name: 7 }, 'name'],
      [{ name: 'fine', description: 'x'.repeat(1_001) }, 'description'],
      [{ name: 'fine', history: 'hidden' }, 'history'],
      [{ name: 'fine', private: 'yes' }, 'private'],
      [{ name: 'fine', colour: 'red' }, 'colour'],
    ];
    for (const [body, field] of cases) {
      const answer = await create(body);
      expect([body, answer.status, errorFields(answer)]).toEqual([body, 400, [field]]);
    }
  });
});

describe('the list of rooms', () => {
  it('is newest first, in pages, over all buckets', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 7; n++) ids.unshift(await createRoom(node.url, ann.token, `listed 100% ${n}`));
    const page = async (query: string) =>
      ((await as(bob, 'GET', `/rooms?q=LISTED%20100%25&${query}`)).body as { id: string }[]).map(({ id }) => id);
    expect(await page('')).toEqual(ids);
    expect(await page('limit=3')).toEqual(ids.slice(0, 3));
    expect(await page(`limit=3&before=${ids[2]}`)).toEqual(ids.slice(3, 6));
    expect(await page(`limit=3&before=${ids[6]}`)).toEqual([]);
    expect((await as(bob, 'GET', '/rooms?limit=1')).body).toMatchObject([{ id: ids[0], name: 'listed 100% 6' }]);
    expect((await as(bob, 'GET', '/rooms?q=listed_100')).body).toEqual([]);
  });

  it('goes on after a room that was deleted or hidden meanwhile, and an id in whose place there was none', async () => {
    const [older, deleted, hidden] = [
      await createRoom(node.url, ann.token, 'cursor, older'),
      await createRoom(node.url, ann.token, 'cursor, deleted'),
      await createRoom(node.url, ann.token, 'cursor, hidden'),
    ];
    await as(ann, 'DELETE', `/rooms/${deleted}`);
    await as(ann, 'PATCH', `/rooms/${hidden}`, { private: true });
    const latest = '7fffffff-ffff-7fff-bfff-ffffffffffff'; // its time is after the year 9999
    for (const [before, expected] of [
      [deleted, [older]],
      [hidden, [older]],
      [uuidv7(), [older]],
      [latest, [older]],
      [uuidv7({ msecs: 0 }), []],
    ] as const) {
      const { status, body } = await as(bob, 'GET', `/rooms?q=cursor,&before=${before}`);
      expect([before, status, (body as { id: string }[]).map(({ id }) => id)]).toEqual([before, 200, expected]);
    }
  });

  it('of one’s own has one’s role and the last seq of each', async () => {
    const [eve, others] = [await registerUser(node.url, 'eve'), await createRoom(node.url, ann.token, 'not eve’s')];
    const own = await createRoom(node.url, eve.token, 'eve’s own');
    const joined = await createRoom(node.url, ann.token, 'eve joined');
    expect((await as(eve, 'GET', '/rooms?member=me')).body).toMatchObject([{ id: own, role: 'owner', last_seq: 0 }]);
    await as(eve, 'POST', `/rooms/${joined}/join`);
    expect((await as(eve, 'GET', '/rooms?member=me')).body).toMatchObject([
      { id: joined, role: 'member', last_seq: 1 },
      { id: own, role: 'owner' },
    ]);
    expect((await as(eve, 'GET', '/rooms?member=me&limit=1')).body).toMatchObject([{ id: joined }]);
    expect((await as(eve, 'GET', `/rooms?member=me&before=${joined}`)).body).toMatchObject([{ id: own }]);
    expect((await as(eve, 'GET', '/rooms?member=me&q=OWN')).body).toMatchObject([{ id: own }]);
    expect(((await as(eve, 'GET', '/rooms')).body as { id: string }[]).map(({ id }) => id)).toContain(others);
  });

  it('refuses a bad parameter by name', async () => {
    for (const [query, field] of [
      ['limit=0', 'limit'],
      ['limit=101', 'limit'],
      ['limit=1&limit=2', 'limit'],
      ['limit=1e1', 'limit'],
      ['before=x', 'before'],
      [`before=${randomUUID()}`, 'before'],
      ['q=%00', 'q'],
      ['page=2', 'page'],
      ['member=ann', 'member'],
    ]) {
      const answer = await as(ann, 'GET', `/rooms?${query}`);
      expect([query, answer.status, errorFields(answer)]).toEqual([query, 400, [field]]);
    }
  });
});

describe('joining and leaving', () => {
  it('take a seq each, and none when nothing changes', async () => {
    const id = await createRoom(node.url, ann.token, 'revolving door');
    const joins = await Promise.all(Array.from({ length: 10 }, () => as(bob, 'POST', `/rooms/${id}/join`)));
    for (const { status, body } of joins) expect([status, body]).toEqual([200, { success: true }]);
    for (let n = 0; n < 2; n++) expect((await as(bob, 'POST', `/rooms/${id}/leave`)).body).toEqual({ success: true });
    expect((await as(bob, 'POST', `/rooms/${id}/join`, {})).status).toBe(200);
    const event = { actor_id: bob.id, user_id: bob.id, username: 'bob' };
    expect(await eventsOf(id)).toEqual([
      { seq: 1, kind: 'joined', ...event },
      { seq: 2, kind: 'left', ...event },
      { seq: 3, kind: 'joined', ...event },
    ]);
    expect((await as(bob, 'GET', `/rooms/${id}`)).body).toMatchObject({ last_seq: 3 });
  });

  it('of a room that does not exist answer so', async () => {
    for (const what of ['join', 'leave']) {
      expect((await as(bob, 'POST', `/rooms/${uuidv7()}/${what}`)).body).toMatchObject({ status: 404, code: 'room_not_found' });
    }
    expect((await as(bob, 'GET', `/rooms/${uuidv7()}`)).status).toBe(404);
  });

  it('need an id that is a UUID', async () => {
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/join'],
      ['POST', '/leave'],
      ['GET', '/members'],
      ['GET', '/messages'],
    ] as const) {
      const answer = await as(ann, method, `/rooms/lobby${path}`);
      expect([path, answer.status, answer.body]).toMatchObject([path, 400, { errors: [{ field: 'id', message: 'must be a UUID' }] }]);
    }
  });
});

describe('the members of a room', () => {
  it('are told to members alone, in pages', async () => {
    const id = await createRoom(node.url, ann.token, 'guest book');
    expect((await as(bob, 'GET', `/rooms/${id}/members`)).body).toMatchObject({ status: 404, code: 'room_not_found' });
    await as(bob, 'POST', `/rooms/${id}/join`);
    const everybody = (await as(bob, 'GET', `/rooms/${id}/members`)).body as { user_id: string; role: string }[];
    expect(new Map(everybody.map(({ user_id, role }) => [user_id, role]))).toEqual(
      new Map([
        [ann.id, 'owner'],
        [bob.id, 'member'],
      ]),
    );
    const [first, second] = everybody;
    expect((await as(bob, 'GET', `/rooms/${id}/members?limit=1`)).body).toEqual([first]);
    expect((await as(bob, 'GET', `/rooms/${id}/members?limit=1&after=${first?.user_id}`)).body).toEqual([second]);
  });

  it('are removed by the owner and by admins, never by those below', async () => {
    const id = await createRoom(node.url, ann.token, 'bouncer');
    const [carol, dave] = await Promise.all([registerUser(node.url, 'carol'), registerUser(node.url, 'dave')]);
    for (const user of [bob, carol, dave]) await as(user, 'POST', `/rooms/${id}/join`);
    await db.sql.query("UPDATE room_members SET role = 'admin' WHERE bucket = room_bucket($1) AND room_id = $1 AND user_id = ANY ($2)", [
      id,
      [bob.id, carol.id],
    ]);
    const kick = (actor: TestUser, user: TestUser) => as(actor, 'DELETE', `/rooms/${id}/members/${user.id}`);

    expect((await kick(dave, carol)).body).toMatchObject({ status: 403, code: 'forbidden' });
    expect((await kick(bob, ann)).status).toBe(403);
    expect((await kick(bob, carol)).status).toBe(403);
    expect((await kick(ann, ann)).status).toBe(403);
    expect((await kick(bob, dave)).body).toEqual({ success: true });
    expect((await kick(bob, dave)).body).toEqual({ success: true });
    expect((await kick(dave, bob)).body).toMatchObject({ status: 404, code: 'room_not_found' });
    expect((await kick(ann, bob)).status).toBe(200);
    expect((await eventsOf(id)).slice(3)).toEqual([
      { seq: 4, kind: 'kicked', actor_id: bob.id, user_id: dave.id, username: 'dave' },
      { seq: 5, kind: 'kicked', actor_id: ann.id, user_id: bob.id, username: 'bob' },
    ]);
    expect((await as(dave, 'GET', `/rooms/${id}/members`)).status).toBe(404);
  });
});

describe('deleting a room', () => {
  it('is the owner’s, and takes the room from every route at once', async () => {
    const id = await createRoom(node.url, ann.token, 'demolition');
    await as(bob, 'POST', `/rooms/${id}/join`);
    await as(ann, 'POST', `/rooms/${id}/messages`, { content: 'hello' });
    expect(await as(bob, 'DELETE', `/rooms/${id}`)).toMatchObject({ status: 403, body: { code: 'forbidden' } });
    expect((await as(ann, 'DELETE', `/rooms/${id}`)).body).toEqual({ success: true });
    for (const [method, path, body] of [
      ['GET', ''],
      ['PATCH', '', { name: 'back' }],
      ['DELETE', ''],
      ['POST', '/join'],
      ['POST', '/leave'],
      ['GET', '/members'],
      ['DELETE', `/members/${bob.id}`],
      ['PUT', `/bans/${bob.id}`],
      ['GET', '/bans'],
      ['GET', '/messages'],
      ['POST', '/messages', { content: 'still here' }],
    ] as const) {
      const answer = await as(ann, method, `/rooms/${id}${path}`, body);
      expect([method, path, answer.body]).toMatchObject([method, path, { status: 404, code: 'room_not_found' }]);
    }
    for (const query of ['', '?member=me', '?q=demolition']) {
      expect(((await as(ann, 'GET', `/rooms${query}`)).body as { id: string }[]).map((room) => room.id)).not.toContain(id);
    }
    expect((await create({ name: 'Demolition' })).status).toBe(201);
    expect((await eventsOf(id)).at(-1)).toEqual({ seq: 3, kind: 'deleted', actor_id: ann.id, user_id: null, username: null });
  });

  it('frees the name also when the node died before it released it', async () => {
    const id = await createRoom(node.url, ann.token, 'ruin');
    await as(ann, 'DELETE', `/rooms/${id}`);
    await db.sql.query("INSERT INTO room_names VALUES ('ruin', $1, now() - interval '61 s')", [id]);
    expect((await create({ name: 'ruin' })).status).toBe(201);
  });
});
