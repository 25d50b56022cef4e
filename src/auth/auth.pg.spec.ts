import argon2 from 'argon2';
import { eventually } from '../../test/support/eventually.js';
import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, registerUser, testPassword as password } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { signed } from '../../test/support/people.js';

let db: TestDatabase;
let node: TestNode;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const post = (path: string, body: unknown, token?: string, headers?: Record<string, string>): Promise<Answer> =>
  call(node.url, path, { body, ...(token !== undefined && { token }), ...(headers && { headers }) });
const me = (token: string): Promise<Answer> => call(node.url, '/auth/me', { token });
const refresh = (refreshToken: string): Promise<Answer> => post('/auth/refresh', { refreshToken });
const tokensOf = ({ body }: Answer) => (body as { tokens: { accessToken: string; refreshToken: string } }).tokens;
const cookiesOf = ({ headers }: Answer): string =>
  headers
    .getSetCookie()
    .map((cookie) => cookie.slice(0, cookie.indexOf(';')))
    .join('; ');

describe('registering', () => {
  it('gives the account and tokens that work', async () => {
    const answer = await post('/auth/register', { username: 'ann', email: 'ann@example.com', password });
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      user: {
        id: expect.any(String),
        username: 'ann',
        email: 'ann@example.com',
        created_at: expect.stringMatching(/^\d{4}-.*T.*\.\d{3}Z$/),
      },
      tokens: { accessToken: expect.any(String), refreshToken: expect.stringMatching(/^[\w-]{86}$/) },
    });
    expect((await me(tokensOf(answer).accessToken)).body).toEqual((answer.body as { user: unknown }).user);
    expect(JSON.stringify((await db.sql.query('SELECT * FROM users, sessions')).rows)).not.toContain(tokensOf(answer).refreshToken);
  });

  it('a name or an address that is taken, in whatever case, is a conflict that names the field and gives no tokens', async () => {
    await registerUser(node.url, 'Bob');
    const cases = [
      { username: 'bOB', email: 'free@example.com', fields: ['username'] },
      { username: 'ＢＯＢ', email: 'free@example.com', fields: ['username'] },
      { username: 'free', email: 'BOB@Test.Local', fields: ['email'] },
      { username: 'bob', email: 'bob@test.local', fields: ['username', 'email'] },
    ];
    for (const { fields, ...account } of cases) {
      const answer = await post('/auth/register', { ...account, password });
      expect(answer.status).toBe(409);
      expect(answer.body).toMatchObject({ code: 'conflict', errors: fields.map((field) => ({ field, message: 'is taken' })) });
      expect(answer.body).not.toHaveProperty('tokens');
      expect(answer.headers.getSetCookie()).toEqual([]);
    }
  });

  it('of many who register one name at the same moment, one gets it and no other gets tokens', async () => {
    const spellings = ['racer', 'Racer', 'RACER', 'rAcEr'];
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => post('/auth/register', { username: spellings[n % 4], email: `racer${n}@test.local`, password })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    for (const { status, body } of answers.filter((answer) => answer.status !== 201)) {
      expect(status).toBe(409);
      expect(body).toMatchObject({ errors: [{ field: 'username' }] });
      expect(body).not.toHaveProperty('tokens');
    }
    const { rows } = await db.sql.query(
      "SELECT count(*)::int AS n FROM sessions JOIN users ON users.id = user_id WHERE username_key = 'racer'",
    );
    expect(rows).toEqual([{ n: 1 }]);
  });

  it('accepts the addresses and names of any script that people have', async () => {
    for (const [n, username] of ['Ünal', '渡辺', 'नमस्ते', 'a', 'x_y.z-1', 'ж'.repeat(64)].entries()) {
      expect((await post('/auth/register', { username, email: `user${n}@localhost`, password })).status).toBe(201);
    }
  });

  it('a name that can’t be told from another is refused: one that is taken in other letters, or looks the same, or has what is not seen', async () => {
    for (const [n, username] of ['niko', 'νικος.π', 'Alice', 'coco', 'straße'].entries())
      expect((await post('/auth/register', { username, email: `first${n}@bücher.example`, password })).status).toBe(201);
    const cases: [username: string, status: number, message: RegExp][] = [
      ['NIKO', 409, /^is taken$/],
      ['ΝΙΚΟΣ.Π', 409, /^is taken$/],
      ['STRASSE', 409, /^is taken$/],
      ['ｎｉｋｏ', 409, /^is taken$/],
      ['AIice', 409, /^looks like a name that is taken$/],
      ['сосо', 409, /^looks like a name that is taken$/],
      ['nіko', 400, /mix scripts/],
      ['niko\ufe0f', 400, /invisible characters \(U\+FE0F\)/],
      ['ni\u034fko', 400, /U\+034F/],
      ['\u3164', 400, /U\+3164/],
      ['niko\u200d', 400, /zero-width joiner/],
    ];
    for (const [username, status, message] of cases) {
      const answer = await post('/auth/register', { username, email: 'second@test.local', password });
      expect([username, answer.status, answer.body]).toMatchObject([
        username,
        status,
        { errors: [{ field: 'username', message: expect.stringMatching(message) }] },
      ]);
    }
    for (const email of ['FIRST0@BÜCHER.example', 'first0@xn--bcher-kva.example', 'first0@bu\u0308cher.example'])
      expect(await post('/auth/register', { username: 'second', email, password })).toMatchObject({
        status: 409,
        body: { errors: [{ field: 'email', message: 'is taken' }] },
      });
    for (const email of ['first0\u200b@bücher.example', 'fіrst0@bücher.example', 'first0@xn--zz.example'])
      expect(await post('/auth/register', { username: 'second', email, password })).toMatchObject({ status: 400 });
  });

  it('of many who register names that look the same at one moment, one gets it', async () => {
    const spellings = ['scope', 'ѕсоре', 'sc0pe', 'SCOPE'];
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => post('/auth/register', { username: spellings[n % 4], email: `scope${n}@test.local`, password })),
    );
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, ...Array.from({ length: 11 }, () => 409)]);
  });

  it('accepts names that need a joiner, and finds them without it', async () => {
    for (const [n, username] of ['می‌خواهم', 'ශ්‍රී'].entries()) {
      expect((await post('/auth/register', { username, email: `joined${n}@test.local`, password })).status).toBe(201);
      const without = username.replaceAll(/[\u200c\u200d]/g, '');
      expect((await post('/auth/register', { username: without, email: 'free@test.local', password })).body).toMatchObject({
        code: 'conflict',
      });
      expect(await post('/auth/login', { username: without, password })).toMatchObject({ status: 200, body: { user: { username } } });
    }
  });

  it('refuses what is no name, no address or no password, and says which field and why', async () => {
    const good = { username: 'good', email: 'good@test.local', password };
    const cases: [Record<string, unknown>, string][] = [
      [{ username: undefined }, 'username'],
      [{ username: '' }, 'username'],
      [{ username: 'a b' }, 'username'],
      [{ username: 'a@b' }, 'username'],
      [{ username: 'ﷺ' }, 'username'], // with spaces in its key
      [{ username: 'ж'.repeat(65) }, 'username'],
      [{ username: 'nul\0' }, 'username'],
      [{ username: ['ann'] }, 'username'],
      [{ device_name: 'phone\u202e' }, 'device_name'],
      [{ device_name: '\u3164' }, 'device_name'],
      [{ email: 'nobody' }, 'email'],
      [{ email: `${'x'.repeat(60)}@${'y'.repeat(60)}.${'z'.repeat(60)}.${'z'.repeat(60)}.${'z'.repeat(30)}.org` }, 'email'],
      [{ email: { '@': '@' } }, 'email'],
      [{ email: '\ud800@test.local' }, 'email'],
      [{ password: 'short' }, 'password'],
      [{ password: 'x'.repeat(257) }, 'password'],
      [{ password: 12_345_678 }, 'password'],
      [{ role: 'owner' }, 'role'],
    ];
    for (const [change, field] of cases) {
      const answer = await post('/auth/register', { ...good, ...change });
      expect([change, answer.status, answer.body]).toMatchObject([change, 400, { code: 'invalid_payload', errors: [{ field }] }]);
    }
  });
});

