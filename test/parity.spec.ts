import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { type Answer } from './support/any-call.js';
import { call, registerUser, testPassword, type TestUser } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

/** The rows of the table of docs/coming-from-express.md. */
interface Row {
  what: string;
  here: string;
}
const rows: Row[] = readFileSync(resolve(import.meta.dirname, '../docs/coming-from-express.md'), 'utf8')
  .split('\n')
  .filter((line) => /^\| (?!What |-)/.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .map(([, what = '', , here = '']) => ({ what, here: here.replaceAll('`', '') }));

let db: TestDatabase;
let node: TestNode;
let ann: TestUser;
let bob: TestUser;
let room: string;
/** What was asked for, as the table writes it. */
let asked: string[];
let clients: TestClient[];
let scenes = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});
beforeEach(async () => {
  const n = scenes++;
  [ann, bob] = await Promise.all([registerUser(node.url, `ann${n}`), registerUser(node.url, `bob${n}`)]);
  room = ((await rest(ann, 'POST', '/rooms', { name: `room ${n}` })).body as { id: string }).id;
  asked = [];
  clients = [];
});
afterEach(() => Promise.all(clients.map((client) => client.close())));

const asRoute = (path: string): string =>
  path.replace(/(rooms|ws)\/[^/?]+/, path.startsWith('/ws') ? '$1/:room_id' : '$1/:id').replace(/=.*/, '=');

function rest(user: TestUser | undefined, method: string, path: string, body?: unknown): Promise<Answer> {
  asked?.push(`${method} ${asRoute(path)}`);
  return call(node.url, path, { method, body, ...(user !== undefined && { token: user.token }) });
}

async function socket(user: TestUser, path = '/ws'): Promise<TestClient> {
  asked.push(`GET ${asRoute(path)}`);
  const client = await TestClient.connect(node.url, user.token, undefined, path);
  clients.push(client);
  return client;
}

async function command(client: TestClient, event: string, data: object) {
  asked.push(event);
  return client.command(event, data);
}

async function say(user: TestUser, ...contents: string[]): Promise<void> {
  for (const content of contents) expect((await rest(user, 'POST', `/rooms/${room}/messages`, { content })).status).toBe(201);
}

interface Page {
  messages: { seq: number; content: string; user_id: string; username: string }[];
  next_cursor: number | null;
}
const page = async (user: TestUser, query = ''): Promise<Page> => {
  const { status, body } = await rest(user, 'GET', `/rooms/${room}/messages${query}`);
  expect(status).toBe(200);
  return body as Page;
};
const contentsOf = ({ messages }: Page): string[] => messages.map(({ content }) => content);

const success = { status: 200, body: { success: true } };
const noRoom = { status: 404, body: { code: 'room_not_found' } };
const tokens = { accessToken: expect.any(String), refreshToken: expect.any(String) };
const userOf = ({ id, username, email }: TestUser) => ({ id, username, email, created_at: expect.any(String) });

