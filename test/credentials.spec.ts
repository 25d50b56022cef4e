/**
 * What a client says itself wins over what its browser adds, on every way in and out. In most of it, a page that is Ann's speaks from a browser with
 * the cookies of Bob.
 */
import { randomUUID } from 'node:crypto';
import type { Answer, Call } from './support/any-call.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { createPerson, createRoom, signedToken, tokenFor, type Person } from './support/people.js';
import { frame, handshake, opcodes, RawSocket } from './support/raw-socket.js';
import { call, registerUser, testPassword as password, type TestUser } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

let db: TestDatabase;
let node: TestNode;
let names = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

interface Login extends TestUser {
  sessionId: string;
  /** As its browser sends them. */
  cookie: string;
}

const tokensOf = ({ body }: Answer) => (body as { tokens: { accessToken: string; refreshToken: string } }).tokens;
const sessionOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sid: string }).sid;
const cookiesOf = (access: string, refresh: string) => `trunkline_access=${access}; trunkline_refresh=${refresh}`;

function loginOf(user: TestUser, { accessToken, refreshToken }: { accessToken: string; refreshToken: string }): Login {
  return { ...user, token: accessToken, refreshToken, sessionId: sessionOf(accessToken), cookie: cookiesOf(accessToken, refreshToken) };
}

async function register(): Promise<Login> {
  const user = await registerUser(node.url, `person${++names}`);
  return loginOf(user, { accessToken: user.token, refreshToken: user.refreshToken });
}

async function logInAgain(user: Login): Promise<Login> {
  return loginOf(user, tokensOf(await call(node.url, '/auth/login', { body: { username: user.username, password } })));
}

/** From a page of the node's own host, in a browser with these cookies. */
const from = (cookie: string, path: string, { headers, ...request }: Call = {}): Promise<Answer> =>
  call(node.url, path, { method: 'POST', ...request, headers: { cookie, origin: node.url, ...headers } });
const me = async (token: string) => (await call(node.url, '/auth/me', { token })).status;

/** What an answer does to the cookies of the browser. */
function effectOn({ headers }: Answer): string {
  const set = headers.getSetCookie();
  if (set.length === 0) return 'stay';
  expect(set.map((cookie) => cookie.split('=')[0])).toEqual(['trunkline_access', 'trunkline_refresh']);
  return set.every((cookie) => /=;.*Expires=Thu, 01 Jan 1970/i.test(cookie)) ? 'cleared' : 'set';
}