describe('logging in', () => {
  it('works by name and by address in whatever case', async () => {
    const user = await registerUser(node.url, 'Carol');
    for (const name of [{ username: 'carol' }, { username: 'CAROL' }, { email: 'carol@test.local' }, { email: 'Carol@TEST.local' }]) {
      const answer = await post('/auth/login', { ...name, password });
      expect(answer.status).toBe(200);
      expect(answer.body).toMatchObject({ user: { id: user.id, username: 'Carol' } });
      expect((await me(tokensOf(answer).accessToken)).status).toBe(200);
    }
  });

  it('answers alike for a wrong password and for a name that nobody has', async () => {
    await registerUser(node.url, 'dave');
    const wrong = await post('/auth/login', { username: 'dave', password: 'another password' });
    const unknown = await post('/auth/login', { username: 'nobody-of-this-name', password });
    for (const { status, body } of [wrong, unknown]) {
      expect(status).toBe(401);
      expect(body).toMatchObject({ code: 'unauthenticated', detail: 'The name or the password is wrong.' });
    }
  });

  it('needs a name', async () => {
    const { status, body } = await post('/auth/login', { password });
    expect(status).toBe(400);
    expect(body).toMatchObject({ errors: [{ field: 'email' }] });
  });

  it('hashes the password anew when it was hashed at another cost', async () => {
    const user = await registerUser(node.url, 'erin');
    const weak = await argon2.hash(password, { type: argon2.argon2id, memoryCost: 1_024, timeCost: 2, parallelism: 1 });
    await db.sql.query('UPDATE users SET password_hash = $2 WHERE id = $1', [user.id, weak]);
    const hash = async () =>
      (await db.sql.query<{ password_hash: string }>('SELECT password_hash FROM users WHERE id = $1', [user.id])).rows[0]?.password_hash;
    expect((await post('/auth/login', { username: 'erin', password })).status).toBe(200);
    const renewed = await hash();
    expect(renewed).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$|^\$argon2id\$v=19\$m=19456,p=1,t=2\$/);
    expect((await post('/auth/login', { username: 'erin', password })).status).toBe(200);
    expect(await hash()).toBe(renewed);
  });

  it('sets cookies out of reach of scripts, which are not secure only because some client says so', async () => {
    await registerUser(node.url, 'frank');
    const answer = await post('/auth/login', { username: 'frank', password }, undefined, { 'x-forwarded-proto': 'https' });
    const cookies = answer.headers.getSetCookie();
    expect(cookies.map((cookie) => cookie.split('=')[0])).toEqual(['trunkline_access', 'trunkline_refresh']);
    for (const cookie of cookies) expect(cookie).toMatch(/Path=\/; HttpOnly; SameSite=Lax$/);
  });
});

