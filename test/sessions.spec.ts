import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';
import { Sessions } from '../src/auth/sessions.js';
import { Sweeper } from '../src/auth/sweeper.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, roomLog, tokenFor } from './support/people.js';
import { startProxy } from './support/proxy.js';
import { type Answer } from './support/any-call.js';
import { call, registerUser, testPassword as password, type TestUser } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let one: TestNode;
let two: TestNode;
let names = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([
    startNode(db.url, { TRUSTED_PROXIES: '127.0.0.0/8' }),
    startNode(db.url, { ALLOWED_ORIGINS: 'https://chat.example.org,http://localhost:5173' }),
  ]);
});
afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  await db.drop();
});

const register = () => registerUser(one.url, `person${++names}`);
const post = (path: string, body: object, token?: string, node = one): Promise<Answer> =>
  call(node.url, path, { body, ...(token !== undefined && { token }) });
const tokensOf = ({ body }: Answer) => (body as { tokens: { accessToken: string; refreshToken: string } }).tokens;
const logInAgain = async ({ username }: TestUser) => tokensOf(await post('/auth/login', { username, password }));
const sessionOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sid: string }).sid;
const isRefused = async (refreshToken: string) => (await post('/auth/refresh', { refreshToken }, undefined, two)).status === 401;

async function expectClosed(clients: readonly TestClient[], withinMs = 2_000): Promise<void> {
  await eventually(() => clients.every(({ closed }) => closed !== undefined), 'the sockets to be closed', withinMs);
  for (const { closed } of clients) expect(closed).toEqual({ code: 4501, reason: 'The session was ended: log in again.' });
}

/** A socket is let in by none of the ways, on no node, though the token itself is good. */
async function expectNoWayIn(token: string): Promise<void> {
  const late = [one, two].flatMap(({ url }) => {
    const [room, address] = [randomUUID(), url.replace('http', 'ws')];
    const join = JSON.stringify({ event: 'join_room', id: 1, data: { room_id: room } });
    const byHeader = new WebSocket(`${address}/ws`, { headers: { authorization: `Bearer ${token}` } });
    const byCookie = new WebSocket(`${address}/ws`, {
      headers: { cookie: `trunkline_access=${token}`, origin: url === two.url ? 'http://localhost:5173' : url },
    });
    const byAddress = new WebSocket(`${address}/ws/${room}?token=${token}`);
    const byFrame = new WebSocket(`${address}/ws`);
    byFrame.once('open', () => byFrame.send(JSON.stringify({ event: 'auth', id: 0, data: { token } })));
    for (const socket of [byHeader, byAddress, byFrame]) socket.once('open', () => socket.send(join));
    return [byHeader, byCookie, byAddress, byFrame];
  });
  const ends = await Promise.all(
    late.map(
      (socket) =>
        new Promise((ended) => {
          const heard: string[] = [];
          socket.on('message', (data) => heard.push((data as Buffer).toString()));
          socket.on('close', (code) => ended({ code, heard }));
        }),
    ),
  );
  expect(ends).toEqual(late.map(() => ({ code: 4501, heard: [] })));
}

async function expectOpen(clients: readonly TestClient[]): Promise<void> {
  for (const client of clients) expect((await client.command('ping', {})).event).toBe('pong');
}