describe('REST', () => {
  it('takes the token of the header, and of the cookie where there is no header', async () => {
    const [ann, bob] = [await register(), await register()];
    const whoIs = async (request: Call) => (await from(bob.cookie, '/auth/me', { method: 'GET', ...request })).body;
    expect(await whoIs({ token: ann.token })).toMatchObject({ id: ann.id });
    expect(await whoIs({})).toMatchObject({ id: bob.id });
    const stale = cookiesOf(signedToken({ id: bob.id, name: 'bob', sessionId: bob.sessionId }, { exp: 1 }), 'nonsense');
    const answer = await from(stale, '/auth/me', { method: 'GET', token: ann.token });
    expect(answer.body).toMatchObject({ id: ann.id });
  });

  it('refuses a bad header, whatever the cookie is', async () => {
    const [ann, bob] = [await register(), await register()];
    await call(node.url, '/auth/logout', { method: 'POST', token: ann.token });
    const expired = signedToken({ id: bob.id, name: 'bob', sessionId: bob.sessionId }, { exp: 1 });
    for (const authorization of ['Bearer nonsense', 'Bearer', '', 'Basic YTpi', `Bearer ${ann.token}`, `Bearer ${expired}`]) {
      const { status } = await from(bob.cookie, '/auth/me', { method: 'GET', headers: { authorization } });
      expect([authorization, status]).toEqual([authorization, 401]);
    }
  });

  it('sets cookies at a login and a registration, whose they were before', async () => {
    const [ann, bob] = [await register(), await register()];
    expect(effectOn(await from(bob.cookie, '/auth/login', { body: { username: ann.username, password } }))).toBe('set');
    const username = `person${++names}`;
    expect(effectOn(await from(bob.cookie, '/auth/register', { body: { username, email: `${username}@test.local`, password } }))).toBe(
      'set',
    );
  });

  describe('a refresh', () => {
    it('by the body leaves cookies of another session, and none where there are none', async () => {
      const [ann, bob] = [await register(), await register()];
      const anns = await logInAgain(ann);
      for (const cookie of [bob.cookie, anns.cookie, cookiesOf('nonsense', 'nonsense'), '']) {
        const answer = await from(cookie, '/auth/refresh', { body: { refreshToken: ann.refreshToken } });
        expect([answer.status, effectOn(answer)]).toEqual([200, 'stay']);
      }
      expect((await from(bob.cookie, '/auth/refresh')).body).toMatchObject({ user: { id: bob.id } });
    });

    it('by the body replaces cookies of the same session, which would be spent', async () => {
      const ann = await register();
      for (const cookie of [
        ann.cookie,
        `trunkline_refresh=${ann.refreshToken}`,
        `trunkline_access=${signedToken({ id: ann.id, name: 'ann', sessionId: ann.sessionId }, { exp: 1 })}`,
      ]) {
        const answer = await from(cookie, '/auth/refresh', { body: { refreshToken: ann.refreshToken } });
        expect([answer.status, effectOn(answer)]).toEqual([200, 'set']);
      }
    });

    it('by the cookie replaces the cookies', async () => {
      const bob = await register();
      const answer = await from(bob.cookie, '/auth/refresh');
      expect([answer.status, effectOn(answer)]).toEqual([200, 'set']);
      expect(answer.headers.getSetCookie().join()).toContain(tokensOf(answer).refreshToken);
    });

    it('by a bad token in the body is refused, whatever the cookie is, and spends nothing', async () => {
      const [ann, bob] = [await register(), await register()];
      await call(node.url, '/auth/logout', { method: 'POST', token: ann.token });
      for (const refreshToken of ['nonsense', ann.refreshToken]) {
        const answer = await from(bob.cookie, '/auth/refresh', { body: { refreshToken } });
        expect([answer.status, effectOn(answer)]).toEqual([401, 'stay']);
      }
      expect((await call(node.url, '/auth/refresh', { body: { refreshToken: bob.refreshToken } })).status).toBe(200);
    });

    it('takes no cookie of another session than that of the Authorization header', async () => {
      const [ann, bob] = [await register(), await register()];
      const anns = await logInAgain(ann);
      for (const authorization of [`Bearer ${ann.token}`, 'Bearer nonsense', 'Basic YTpi']) {
        for (const { cookie } of [bob, anns]) {
          const answer = await from(cookie, '/auth/refresh', { headers: { authorization } });
          expect([answer.status, effectOn(answer)]).toEqual([401, 'stay']);
        }
      }
      const expired = signedToken({ id: bob.id, name: 'bob', sessionId: bob.sessionId }, { exp: 1 });
      expect((await from(bob.cookie, '/auth/refresh', { token: expired })).body).toMatchObject({ user: { id: bob.id } });
    });
  });

  describe('what ends sessions clears the cookies of a session that it ended, and no others:', () => {
    interface Case {
      ann: Login;
      /** Ann's other login. */
      anns: Login;
      bob: Login;
    }
    const logout =
      (body: object = {}) =>
      ({ ann }: Case) => ({ path: '/auth/logout', request: { token: ann.token, body } });
    const cases: [name: string, cookies: keyof Case, effect: string, made: (who: Case) => { path: string; request: Call }][] = [
      ['a logout by a header of Ann', 'bob', 'stay', logout()],
      ['a logout by the header of the session that the cookies are of', 'ann', 'cleared', logout()],
      ['a logout by a header of another session of the same user', 'anns', 'stay', logout()],
      ['a logout by the cookie', 'bob', 'cleared', () => ({ path: '/auth/logout', request: {} })],
      ['a logout of all sessions by a header of Ann', 'bob', 'stay', logout({ all: true })],
      ['a logout of all sessions by a header of another session', 'anns', 'cleared', logout({ all: true })],
      ['a logout of all sessions by the cookie', 'bob', 'cleared', () => ({ path: '/auth/logout', request: { body: { all: true } } })],
      [
        'a logout of the session that the cookies are of',
        'anns',
        'cleared',
        ({ ann, anns }) => logout({ sessionId: anns.sessionId })({ ann, anns, bob: ann }),
      ],
      [
        'a logout of somebody else’s session, which ends none',
        'bob',
        'stay',
        ({ ann, bob }) => logout({ sessionId: bob.sessionId })({ ann, anns: ann, bob }),
      ],
      [
        'a logout of another session, by the cookie',
        'ann',
        'stay',
        ({ anns }) => ({ path: '/auth/logout', request: { body: { sessionId: anns.sessionId } } }),
      ],
      [
        'the end of the session that asks',
        'ann',
        'cleared',
        ({ ann }) => ({ path: `/auth/sessions/${ann.sessionId}`, request: { method: 'DELETE', token: ann.token } }),
      ],
      [
        'the end of the session that asks, with other cookies',
        'bob',
        'stay',
        ({ ann }) => ({ path: `/auth/sessions/${ann.sessionId}`, request: { method: 'DELETE', token: ann.token } }),
      ],
      [
        'the end of the session that the cookies are of',
        'anns',
        'cleared',
        ({ ann, anns }) => ({ path: `/auth/sessions/${anns.sessionId}`, request: { method: 'DELETE', token: ann.token } }),
      ],
      [
        'a change of the password, with other cookies',
        'bob',
        'stay',
        ({ ann }) => ({
          path: '/auth/password',
          request: { token: ann.token, body: { current_password: password, new_password: 'a new password' } },
        }),
      ],
      [
        'a change of the password by a header, with cookies of a session that it ends',
        'anns',
        'cleared',
        ({ ann }) => ({
          path: '/auth/password',
          request: { token: ann.token, body: { current_password: password, new_password: 'a new password' } },
        }),
      ],
      [
        'a change of the password by the cookie, which goes on',
        'ann',
        'stay',
        () => ({ path: '/auth/password', request: { body: { current_password: password, new_password: 'a new password' } } }),
      ],
    ];
    it.each(cases)('%s, cookies of %s %s', async (_name, cookies, effect, made) => {
      const [ann, bob] = [await register(), await register()];
      const who = { ann, anns: await logInAgain(ann), bob };
      const { path, request } = made(who);
      const answer = await from(who[cookies].cookie, path, request);
      expect([answer.status, effectOn(answer)]).toEqual([200, effect]);
      expect(await me(who[cookies].token)).toBe(effect === 'stay' ? 200 : 401); // none is left with cookies that are worth nothing
    });
  });

  it('keeps an action by the cookie for pages of this host', async () => {
    const bob = await register();
    const headers = { origin: 'https://elsewhere.example' };
    expect((await from(bob.cookie, '/auth/logout', { headers })).status).toBe(403);
    expect((await from(bob.cookie, '/auth/refresh', { headers })).status).toBe(403);
    expect((await from(bob.cookie, '/rooms', { headers, body: { name: randomUUID() } })).status).toBe(403);
    expect(await me(bob.token)).toBe(200);
  });
});