describe('a refresh token', () => {
  it('is exchanged for a new pair, and the new one again', async () => {
    const user = await registerUser(node.url, 'grace');
    const first = await refresh(user.refreshToken);
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({ user: { id: user.id, username: 'grace' } });
    const second = await refresh(tokensOf(first).refreshToken);
    expect(second.status).toBe(200);
    expect((await me(tokensOf(second).accessToken)).status).toBe(200);
  });

  it('that was spent last gives the same successor for some seconds: the answer may have been lost', async () => {
    const user = await registerUser(node.url, 'heidi');
    const first = await refresh(user.refreshToken);
    const again = await refresh(user.refreshToken);
    expect([again.status, tokensOf(again).refreshToken]).toEqual([200, tokensOf(first).refreshToken]);
    expect((await refresh(tokensOf(again).refreshToken)).status).toBe(200);
  });

  it('used a second time after that ends the session, for whoever holds a token of it', async () => {
    const user = await registerUser(node.url, 'ivan');
    const first = await refresh(user.refreshToken);
    await db.sql.query("UPDATE sessions SET refreshed_at = refreshed_at - interval '11 s' WHERE user_id = $1", [user.id]);
    expect((await refresh(user.refreshToken)).status).toBe(401);
    expect((await refresh(tokensOf(first).refreshToken)).status).toBe(401);
    expect((await me(tokensOf(first).accessToken)).status).toBe(401);
    const { rows } = await db.sql.query('SELECT ended_at IS NOT NULL AS ended FROM sessions WHERE user_id = $1', [user.id]);
    expect(rows).toEqual([{ ended: true }]);
  });

  it('that was spent before the last one ends the session at once', async () => {
    const user = await registerUser(node.url, 'iris');
    const first = await refresh(user.refreshToken);
    const second = await refresh(tokensOf(first).refreshToken);
    expect((await refresh(user.refreshToken)).status).toBe(401);
    expect((await refresh(tokensOf(second).refreshToken)).status).toBe(401);
  });

  it('leads to no session that is older than a session may be', async () => {
    const user = await registerUser(node.url, 'ines');
    const ageBy = (interval: string) =>
      db.sql.query('UPDATE sessions SET created_at = created_at - $2::interval WHERE user_id = $1', [user.id, interval]);
    const life = async () =>
      (
        await db.sql.query<{ idle: boolean; at_most: boolean }>(
          `SELECT expires_at - now() > interval '29 days' AS idle, expires_at = created_at + interval '90 days' AS at_most
            FROM sessions WHERE user_id = $1`,
          [user.id],
        )
      ).rows[0];
    expect(await life()).toEqual({ idle: true, at_most: false });
    await ageBy('80 days');
    const first = await refresh(user.refreshToken);
    expect([first.status, await life()]).toEqual([200, { idle: false, at_most: true }]);
    await ageBy('11 days');
    expect((await refresh(tokensOf(first).refreshToken)).status).toBe(401);
  });

  it('that nobody gave out, or of a session past its time, is refused', async () => {
    const user = await registerUser(node.url, 'judy');
    await db.sql.query("UPDATE sessions SET expires_at = now() - interval '1 s' WHERE user_id = $1", [user.id]);
    const forged = `${user.refreshToken.slice(0, -1)}${user.refreshToken.endsWith('A') ? 'Q' : 'A'}`;
    for (const token of [user.refreshToken, forged, 'made up', 'x'.repeat(86), 'x'.repeat(256)]) {
      expect((await refresh(token)).body).toMatchObject({ status: 401, code: 'unauthenticated' });
    }
    expect((await refresh('\0')).status).toBe(400);
    expect((await post('/auth/refresh', {})).status).toBe(401);
  });

  it('may come in the cookie from a page of this host; the one in the body goes first', async () => {
    await registerUser(node.url, 'kim');
    const login = await post('/auth/login', { username: 'kim', password });
    const cookie = cookiesOf(login);
    expect((await post('/auth/refresh', {}, undefined, { cookie })).status).toBe(403);
    expect((await post('/auth/refresh', {}, undefined, { cookie, origin: 'https://elsewhere.example' })).status).toBe(403);
    expect((await post('/auth/refresh', { refreshToken: 'made up' }, undefined, { cookie })).status).toBe(401);
    const refreshed = await call(node.url, '/auth/refresh', { method: 'POST', headers: { cookie, origin: node.url } });
    expect(refreshed.status).toBe(200);
    expect(cookiesOf(refreshed)).toContain(`trunkline_refresh=${tokensOf(refreshed).refreshToken}`);
  });
});