describe('a session that ends loses its sockets on every node within 2 s, and its refresh token', () => {
  interface Case {
    user: TestUser;
    other: { accessToken: string; refreshToken: string };
  }
  const id = ({ other }: Case) => sessionOf(other.accessToken);
  const sql = (text: string) => (ended: Case) => db.sql.query(text, [id(ended)]);
  const cases: [how: string, end: (ended: Case) => Promise<unknown>][] = [
    ['by its own logout', ({ other }) => post('/auth/logout', {}, other.accessToken)],
    ['by a logout that names it', (ended) => post('/auth/logout', { sessionId: id(ended) }, ended.user.token)],
    ['in the list of sessions', (ended) => call(one.url, `/auth/sessions/${id(ended)}`, { method: 'DELETE', token: ended.user.token })],
    [
      'by a change of the password',
      ({ user }) => post('/auth/password', { current_password: password, new_password: 'new password' }, user.token),
    ],
    [
      'by the second use of a refresh token',
      async ({ other }) => {
        const first = tokensOf(await post('/auth/refresh', { refreshToken: other.refreshToken }));
        await post('/auth/refresh', { refreshToken: first.refreshToken });
        await post('/auth/refresh', { refreshToken: other.refreshToken }, undefined, two);
      },
    ],
    ['by its age', sql('UPDATE sessions SET expires_at = now() WHERE id = $1')],
    ['by hand', sql('DELETE FROM sessions WHERE id = $1')],
  ];
  it.each(cases)('%s; the other sessions go on', async (_how, end) => {
    const user = await register();
    const other = await logInAgain(user);
    const gone = await Promise.all([one, two].map(({ url }) => TestClient.connect(url, other.accessToken)));
    const kept = await Promise.all([one, two].map(({ url }) => TestClient.connect(url, user.token)));
    await end({ user, other });
    await expectNoWayIn(other.accessToken);
    await expectClosed(gone);
    await expectOpen(kept);
    expect(await isRefused(other.refreshToken)).toBe(true);
    expect((await call(two.url, '/auth/me', { token: other.accessToken })).status).toBe(401);
    expect((await call(two.url, '/auth/me', { token: user.token })).status).toBe(200);
    await Promise.all(kept.map((client) => client.close()));
  });

  it('all at once, by a logout that says so', async () => {
    const user = await register();
    const other = await logInAgain(user);
    const gone = await Promise.all(
      [user.token, other.accessToken].flatMap((token) => [one, two].map(({ url }) => TestClient.connect(url, token))),
    );
    expect((await post('/auth/logout', { all: true }, user.token)).body).toEqual({ success: true });
    await expectClosed(gone);
    for (const token of [user.refreshToken, other.refreshToken]) expect(await isRefused(token)).toBe(true);
  });

  it('also while the bus is down', async () => {
    const proxy = await startProxy(db.url);
    const deaf = await startNode(db.url, { DATABASE_LISTEN_URL: proxy.through(db.url) });
    const user = await register();
    const other = await logInAgain(user);
    const [gone, kept] = [await TestClient.connect(deaf.url, other.accessToken), await TestClient.connect(deaf.url, user.token)];
    const readyIs = (status: number) =>
      eventually(async () => (await call(deaf.url, '/health/ready')).status === status, `ready: ${status}`);
    await readyIs(200);
    proxy.swallow();
    await readyIs(503);
    await post('/auth/logout', {}, other.accessToken);
    await expectClosed([gone]);
    await expectOpen([kept]);
    await kept.close();
    await deaf.close();
    await proxy.close();
  });

  it('also while every connection of REST waits for the lock of a room', async () => {
    const busy = await startNode(db.url, { DATABASE_POOL_SIZE: '2' });
    const user = await register();
    const other = await logInAgain(user);
    const gone = await TestClient.connect(busy.url, other.accessToken);
    const room = await createRoom(db.sql, [await createPerson(db.sql)]);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const joins = Array.from({ length: 8 }, () => call(busy.url, `/rooms/${room}/join`, { method: 'POST', token: user.token }));
    const waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    await eventually(async () => (await db.sql.query(waiting)).rowCount === 2, 'both connections to wait');
    await post('/auth/logout', {}, other.accessToken);
    await expectClosed([gone]);
    await holder.query('ROLLBACK');
    holder.release();
    await Promise.all(joins);
    await busy.close();
  });

  it('reads and stores nothing by reconnecting again and again', async () => {
    const user = await register();
    const other = await logInAgain(user);
    const room = await createRoom(db.sql, [{ id: user.id, name: user.username, sessionId: '', token: user.token }]);
    const writer = await TestClient.connect(one.url, user.token);
    await writer.send(room, 'a secret');
    await post('/auth/logout', {}, other.accessToken);
    const until = performance.now() + 2_500;
    for (let n = 0; performance.now() < until; n++) {
      const client = await TestClient.connect(n % 2 === 0 ? one.url : two.url);
      await Promise.allSettled([
        client.command('auth', { token: other.accessToken }),
        client.command('join_room', { room_id: room, last_seen_seq: 0 }),
        client.send(room, 'still here'),
        client.command('refresh_token', { token: other.accessToken }),
      ]);
      await expectClosed([client]);
      expect(client.frames).toEqual([]);
    }
    expect((await roomLog(db.sql, room)).contents).toEqual(['a secret']);
    await writer.close();
  });

  it('goes with its user', async () => {
    const user = await register();
    const gone = await Promise.all([one, two].map(({ url }) => TestClient.connect(url, user.token)));
    await Promise.all(gone.map((client) => client.frame('hello')));
    await db.sql.query('DELETE FROM users WHERE id = $1', [user.id]);
    await expectNoWayIn(user.token);
    await expectClosed(gone);
    expect(await isRefused(user.refreshToken)).toBe(true);
  });

  it('and a token of a session that never was, or is another user’s, opens none', async () => {
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    await Promise.all([
      expectNoWayIn(tokenFor({ id: randomUUID(), name: 'nobody', sessionId: randomUUID() }, 600)),
      expectNoWayIn(tokenFor({ ...ann, sessionId: randomUUID() }, 600)),
      expectNoWayIn(tokenFor({ ...ann, sessionId: bob.sessionId }, 600)),
    ]);
  });

  it('is not taken up by refresh_token, which a live session of the same user is', async () => {
    const user = await register();
    const [other, third] = [await logInAgain(user), await logInAgain(user)];
    const [goesOn, ends] = [await TestClient.connect(one.url, user.token), await TestClient.connect(two.url, user.token)];
    expect((await goesOn.command('refresh_token', { token: third.accessToken })).event).toBe('token_refreshed');
    await post('/auth/logout', {}, other.accessToken);
    await expect(ends.command('refresh_token', { token: other.accessToken })).rejects.toThrow('closed with 4501');
    await post('/auth/logout', {}, user.token);
    const judged = await TestClient.connect(one.url, third.accessToken);
    await judged.frame('hello');
    await expectNoWayIn(user.token);
    await expectOpen([goesOn, judged]);
    await post('/auth/logout', {}, third.accessToken);
    await expectClosed([goesOn, judged]);
  });

  it('changes no password, though its request came before the end', async () => {
    const user = await register();
    const other = await logInAgain(user);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM users WHERE id = $1 FOR UPDATE', [user.id]);
    const change = post('/auth/password', { current_password: password, new_password: 'a thief’s password' }, other.accessToken);
    const waiting =
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ 'UPDATE users'";
    await eventually(async () => (await db.sql.query(waiting)).rowCount === 1, 'the change to wait');
    await db.sql.query('UPDATE sessions SET ended_at = now() WHERE id = $1', [sessionOf(other.accessToken)]);
    await holder.query('ROLLBACK');
    holder.release();
    expect(await change).toMatchObject({ status: 401, body: { code: 'unauthenticated' } });
    expect((await post('/auth/login', { username: user.username, password })).status).toBe(200);
    expect((await call(one.url, '/auth/me', { token: user.token })).status).toBe(200);
  });
});