describe('the socket', () => {
  let ann: Person;
  let bob: Person;
  let room: string;

  beforeEach(async () => {
    [ann, bob] = await Promise.all([createPerson(db.sql), createPerson(db.sql)]);
    room = await createRoom(db.sql, [ann, bob]);
  });

  /** Another login of the user. */
  async function anotherSession(person: Person): Promise<string> {
    const sessionId = randomUUID();
    await db.sql.query("INSERT INTO sessions (id, user_id, refresh_token_hash, expires_at) VALUES ($1, $2, '', now() + interval '1 day')", [
      sessionId,
      person.id,
    ]);
    return sessionId;
  }
  const end = (sessionId: string) => db.sql.query('UPDATE sessions SET ended_at = now() WHERE id = $1', [sessionId]);
  /** A token of a session of the user that is over. */
  async function over(person: Person): Promise<string> {
    const sessionId = await anotherSession(person);
    await end(sessionId);
    return tokenFor({ ...person, sessionId }, 600);
  }
  const browser = (cookie: string | undefined, origin = node.url) => ({
    origin,
    ...(cookie !== undefined && { cookie: `trunkline_access=${cookie}` }),
  });
  /** A socket of a page, in a browser with this cookie. */
  const open = (
    cookie: string | undefined,
    more: { token?: string; headers?: Record<string, string>; path?: string; origin?: string } = {},
  ) => TestClient.connect(node.url, more.token, undefined, more.path, { ...browser(cookie, more.origin), ...more.headers });
  const senders = async () =>
    (await db.sql.query<{ user_id: string }>('SELECT user_id FROM messages WHERE room_id = $1 ORDER BY seq', [room])).rows.map(
      ({ user_id }) => user_id,
    );
  const userOf = async (client: TestClient) => (await client.frame('hello')).data['user_id'];
  const hellos = (client: TestClient) => client.frames.filter(({ event }) => event === 'hello').map(({ data }) => data['user_id']);
  const closeCode = (client: TestClient, withinMs?: number) => eventually(() => client.closed?.code, 'the close', withinMs);

  it('is its own token’s, in the header or the address, whatever the cookie is', async () => {
    for (const cookie of [bob.token, 'nonsense', tokenFor(bob, -10), await over(bob), '%', undefined]) {
      for (const origin of [node.url, 'https://elsewhere.example']) {
        const clients = await Promise.all([
          open(cookie, { origin, headers: { authorization: `Bearer ${ann.token}` } }),
          open(cookie, { origin, token: ann.token }),
          open(cookie, { origin, token: bob.token, headers: { authorization: `Bearer ${ann.token}` } }),
        ]);
        for (const client of clients) {
          expect(await userOf(client)).toBe(ann.id);
          await client.send(room, 'mine');
          expect(hellos(client)).toEqual([ann.id]);
          await client.close();
        }
      }
    }
    expect(new Set(await senders())).toEqual(new Set([ann.id]));
  });

  it('is refused for a bad token in the header or the address, whatever the cookie is', async () => {
    for (const token of ['nonsense', '', tokenFor(ann, -10)]) {
      await expect(open(bob.token, { token })).rejects.toThrow('refused with 401');
      await expect(open(bob.token, { headers: { authorization: `Bearer ${token}` } })).rejects.toThrow('refused with 401');
    }
    for (const authorization of ['Bearer', 'Basic YTpi', `Bearer ${ann.token} ${ann.token}`])
      await expect(open(bob.token, { headers: { authorization }, token: ann.token })).rejects.toThrow('refused with 401');
    expect(await closeCode(await open(bob.token, { token: await over(ann) }))).toBe(4501);
  });

  it('is the cookie’s where nothing else is said, on a page of this host', async () => {
    const client = await open(bob.token);
    expect(await userOf(client)).toBe(bob.id);
    await client.send(room, 'by the cookie');
    expect(await senders()).toEqual([bob.id]);
    await client.close();
  });

  describe('with a cookie that does not count is nobody’s until it sends auth:', () => {
    const elsewhere = 'https://elsewhere.example';
    const cases: [name: string, cookie: () => string | Promise<string>, code: number, origin: string | undefined][] = [
      ['one that is no token', () => 'nonsense', 4408, undefined],
      ['one that has expired', () => tokenFor(bob, -10), 4408, undefined],
      ['one that came from a page of another host', () => bob.token, 4408, elsewhere],
      ['one of a session that is over', () => over(bob), 4501, undefined],
    ];
    it.each(cases)('%s', async (_name, cookie, code, origin) => {
      const more = origin === undefined ? {} : { origin };
      const [client, silent] = await Promise.all([open(await cookie(), more), open(await cookie(), more)]);
      expect(await client.command('auth', { token: ann.token })).toMatchObject({ event: 'hello', data: { user_id: ann.id } });
      await client.send(room, 'mine');
      expect([hellos(client), await senders()]).toEqual([[ann.id], [ann.id]]);
      expect((await silent.command('ping', {})).event).toBe('pong');
      expect(await closeCode(silent)).toBe(code);
      expect(silent.frames.filter(({ event }) => event !== 'pong')).toEqual([]);
      await client.close();
    });
  });

  it('of a cookie becomes the user’s of auth: what came before was the one’s, what comes after is the other’s', async () => {
    const client = await open(bob.token);
    expect(await userOf(client)).toBe(bob.id);
    await client.send(room, 'before');
    expect(await client.command('auth', { token: ann.token })).toMatchObject({ event: 'hello', data: { user_id: ann.id } });
    await client.send(room, 'after');
    expect(await senders()).toEqual([bob.id, ann.id]);
    expect((await client.command('auth', { token: bob.token })).data).toMatchObject({ code: 'conflict' });
    expect((await client.command('refresh_token', { token: bob.token })).data).toMatchObject({ code: 'forbidden' });
    await client.send(room, 'still');
    expect(await senders()).toEqual([bob.id, ann.id, ann.id]);
    await client.close();
  });

  it('has nothing that follows an auth stored as the cookie’s, however early it comes', async () => {
    const text = (event: string, id: string, data: object) => frame(opcodes.text, JSON.stringify({ event, id, data }));
    const sends = (n: number) =>
      Buffer.concat(Array.from({ length: n }, (_, i) => text('send_message', `s${i}`, { room_id: room, content: `${i}` })));
    const headers = { Cookie: `trunkline_access=${bob.token}`, Origin: node.url, Host: new URL(node.url).host };
    for (const path of ['/ws', `/ws/${room}`]) {
      for (let n = 0; n < 10; n++) {
        const raw = await RawSocket.connect(node.url);
        const after = Buffer.concat([text('auth', 'auth', { token: ann.token }), sends(3), text('ping', 'last', {})]);
        if (n % 2 === 0) raw.write(Buffer.concat([Buffer.from(handshake(path, headers)), after]));
        else {
          raw.write(handshake(path, headers));
          await eventually(() => raw.status === 101);
          raw.write(after);
        }
        await raw.text('"id":"s2"');
        await raw.text('"id":"last"');
        raw.cut();
      }
    }
    expect(await senders()).toEqual(Array<string>(60).fill(ann.id));
  });

  it('has no user after an auth that was no good, and stores nothing as the cookie’s', async () => {
    for (const token of ['nonsense', tokenFor(ann, -10), signedToken(ann, { aud: 'elsewhere' })]) {
      const client = await open(bob.token);
      await userOf(client);
      await client.join(room);
      const answers = [
        client.command('auth', { token }),
        client.command('send_message', { room_id: room, content: 'whose?' }),
        client.command('join_room', { room_id: room }),
      ];
      for (const { event } of await Promise.all(answers)) expect(event).toBe('error');
      expect(await client.command('auth', { token: ann.token })).toMatchObject({ event: 'hello', data: { user_id: ann.id } });
      await client.close();
    }
    const ended = await open(bob.token);
    await userOf(ended);
    ended.raw(JSON.stringify({ event: 'auth', data: { token: await over(ann) } }));
    ended.raw(JSON.stringify({ event: 'send_message', data: { room_id: room, content: 'whose?' } }));
    expect(await closeCode(ended)).toBe(4501);
    const silent = await open(bob.token);
    await userOf(silent);
    expect((await silent.command('auth', { token: 'nonsense' })).data).toMatchObject({ code: 'unauthenticated' });
    expect(await closeCode(silent)).toBe(4408);
    expect(await senders()).toEqual([]);
  });

  it('answers what the cookie’s user sent before, and keeps it that user’s', async () => {
    const client = await open(bob.token);
    await userOf(client);
    const holder = await db.sql.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [room]);
    const before = client.send(room, 'before');
    expect((await client.command('auth', { token: ann.token })).event).toBe('hello');
    const after = client.send(room, 'after');
    await holder.query('COMMIT');
    holder.release();
    expect(await Promise.all([before, after])).toEqual([2, 3]);
    expect(await senders()).toEqual([bob.id, ann.id]);
    await client.close();
  });

  it('ends the streams, the typing and the presence of the cookie’s user, and is watched for the session of the other', async () => {
    const watcher = await TestClient.connect(node.url, ann.token);
    const bobsRoom = await createRoom(db.sql, [bob, ann]);
    await watcher.join(bobsRoom);
    const statusOf = (person: Person) =>
      watcher.frames.filter(({ event, data }) => event === 'presence' && data['user_id'] === person.id).at(-1)?.data['status'];
    const client = await open(bob.token);
    await client.join(bobsRoom);
    client.raw(JSON.stringify({ event: 'typing_start', data: { room_id: bobsRoom } }));
    await watcher.frame('typing', ({ user_id, is_typing }) => user_id === bob.id && is_typing === true);
    await eventually(() => statusOf(bob) === 'online', 'Bob to be shown');

    const carol = await createPerson(db.sql);
    await db.sql.query('SELECT join_room($1, $2, $3)', [room, carol.id, carol.name]);
    await client.command('auth', { token: carol.token });
    await watcher.frame('typing', ({ user_id, is_typing }) => user_id === bob.id && is_typing === false);
    await eventually(() => statusOf(bob) === 'offline', 'Bob to be gone', 15_000);
    expect((await client.join(bobsRoom)).data).toMatchObject({ code: 'not_a_member' });
    await client.join(room);
    const length = client.frames.length;
    await watcher.send(bobsRoom, 'not for Carol');
    const seq = await watcher.send(room, 'for Carol');
    await client.reaches(room, seq);
    expect(JSON.stringify(client.frames.slice(length))).not.toContain(bobsRoom);

    await end(bob.sessionId);
    const other = await TestClient.connect(node.url, bob.token);
    expect(await closeCode(other)).toBe(4501);
    await eventually(async () => (await client.command('ping', {})).event === 'pong');
    await client.send(room, 'as Carol');
    await end(carol.sessionId);
    expect(await closeCode(client)).toBe(4501);
    await watcher.close();
  }, 60_000);

  it('joins the room of its address as whom the client says it is', async () => {
    const annsRoom = await createRoom(db.sql, [ann]);
    const client = await open(bob.token, { path: `/ws/${annsRoom}` });
    expect((await client.frame('error')).data).toMatchObject({ code: 'not_a_member' });
    expect((await client.command('auth', { token: ann.token })).event).toBe('hello');
    await client.frame('joined_room', ({ room_id }) => room_id === annsRoom);
    const seq = await client.send(annsRoom, 'mine');
    await client.reaches(annsRoom, seq);
    await client.close();
  });

  describe('takes an auth of the same user as another hello', () => {
    const expiry = (hello: { data: Record<string, unknown> }) => Date.parse(hello.data['token_expires_at'] as string);

    it.each(['cookie', 'token'])('on a connection by %s, and its streams go on', async (way) => {
      const client = way === 'cookie' ? await open(bob.token) : await TestClient.connect(node.url, bob.token);
      await client.join(room);
      const first = await client.frame('hello');
      const renewed = await client.command('auth', { token: tokenFor(bob, 7_200) });
      expect(renewed).toMatchObject({ event: 'hello', data: { user_id: bob.id, connection_id: first.data['connection_id'] } });
      expect(expiry(renewed)).toBeGreaterThan(expiry(first) + 3_000_000);
      const seq = await client.send(room, 'on and on');
      await client.reaches(room, seq);
      expect(client.violations).toEqual([]);
      expect(client.frames.filter(({ event }) => event === 'joined_room')).toHaveLength(1);
      expect((await client.command('auth', { token: ann.token })).data).toMatchObject({ code: 'conflict' });
      await client.close();
    });

    it('which an older token of the session does not make shorter, nor a refresh_token', async () => {
      const client = await TestClient.connect(node.url, bob.token);
      const first = expiry(await client.frame('hello'));
      expect(expiry(await client.command('auth', { token: tokenFor(bob, 2) }))).toBe(first);
      expect(expiry(await client.command('refresh_token', { token: tokenFor(bob, 2) }))).toBe(first);
      const sentAt = performance.now();
      await eventually(() => performance.now() - sentAt > 4_000);
      expect((await client.command('ping', {})).event).toBe('pong');
      await client.close();
    });

    it('and is of the session of the token that came last', async () => {
      const sessionId = await anotherSession(bob);
      const client = await open(bob.token);
      await userOf(client);
      expect((await client.command('auth', { token: tokenFor({ ...bob, sessionId }, 600) })).event).toBe('hello');
      await end(bob.sessionId);
      expect(await closeCode(await TestClient.connect(node.url, bob.token))).toBe(4501);
      await client.send(room, 'of the other session');
      await end(sessionId);
      expect(await closeCode(client)).toBe(4501);
    });

    it('but stays what it was where the token is no good', async () => {
      const client = await TestClient.connect(node.url, bob.token);
      expect((await client.command('auth', { token: 'nonsense' })).data).toMatchObject({ code: 'unauthenticated' });
      await client.send(room, 'still Bob');
      expect(await senders()).toEqual([bob.id]);
      await client.close();
    });
  });

  it('counts among the sockets of whose it is, and is not refused for those of the cookie’s user', async () => {
    const small = await startNode(db.url, { SOCKETS_PER_USER_MAX: '1', RATE_LIMITS: 'on' });
    const openHere = (token?: string) =>
      TestClient.connect(small.url, token, undefined, '/ws', token === undefined ? browser(bob.token, small.url) : {});
    const first = await openHere(bob.token);
    await first.frame('hello');
    const client = await openHere();
    expect((await client.command('auth', { token: ann.token })).event).toBe('hello');
    expect(await closeCode(await openHere(ann.token))).toBe(4429);
    expect(await closeCode(await openHere())).toBe(4429);
    await first.close();
    const byCookie = await openHere();
    await byCookie.frame('hello');
    expect(await closeCode(await openHere(bob.token))).toBe(4429);
    await client.close();
    expect((await byCookie.command('auth', { token: ann.token })).event).toBe('hello');
    const again = await openHere(bob.token);
    await again.frame('hello');
    await Promise.all([again.close(), byCookie.close()]);
    await small.close();
  });
});