describe('logging out', () => {
  it('ends this session at once: neither of its tokens opens anything', async () => {
    const user = await registerUser(node.url, 'laura');
    const out = await call(node.url, '/auth/logout', { method: 'POST', token: user.token });
    expect([out.status, out.body]).toEqual([200, { success: true }]);
    expect((await me(user.token)).body).toMatchObject({ status: 401, code: 'unauthenticated' });
    expect((await refresh(user.refreshToken)).status).toBe(401);
  });

  it('ends another session of the same user by id, but never one of somebody else', async () => {
    const user = await registerUser(node.url, 'mallory');
    const other = await post('/auth/login', { username: 'mallory', password });
    const victim = await registerUser(node.url, 'nick');
    const sessionOf = (token: string): string =>
      (JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sid: string }).sid;
    expect((await post('/auth/logout', { sessionId: sessionOf(tokensOf(other).accessToken) }, user.token)).body).toEqual({ success: true });
    expect((await me(tokensOf(other).accessToken)).status).toBe(401);
    expect((await post('/auth/logout', { sessionId: sessionOf(victim.token) }, user.token)).body).toEqual({ success: true });
    expect((await me(victim.token)).status).toBe(200);
    expect((await me(user.token)).status).toBe(200);
  });

  it('ends every session of the user when asked to', async () => {
    const user = await registerUser(node.url, 'olivia');
    const other = await post('/auth/login', { username: 'olivia', password });
    expect((await post('/auth/logout', { all: true }, user.token)).status).toBe(200);
    for (const token of [user.token, tokensOf(other).accessToken]) expect((await me(token)).status).toBe(401);
  });
});