describe('a node that gets no answer about sessions', () => {
  /** Swallows the answers on the connections that ask about sessions; the others go on. */
  async function startBlindableNode() {
    const proxy = await startProxy(db.url);
    const watching = new WeakSet<object>();
    let isBlind = false;
    proxy.onClientData = (chunk, link) => void (chunk.includes('trunkline watch') && watching.add(link));
    proxy.onServerData = (chunk, link) => (isBlind && watching.has(link) ? Buffer.alloc(0) : chunk);
    const node = await startNode(proxy.through(db.url));
    return {
      url: node.url,
      blind: (yes: boolean) => (isBlind = yes),
      async close() {
        await node.close();
        await proxy.close();
      },
    };
  }

  it('accepts nothing of a session later than 2 s after its end; what it can’t judge waits, and is refused after 10 s', async () => {
    const node = await startBlindableNode();
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    const room = await createRoom(db.sql, [ann, bob]);
    const [anns, bobs] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, bob.token)];
    await Promise.all([anns.join(room), bobs.join(room)]);
    node.blind(true);
    await db.sql.query('UPDATE sessions SET ended_at = clock_timestamp() WHERE id = $1', [ann.sessionId]);
    const refused: unknown[] = [];
    let sentAt = performance.now();
    const sends = async () => {
      for (let n = 0; refused.length === 0; n++) {
        sentAt = performance.now();
        await anns.send(room, `${n}`).catch((error: unknown) => refused.push(error));
      }
    };
    const sending = sends();
    await eventually(() => performance.now() - sentAt > 500, 'a send to wait');
    const waiting = bobs.send(room, 'while it is not known');
    const late = await TestClient.connect(node.url, bob.token);
    await expectOpen([bobs]); // which is asked of no session
    await expect(waiting).rejects.toThrow('unavailable');
    await sending;
    expect(refused).toEqual([new Error('unavailable')]);
    expect(late.frames).toEqual([]);
    node.blind(false);
    await expectClosed([anns], 5_000);
    await late.frame('hello');
    await bobs.send(room, 'when it is known');
    const { rows } = await db.sql.query<{ late: boolean }>(
      `SELECT DISTINCT messages.created_at > ended_at + interval '2.5 seconds' AS late FROM messages JOIN sessions USING (user_id) WHERE sessions.id = $1`,
      [ann.sessionId],
    );
    expect(rows).toEqual([{ late: false }]);
    expect((await roomLog(db.sql, room)).contents).toContain('when it is known');
    await Promise.all([bobs.close(), late.close()]);
    await node.close();
  }, 60_000);

  it('stores what waited as soon as it has one', async () => {
    const node = await startBlindableNode();
    const ann = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann]);
    const client = await TestClient.connect(node.url, ann.token);
    await client.join(room);
    node.blind(true);
    let sentAt = performance.now();
    let sent = 0;
    const sending = (async () => {
      for (; sent === 0 || performance.now() - sentAt < 400; sent++) {
        sentAt = performance.now();
        await client.send(room, `${sent}`);
      }
    })();
    await eventually(() => performance.now() - sentAt > 500, 'a send to wait');
    node.blind(false);
    await sending;
    expect((await roomLog(db.sql, room)).contents).toEqual(Array.from({ length: sent }, (_, n) => `${n}`));
    expect(client.violations).toEqual([]);
    await client.close();
    await node.close();
  }, 60_000);

  it('greets nobody while PostgreSQL is away, closes nobody for that, and greets whose session lives when it is back', async () => {
    const proxy = await startProxy(db.url);
    const node = await startNode(proxy.through(db.url));
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    proxy.swallow();
    const openedAt = performance.now();
    const [anns, bobs] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url)];
    const hello = bobs.command('auth', { token: bob.token });
    await db.sql.query('UPDATE sessions SET ended_at = now() WHERE id = $1', [ann.sessionId]);
    await eventually(() => performance.now() - openedAt > 6_500, 'the time to authenticate to pass');
    await expectOpen([anns, bobs]);
    expect([...anns.frames, ...bobs.frames].map(({ event }) => event)).toEqual(['pong', 'pong']);
    proxy.heal();
    proxy.cut();
    await eventually(() => anns.closed !== undefined && bobs.frames.length > 1, 'both to be judged', 2_000);
    expect(anns.closed?.code).toBe(4501);
    expect((await hello).data).toMatchObject({ user_id: bob.id });
    await bobs.close();
    await node.close();
    await proxy.close();
  }, 60_000);
});