const proofs: Record<string, () => Promise<void>> = {
  async 'sign up'() {
    const carol = { username: `carol${scenes}`, email: `carol${scenes}@test.local`, password: testPassword };
    const answer = await rest(undefined, 'POST', '/auth/register', carol);
    expect(answer).toMatchObject({ status: 201, body: { user: { username: carol.username, email: carol.email }, tokens } });
    const { accessToken } = (answer.body as { tokens: { accessToken: string } }).tokens;
    expect((await call(node.url, '/rooms', { token: accessToken })).status).toBe(200);
    for (const field of ['username', 'email'] as const) {
      const again = { ...carol, username: 'other', email: 'other@test.local', [field]: carol[field].toUpperCase() };
      const { status, body } = await rest(undefined, 'POST', '/auth/register', again);
      expect([status, body]).toMatchObject([409, { code: 'conflict', errors: [{ field }] }]);
    }
  },
  async 'log in by name'() {
    const logIn = (username: string, password: string) => rest(undefined, 'POST', '/auth/login', { username, password });
    expect(await logIn(ann.username, testPassword)).toMatchObject({ status: 200, body: { user: userOf(ann), tokens } });
    const refused = await logIn(ann.username, 'another password');
    expect(refused).toMatchObject({ status: 401, body: { code: 'unauthenticated', detail: expect.any(String) } });
    expect(refused.headers.get('content-type')).toContain('application/problem+json');
    const { detail } = refused.body as { detail: string };
    expect(await logIn('nobody', testPassword)).toMatchObject({ status: 401, body: { code: 'unauthenticated', detail } });
  },
  async 'log in by email'() {
    const answer = await rest(undefined, 'POST', '/auth/login', { email: ann.email, password: testPassword });
    expect(answer).toMatchObject({ status: 200, body: { user: userOf(ann), tokens } });
  },
  async 'stay logged in'() {
    const { exp, iat } = JSON.parse(Buffer.from(ann.token.split('.')[1] ?? '', 'base64url').toString()) as { exp: number; iat: number };
    expect(exp - iat).toBe(30 * 60);
    const answer = await rest(undefined, 'POST', '/auth/refresh', { refreshToken: ann.refreshToken });
    expect(answer).toMatchObject({ status: 200, body: { user: userOf(ann), tokens } });
    expect((answer.body as { tokens: { refreshToken: string } }).tokens.refreshToken).not.toBe(ann.refreshToken);
  },
  async 'log out'() {
    const client = await socket(ann);
    await client.frame('hello');
    expect(await rest(ann, 'POST', '/auth/logout', {})).toMatchObject(success);
    await eventually(() => client.closed, 'the socket to be closed');
    expect(client.closed?.code).toBe(4501);
    expect((await rest(ann, 'GET', '/rooms')).status).toBe(401);
    expect((await rest(undefined, 'POST', '/auth/refresh', { refreshToken: ann.refreshToken })).status).toBe(401);
  },
  async 'who am I'() {
    expect(await rest(ann, 'GET', '/auth/me')).toMatchObject({ status: 200, body: userOf(ann) });
    expect((await rest(undefined, 'GET', '/auth/me')).status).toBe(401);
  },
  async 'create a room'() {
    const name = `another ${scenes}`;
    const answer = await rest(ann, 'POST', '/rooms', { name, description: 'for us' });
    expect(answer).toMatchObject({ status: 201, body: { name, description: 'for us', created_by: ann.id } });
    room = (answer.body as { id: string }).id;
    await say(ann, 'a member already');
    expect(await rest(bob, 'POST', '/rooms', { name })).toMatchObject({ status: 409, body: { code: 'conflict' } });
  },
  async 'list the rooms'() {
    const second = (await rest(bob, 'POST', '/rooms', { name: `needle ${scenes}` })).body as { id: string };
    const ids = async (query = '') => ((await rest(ann, 'GET', `/rooms${query}`)).body as { id: string }[]).map(({ id }) => id);
    expect((await ids()).slice(0, 2)).toEqual([second.id, room]);
    expect(await ids(`?before=${second.id}&limit=1`)).toEqual([room]);
    expect(await ids(`?q=needle ${scenes}`)).toEqual([second.id]);
    expect(await ids('?member=me')).toEqual([room]);
  },
  async 'one room'() {
    expect(await rest(bob, 'GET', `/rooms/${room}`)).toMatchObject({ status: 200, body: { id: room, created_by: ann.id } });
    expect((await rest(bob, 'GET', '/rooms/7')).status).toBe(400);
    expect(await rest(bob, 'GET', `/rooms/${ann.id}`)).toMatchObject(noRoom);
  },
  async join() {
    for (let n = 0; n < 2; n++) expect(await rest(bob, 'POST', `/rooms/${room}/join`)).toMatchObject(success);
    await say(bob, 'in');
  },
  async leave() {
    await rest(bob, 'POST', `/rooms/${room}/join`);
    for (let n = 0; n < 2; n++) expect(await rest(bob, 'POST', `/rooms/${room}/leave`)).toMatchObject(success);
    expect(await rest(bob, 'POST', `/rooms/${room}/messages`, { content: 'out' })).toMatchObject(noRoom);
  },
  async 'list the members'() {
    expect(await rest(bob, 'GET', `/rooms/${room}/members`)).toMatchObject(noRoom);
    await rest(bob, 'POST', `/rooms/${room}/join`);
    const { body } = await rest(bob, 'GET', `/rooms/${room}/members`);
    expect((body as { username: string }[]).toSorted((a, b) => a.username.localeCompare(b.username))).toMatchObject([
      { user_id: ann.id, username: ann.username, role: 'owner', online: false },
      { user_id: bob.id, username: bob.username, role: 'member', online: false },
    ]);
  },
  async 'send a message'() {
    const message = { content: 'hello', client_msg_id: crypto.randomUUID() };
    const answers = [
      await rest(ann, 'POST', `/rooms/${room}/messages`, message),
      await rest(ann, 'POST', `/rooms/${room}/messages`, message),
      await rest(ann, 'POST', `/rooms/${room}/messages`, { content: 'again' }),
    ];
    const ours = { room_id: room, user_id: ann.id, username: ann.username };
    expect(answers).toMatchObject([1, 1, 2].map((seq) => ({ status: 201, body: { ...ours, seq, id: expect.any(Number) } })));
    expect(answers[1]?.body).toEqual(answers[0]?.body);
  },
  async 'the newest messages'() {
    await say(ann, 'one', 'two');
    expect(await rest(bob, 'GET', `/rooms/${room}/messages`)).toMatchObject(noRoom);
    const newest = await page(ann);
    expect([contentsOf(newest), newest.next_cursor]).toEqual([['two', 'one'], null]);
  },
  async 'older messages'() {
    await say(ann, 'one', 'two', 'three', 'four');
    const first = await page(ann, '?limit=2');
    await say(ann, 'meanwhile');
    const second = await page(ann, `?cursor=${first.next_cursor}&limit=2`);
    expect([contentsOf(first), contentsOf(second), second.next_cursor]).toEqual([['four', 'three'], ['two', 'one'], null]);
    expect((await rest(ann, 'GET', `/rooms/${room}/messages?limit=101`)).status).toBe(400);
  },
  async 'the messages of a user'() {
    await rest(bob, 'POST', `/rooms/${room}/join`);
    await say(ann, 'from ann');
    await say(bob, 'one', 'two', 'three');
    await say(ann, 'from ann again');
    const seen: string[] = [];
    let cursor: number | null = null;
    do {
      const next: Page = await page(ann, `?author=${bob.id}&limit=2${cursor === null ? '' : `&cursor=${cursor}`}`);
      seen.push(...contentsOf(next));
      cursor = next.next_cursor;
    } while (cursor !== null);
    expect(seen).toEqual(['three', 'two', 'one']);
  },
  async 'a socket for a room'() {
    const client = await socket(ann, `/ws/${room}`);
    await client.frame('joined_room', (data) => data['room_id'] === room);
    await say(ann, 'by REST');
    expect((await client.frame('new_message_batch')).data).toMatchObject([{ room_id: room, content: 'by REST' }]);
    const other = (await rest(ann, 'POST', '/rooms', { name: `other ${scenes}` })).body as { id: string };
    expect((await client.command('join_room', { room_id: other.id })).event).toBe('joined_room');
  },
  async 'send by the socket'() {
    const client = await socket(ann, `/ws/${room}`);
    await client.frame('joined_room');
    const ack = await command(client, 'send_message', { room_id: room, content: 'by the socket' });
    expect(ack).toMatchObject({ event: 'message_ack', data: { room_id: room, seq: 1 } });
    expect((await client.frame('new_message_batch')).data).toMatchObject([{ seq: 1, content: 'by the socket', user_id: ann.id }]);
  },
  async 'come back after a cut'() {
    const before = await socket(ann);
    await before.join(room);
    await say(ann, 'seen');
    await before.reaches(room, 1);
    before.cut();
    await say(ann, 'missed');
    const after = await socket(ann);
    await command(after, 'join_room', { room_id: room, last_seen_seq: 1 });
    expect((await after.frame('history')).data).toMatchObject({ messages: [{ seq: 2, content: 'missed' }], next_cursor: 2 });
    await say(ann, 'live');
    await after.reaches(room, 3);
    expect(after.violations).toEqual([]);
  },
};

describe('what a plain Express chat can do', () => {
  it('each row of the table has a proof, and each proof a row', () => {
    expect(rows.map(({ what }) => what)).toEqual(Object.keys(proofs));
  });

  it.each(rows)('$what: $here', async ({ what, here }) => {
    await proofs[what]?.();
    expect(asked).toContain(here);
  });
});