describe('the list of sessions', () => {
  interface Listed {
    id: string;
    device_name: string;
    address: string;
    created_at: string;
    last_used_at: string;
    current: boolean;
  }
  const sessions = async (token: string) => (await call(node.url, '/auth/sessions', { token })).body as Listed[];

  it('has each login with device, address and times, the one that was used last first', async () => {
    const user = await registerUser(node.url, 'rosa');
    const phone = await post('/auth/login', { username: 'rosa', password, device_name: 'my 📱' });
    await post('/auth/login', { username: 'rosa', password }, undefined, {
      'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    });
    const time = expect.stringMatching(/^\d{4}-.*T.*\.\d{3}Z$/);
    const session = { id: expect.any(String), address: '127.0.0.1', created_at: time, last_used_at: time, current: false };
    expect(await sessions(tokensOf(phone).accessToken)).toEqual([
      { ...session, device_name: 'Firefox on Linux' },
      { ...session, device_name: 'my 📱', current: true },
      { ...session, device_name: 'node' },
    ]);
    await refresh(user.refreshToken);
    expect((await sessions(user.token)).map(({ current }) => current)).toEqual([true, false, false]);
  });

  it('ends one by its id, once, and never one of somebody else', async () => {
    const user = await registerUser(node.url, 'sara');
    const other = await post('/auth/login', { username: 'sara', password });
    const victim = await registerUser(node.url, 'tom');
    const end = (id: string, token = user.token) => call(node.url, `/auth/sessions/${id}`, { method: 'DELETE', token });
    const otherId = (await sessions(user.token)).find(({ current }) => !current)?.id ?? '';
    const out = await end(otherId);
    expect([out.status, out.body]).toEqual([200, { success: true }]);
    expect((await me(tokensOf(other).accessToken)).status).toBe(401);
    expect((await refresh(tokensOf(other).refreshToken)).status).toBe(401);
    expect(await sessions(user.token)).toHaveLength(1);
    const victimsId = (await sessions(victim.token))[0]?.id ?? '';
    for (const id of [otherId, victimsId]) expect((await end(id)).body).toMatchObject({ status: 404, code: 'not_found' });
    expect((await me(victim.token)).status).toBe(200);
    expect((await end('x')).status).toBe(400);
  });
});

describe('changing the password', () => {
  const change = (token: string, current_password: string, new_password: string) =>
    post('/auth/password', { current_password, new_password }, token);

  it('needs the current one, and ends every other session', async () => {
    const user = await registerUser(node.url, 'ulla');
    const other = await post('/auth/login', { username: 'ulla', password });
    expect((await change(user.token, 'not the password', 'a new password')).body).toMatchObject({ status: 403, code: 'forbidden' });
    expect((await change(user.token, password, 'short')).body).toMatchObject({ status: 400, errors: [{ field: 'new_password' }] });
    expect((await me(tokensOf(other).accessToken)).status).toBe(200);

    const answer = await change(user.token, password, 'a new password');
    expect([answer.status, answer.body]).toEqual([200, { success: true }]);
    expect((await me(user.token)).status).toBe(200);
    expect((await refresh(user.refreshToken)).status).toBe(200);
    expect((await me(tokensOf(other).accessToken)).status).toBe(401);
    expect((await refresh(tokensOf(other).refreshToken)).status).toBe(401);
    expect((await post('/auth/login', { username: 'ulla', password })).status).toBe(401);
    expect((await post('/auth/login', { username: 'ulla', password: 'a new password' })).status).toBe(200);
  });

  it('of two at the same moment one is made', async () => {
    const user = await registerUser(node.url, 'vera');
    const answers = await Promise.all(['a new password', 'another new one'].map((wanted) => change(user.token, password, wanted)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(answers.find(({ status }) => status !== 200)?.body).toMatchObject({ status: 403, code: 'forbidden' });
  });

  it('lets no login through that checked the old one before, and is not through yet', async () => {
    const user = await registerUser(node.url, 'wanda');
    const changing = await db.sql.connect();
    await changing.query('BEGIN');
    await changing.query('UPDATE users SET password_version = password_version + 1 WHERE id = $1', [user.id]);
    const login = post('/auth/login', { username: 'wanda', password });
    const waiting = `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO sessions%'`;
    try {
      await eventually(async () => (await db.sql.query(waiting)).rowCount === 1, 'the login to wait');
    } finally {
      await changing.query('COMMIT');
      changing.release();
    }
    expect((await login).status).toBe(401);
    expect((await db.sql.query('SELECT FROM sessions WHERE user_id = $1', [user.id])).rowCount).toBe(1);
  });
});

describe('the guard', () => {
  it('lets nobody through without credentials, and says how to bring them', async () => {
    const routes = [
      'GET /auth/me',
      'POST /auth/logout',
      'GET /auth/sessions',
      'DELETE /auth/sessions/x',
      'POST /auth/password',
      'POST /rooms',
      'GET /rooms',
      'GET /rooms/x',
      'POST /rooms/x/join',
      'POST /rooms/x/leave',
    ];
    routes.push('GET /rooms/x/members', 'DELETE /rooms/x/members/y', 'GET /rooms/x/messages', 'POST /rooms/x/messages');
    for (const route of routes) {
      const [method = '', path = ''] = route.split(' ');
      const { status, headers, body } = await call(node.url, path, { method });
      expect([route, status, headers.get('www-authenticate')]).toEqual([route, 401, 'Bearer']);
      expect(body).toMatchObject({ code: 'unauthenticated' });
    }
  });

  it('tells an expired token from a bad one', async () => {
    const user = await registerUser(node.url, 'peggy');
    const claims = JSON.parse(Buffer.from(user.token.split('.')[1] ?? '', 'base64url').toString()) as object;
    const expired = { ...claims, exp: Math.floor(Date.now() / 1_000) - 1 };
    expect((await me(signed('{"alg":"HS256","typ":"at+jwt"}', JSON.stringify(expired)))).body).toMatchObject({
      status: 401,
      code: 'token_expired',
    });
    expect((await me('rubbish')).body).toMatchObject({ status: 401, code: 'unauthenticated' });
    expect((await call(node.url, '/auth/me', { headers: { authorization: 'Basic YTpi' } })).status).toBe(401);
  });

  it('takes the cookie for reading, and for changing something only from a page of this host', async () => {
    await registerUser(node.url, 'quentin');
    const cookie = cookiesOf(await post('/auth/login', { username: 'quentin', password }));
    const host = new URL(node.url).host;
    expect((await call(node.url, '/auth/me', { headers: { cookie } })).status).toBe(200);
    const create = (name: string, headers: Record<string, string>) => post('/rooms', { name }, undefined, { cookie, ...headers });
    expect((await create('no origin', {})).body).toMatchObject({ status: 403, code: 'forbidden' });
    expect((await create('foreign', { origin: 'https://elsewhere.example' })).status).toBe(403);
    expect((await create('sandboxed', { origin: 'null' })).status).toBe(403);
    expect((await create('own', { origin: `http://${host}` })).status).toBe(201);
  });
});