it('sockets that come at once have their sessions looked up together', async () => {
  const proxy = await startProxy(db.url);
  const node = await startNode(proxy.through(db.url));
  const ann = await createPerson(db.sql);
  let asked = 0;
  proxy.onClientData = (chunk) => void (asked += chunk.toString('latin1').split('\0are-sessions-live\0').length - 1);
  const start = performance.now();
  const clients = await Promise.all(Array.from({ length: 300 }, () => TestClient.connect(node.url, ann.token)));
  await Promise.all(clients.map((client) => client.frame('hello')));
  expect(asked).toBeGreaterThan(0);
  expect(asked).toBeLessThan(2 + (performance.now() - start) / 20);
  await Promise.all(clients.map((client) => client.close()));
  await node.close();
  await proxy.close();
});

it('while PostgreSQL is away nobody is logged out; when it is back, who was ended meanwhile is', async () => {
  const proxy = await startProxy(db.url);
  const node = await startNode(proxy.through(db.url));
  const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
  const [anns, bobs] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, bob.token)];
  const readyIs = (status: number) => eventually(async () => (await call(node.url, '/health/ready')).status === status, `ready: ${status}`);
  await readyIs(200);
  proxy.swallow();
  await db.sql.query('UPDATE sessions SET ended_at = now() WHERE id = $1', [ann.sessionId]);
  await readyIs(503); // after more than three seconds without an answer
  await expectOpen([anns, bobs]);
  proxy.heal();
  proxy.cut();
  await readyIs(200);
  await expectClosed([anns]);
  await expectOpen([bobs]);
  await bobs.close();
  await node.close();
  await proxy.close();
}, 60_000);

