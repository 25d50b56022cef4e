/**
 * What a client says itself wins over what its browser adds, on every way in and out. In most of it, a page that is Ann's speaks from a browser with
 * the cookies of Bob.
 */
import { randomUUID } from 'node:crypto';
import type { Answer, Call } from './support/any-call.js';
import { startNode, type TestNode } from './support/node.js';
import { signedToken } from './support/people.js';
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