it('to know which sessions are over costs one statement a second, however many sockets there are', async () => {
  const proxy = await startProxy(db.url);
  const node = await startNode(proxy.through(db.url));
  const ann = await createPerson(db.sql);
  const people = [ann, ...(await Promise.all(Array.from({ length: 9 }, () => createPerson(db.sql))))];
  const clients = await Promise.all(
    Array.from({ length: 100 }, (_, n) => TestClient.connect(node.url, tokenFor(people[n % people.length] ?? ann, 600))),
  );
  let asked = 0;
  proxy.onClientData = (chunk) => void (asked += chunk.toString('latin1').split('\0find-over\0').length - 1);
  const start = performance.now();
  await eventually(() => asked >= 4, 'four checks');
  expect(performance.now() - start).toBeGreaterThan(2_500);
  await Promise.all(clients.map((client) => client.close()));
  await node.close();
  await proxy.close();
});

describe('a refresh token that is used on several nodes at the same moment', () => {
  it('is exchanged once: fifty answers have the same successor, which is good', async () => {
    const user = await register();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => post('/auth/refresh', { refreshToken: user.refreshToken }, undefined, n % 2 === 0 ? one : two)),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array<number>(50).fill(200));
    const successors = new Set(answers.map((answer) => tokensOf(answer).refreshToken));
    expect(successors.size).toBe(1);
    const [successor = ''] = successors;
    const last = await post('/auth/refresh', { refreshToken: successor }, undefined, two);
    expect(last.status).toBe(200);
    for (const table of ['users', 'sessions']) {
      const stored = JSON.stringify((await db.sql.query(`SELECT * FROM ${table}`)).rows);
      for (const token of [user.refreshToken, successor, tokensOf(last).refreshToken]) expect(stored).not.toContain(token);
    }
  });
});

describe('the list of sessions', () => {
  const lastUse = async (sessionId: string) =>
    (await db.sql.query<{ at: Date }>('SELECT last_used_at AS at FROM sessions WHERE id = $1', [sessionId])).rows[0]?.at.getTime() ?? 0;

  it('says when a session was last used, at the price of one statement a minute', async () => {
    const [ann, bob] = [await createPerson(db.sql), await createPerson(db.sql)];
    await db.sql.query("UPDATE sessions SET last_used_at = now() - interval '1 hour' WHERE id IN ($1, $2)", [ann.sessionId, bob.sessionId]);
    const before = await lastUse(ann.sessionId);
    for (let n = 0; n < 5; n++) await call(one.url, '/auth/me', { token: ann.token });
    await (await TestClient.connect(one.url, bob.token)).close();
    expect(await lastUse(ann.sessionId)).toBe(before);

    await one.app.get(Sessions).writeUses();
    const noted = await lastUse(ann.sessionId);
    expect(noted).toBeGreaterThan(before + 3_500_000);
    expect(await lastUse(bob.sessionId)).toBe(noted); // one statement
    await call(one.url, '/auth/me', { token: ann.token });
    await one.app.get(Sessions).writeUses();
    expect(await lastUse(ann.sessionId)).toBe(noted); // within the minute
  });

  it('names the address that a trusted proxy saw, whatever the client claims, and of others their own', async () => {
    const user = await register();
    const addressAfter = async (node: TestNode, headers: Record<string, string>) => {
      const { accessToken } = tokensOf(await call(node.url, '/auth/login', { body: { username: user.username, password }, headers }));
      const { body } = await call(node.url, '/auth/sessions', { token: accessToken });
      return (body as { address: string; current: boolean }[]).find(({ current }) => current)?.address;
    };
    expect(await addressAfter(one, { 'x-forwarded-for': '203.0.113.7' })).toBe('203.0.113.7');
    expect(await addressAfter(one, { 'x-forwarded-for': '198.51.100.1, 203.0.113.7' })).toBe('203.0.113.7');
    expect(await addressAfter(one, { 'x-forwarded-for': '2001:db8::7, 127.0.0.9' })).toBe('2001:db8::7');
    expect(await addressAfter(one, { 'x-forwarded-for': 'nonsense' })).toBe('127.0.0.1');
    expect(await addressAfter(two, { 'x-forwarded-for': '203.0.113.7' })).toBe('127.0.0.1');
  });
});

describe('cookies', () => {
  const logIn = async (headers: Record<string, string> = {}, node = one) => {
    const { username } = await register();
    const { headers: answered } = await call(node.url, '/auth/login', { body: { username, password }, headers });
    return answered.getSetCookie();
  };
  const sent = (cookies: readonly string[]) => cookies.map((cookie) => cookie.slice(0, cookie.indexOf(';'))).join('; ');

  /** What the handshake came to: the user who is greeted, `nobody`, or the status and code of the refusal. */
  function handshake(node: TestNode, headers: Record<string, string>, query = ''): Promise<string> {
    const socket = new WebSocket(`${node.url.replace('http', 'ws')}/ws${query}`, { headers });
    return new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.once('unexpected-response', (_, response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => (body += text));
        response.on('end', () => resolve(`${response.statusCode} ${(JSON.parse(body) as { code: string }).code}`));
      });
      socket.once('open', () => socket.send('{"event":"ping"}')); // answered after a hello
      socket.once('message', (data) => {
        socket.close();
        resolve((JSON.parse((data as Buffer).toString()) as { data: { user_id?: string } }).data.user_id ?? 'nobody');
      });
    });
  }

  it('are secure when the trusted proxy says that it speaks TLS, and only then', async () => {
    for (const cookie of await logIn({ 'x-forwarded-proto': 'https' })) expect(cookie).toMatch(/; HttpOnly; Secure; SameSite=Lax$/);
    for (const cookie of await logIn({ 'x-forwarded-proto': 'http' })) expect(cookie).not.toContain('Secure');
    for (const cookie of await logIn({ 'x-forwarded-proto': 'https' }, two)) expect(cookie).not.toContain('Secure');
  });

  it('open a socket from a page of an allowed origin, and from no other', async () => {
    const cookie = sent(await logIn());
    const { id } = (await call(one.url, '/auth/me', { headers: { cookie } })).body as { id: string };
    const own = (node: TestNode) => `http://${new URL(node.url).host}`;
    expect(await handshake(one, { cookie, origin: own(one) })).toBe(id);
    expect(await handshake(two, { cookie, origin: 'https://chat.example.org' })).toBe(id);
    expect(await handshake(two, { cookie, origin: 'http://localhost:5173' })).toBe(id);
    for (const origin of ['https://evil.example', 'null', own(two), 'https://chat.example.org', `${own(one)}.evil.example`])
      expect([origin, await handshake(one, { cookie, origin })]).toEqual([origin, 'nobody']);
    for (const origin of ['https://evil.example', own(two), 'http://chat.example.org', 'https://chat.example.org:8443'])
      expect([origin, await handshake(two, { cookie, origin })]).toEqual([origin, 'nobody']);
    expect(await handshake(one, { cookie })).toBe('nobody');
    expect(await handshake(one, { cookie: 'trunkline_access=nonsense', origin: own(one) })).toBe('nobody');
  });

  it('come after the Authorization header and the address', async () => {
    const cookie = sent(await logIn());
    const { id } = (await call(one.url, '/auth/me', { headers: { cookie } })).body as { id: string };
    const [bearer, inAddress] = [await createPerson(db.sql), await createPerson(db.sql)];
    const query = `?token=${inAddress.token}`;
    const origin = `http://${new URL(one.url).host}`;
    expect(await handshake(one, { cookie, origin, authorization: `Bearer ${bearer.token}` }, query)).toBe(bearer.id);
    expect(await handshake(one, { cookie, origin }, query)).toBe(inAddress.id);
    expect(await handshake(one, { cookie, origin })).toBe(id);
    expect(await handshake(one, { cookie, origin: 'https://evil.example' }, query)).toBe(inAddress.id);
    expect(await handshake(one, { cookie, origin: 'https://evil.example', authorization: `Bearer ${bearer.token}` })).toBe(bearer.id);
  });

  it('change something by REST from a page of an allowed origin, and from no other', async () => {
    const cookie = sent(await logIn());
    const create = async (node: TestNode, origin: string) =>
      (await call(node.url, '/rooms', { body: { name: `room ${++names}` }, headers: { cookie, origin } })).status;
    expect(await create(two, 'https://chat.example.org')).toBe(201);
    expect(await create(two, two.url)).toBe(403);
    expect(await create(one, one.url)).toBe(201);
    expect(await create(one, 'https://chat.example.org')).toBe(403);
    const refresh = async (origin: string) =>
      (await call(two.url, '/auth/refresh', { method: 'POST', headers: { cookie, origin } })).status;
    expect([await refresh(two.url), await refresh('https://chat.example.org')]).toEqual([403, 200]);
  });

  it('are taken back by a logout', async () => {
    const cookie = sent(await logIn());
    const out = await call(one.url, '/auth/logout', { method: 'POST', headers: { cookie, origin: one.url } });
    expect(out.headers.getSetCookie().map((text) => /^(\w+)=;.*Expires=Thu, 01 Jan 1970/i.exec(text)?.[1])).toEqual([
      'trunkline_access',
      'trunkline_refresh',
    ]);
    expect((await call(one.url, '/auth/me', { headers: { cookie } })).status).toBe(401);
  });
});

it('what has been over for a day, or unused for 90, is swept, by two nodes at once, and nothing else', async () => {
  const ann = await createPerson(db.sql);
  const room = await createRoom(db.sql, [ann]);
  const insert = (count: number, endedAt: string, expiresAt: string, of = ann.id) =>
    db.sql.query(
      `INSERT INTO sessions (id, user_id, refresh_token_hash, ended_at, expires_at)
        SELECT gen_random_uuid(), $1, '', ${endedAt}, ${expiresAt} FROM generate_series(1, ${count})`,
      [of],
    );
  const old = "now() - interval '25 hours'";
  const recent = "now() - interval '23 hours'";
  const later = "now() + interval '1 day'";
  await insert(700, old, later);
  await insert(800, 'NULL', old);
  await insert(3, recent, later);
  await insert(4, 'NULL', recent);
  await db.sql.query(
    `INSERT INTO rate_limits (key, points, expire)
      SELECT 'test' || n, 1, extract(epoch FROM now()) * 1000 + CASE WHEN n <= 600 THEN -1000 ELSE 60000 END FROM generate_series(1, 605) AS n`,
  );
  await db.sql.query(
    `INSERT INTO known_networks (user_id, network, last_login_at)
      SELECT $1, decode(lpad(n::text, 4, '0'), 'hex'), now() - CASE WHEN n <= 600 THEN interval '91 days' ELSE interval '89 days' END
      FROM generate_series(1, 607) AS n`,
    [ann.id],
  );
  await Promise.all([one, two].map(({ app }) => app.get(Sweeper).sweep()));
  const left = await db.sql.query('SELECT count(*)::int AS sessions FROM sessions WHERE user_id = $1', [ann.id]);
  expect(left.rows).toEqual([{ sessions: 1 + 3 + 4 }]);
  expect((await db.sql.query("SELECT count(*)::int AS counts FROM rate_limits WHERE key LIKE 'test%'")).rows).toEqual([{ counts: 5 }]);
  expect((await db.sql.query('SELECT FROM known_networks WHERE user_id = $1', [ann.id])).rowCount).toBe(7);
  const client = await TestClient.connect(two.url, ann.token);
  expect((await client.join(room)).event).toBe('joined_room');
  await client.close();
});
