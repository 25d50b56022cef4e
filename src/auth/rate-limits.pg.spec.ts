import { jest } from '@jest/globals';
import { eventually } from '../../test/support/eventually.js';
import { startNode, testSecret, type TestNode } from '../../test/support/node.js';
import { startProcessNode } from '../../test/support/process-node.js';
import { startProxy } from '../../test/support/proxy.js';
import { type Answer } from '../../test/support/any-call.js';
import { call, registerUser, testPassword as password } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { Database } from '../database/database.js';
import { KeyedHash } from './keyed-hash.js';
import { rateLimitKey } from './rate-limits.js';

let db: TestDatabase;
let nodes: TestNode[];
let turn = 0;
let networks = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  const limited = { RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.1' };
  nodes = await Promise.all([startNode(db.url, limited), startNode(db.url, limited)]);
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await db.drop();
});

/** On the two nodes in turn. */
const post = (path: string, body: object, from: string, token?: string): Promise<Answer> =>
  call(nodes[turn++ % 2]?.url ?? '', path, { body, headers: { 'x-forwarded-for': from }, ...(token !== undefined && { token }) });
const logIn = (username: string, from: string, guess = 'a wrong guess') => post('/auth/login', { username, password: guess }, from);
const somewhere = () => `198.51.100.${++networks}`;
/** How many of the answers have which status. */
const tally = (answers: readonly Answer[]) => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};
const times = <T>(count: number, make: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => make(n));
const expectLimited = ({ status, headers, body }: Answer, withinS: number): void => {
  expect([status, body]).toEqual([429, expect.objectContaining({ code: 'rate_limited', detail: expect.any(String) })]);
  const seconds = Number(headers.get('retry-after'));
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThanOrEqual(withinS);
};

describe('logging in', () => {
  it('a name can be tried ten times from one network with a wrong password, over all nodes and at whatever pace', async () => {
    await registerUser(nodes[0]?.url ?? '', 'ann');
    const [here, there] = [somewhere(), somewhere()];
    expect(tally(await Promise.all(times(30, () => logIn('ann', here))))).toEqual({ 401: 10, 429: 20 });
    expectLimited(await logIn('ANN', here, password), 900);
    expect((await logIn('ann', there, password)).status).toBe(200);
    expect((await logIn('somebody else', here)).status).toBe(401);
  });

  it('the right password does not count', async () => {
    await registerUser(nodes[0]?.url ?? '', 'bob');
    const here = somewhere();
    for (let n = 0; n < 12; n++) expect((await logIn('bob', here, password)).status).toBe(200);
    expect(tally(await Promise.all(times(12, () => logIn('bob', here))))).toEqual({ 401: 10, 429: 2 });
  });

  it('one network can be wrong a hundred times, whatever the names; a customer of IPv6 is one network', async () => {
    const answers = await Promise.all(times(110, (n) => logIn(`nobody ${n}`, `2001:db8::${n.toString(16)}`)));
    expect(tally(answers)).toEqual({ 401: 100, 429: 10 });
    expectLimited(await logIn('one more', '2001:db8::ffff'), 900);
    expect((await logIn('one more', '2001:db8:0:1::1')).status).toBe(401);
  }, 120_000);

  it('of IPv6, the 56 and the 48 bits around a network can be wrong four and sixteen times as often', async () => {
    const from = (site: number, subnet: number) => `2001:db8:${site.toString(16)}:${subnet.toString(16)}::1`;
    // As if all but the last few had been tried already.
    const tried = async (factor: string, key: string, points: number) =>
      db.sql.query('INSERT INTO rate_limits (key, points, expire) VALUES ($1, $2, $3)', [
        rateLimitKey('loginFromNetwork', key).replace(':', `X${factor}:`),
        points,
        Date.now() + 900_000,
      ]);
    await tried('4', '2001:db8:a:100::/56', 395);
    await tried('16', '2001:db8:a::/48', 1_590);
    const many = (count: number, subnetOf: (n: number) => number) =>
      Promise.all(times(count, (n) => logIn(`whoever ${n} ${subnetOf(n)}`, from(10, subnetOf(n)))));
    expect(tally(await many(8, (n) => 0x100 + n))).toEqual({ 401: 5, 429: 3 });
    expect(tally(await many(8, (n) => 0x200 + 0x100 * n))).toEqual({ 401: 5, 429: 3 });
    expectLimited(await logIn('whoever', from(10, 0xffff)), 900);
    expect((await logIn('whoever', from(11, 1))).status).toBe(401);
  });

  it('guesses from many networks lock the owner of a name out of no network of before, where it can still be guessed ten times', async () => {
    const owner = await registerUser(nodes[0]?.url ?? '', 'julia');
    const [home, away] = ['2001:db8:b:1::1', '203.0.113.77'];
    expect((await logIn('julia', home, password)).status).toBe(200);
    const guesses = await Promise.all(times(12, (n) => times(10, () => logIn('julia', `2001:db8:c0${n}:1::1`))).flat());
    expect(tally(guesses)).toEqual({ 401: 100, 429: 20 });
    expectLimited(await logIn('julia', away, password), 3_600);
    expect((await logIn('julia', '2001:db8:b:1:ffff::2', password)).status).toBe(200);
    const byEmail = { email: owner.email, password };
    expect((await post('/auth/login', byEmail, home)).status).toBe(200);
    expect(tally(await Promise.all(times(15, () => logIn('julia', home))))).toEqual({ 401: 10, 429: 5 });
    expectLimited(await logIn('julia', home, password), 900);
  }, 120_000);

  it('one site of IPv6 can’t use up what all may try of a name', async () => {
    await registerUser(nodes[0]?.url ?? '', 'karl');
    const guesses = await Promise.all(times(12, (n) => times(10, () => logIn('karl', `2001:db8:d:${n}::1`))).flat());
    expect(tally(guesses)).toEqual({ 401: 20, 429: 100 });
    expect((await logIn('karl', somewhere(), password)).status).toBe(200);
  }, 120_000);

  it('guesses of others in its network don’t keep a user out who was there before', async () => {
    await registerUser(nodes[0]?.url ?? '', 'lena');
    const [here, stranger] = ['203.0.113.90', await registerUser(nodes[0]?.url ?? '', 'mike')];
    expect((await logIn('lena', here, password)).status).toBe(200);
    await Promise.all(times(100, (n) => logIn(`nobody at all ${n}`, here)));
    expectLimited(await logIn(stranger.username, here, password), 900);
    expect((await logIn('lena', here, password)).status).toBe(200);
  }, 120_000);

  it('a user is known from the twenty networks that were used last, which the table does not tell, until the user is gone', async () => {
    const { id } = await registerUser(nodes[0]?.url ?? '', 'nora');
    for (let n = 0; n < 22; n++) expect((await logIn('nora', `2001:db8:e:${n}::1`, password)).status).toBe(200);
    const { rows } = await db.sql.query<{ network: Buffer }>(
      'SELECT network FROM known_networks WHERE user_id = $1 ORDER BY last_login_at',
      [id],
    );
    expect(rows).toHaveLength(20);
    const hash = (network: string) => new KeyedHash({ JWT_ACCESS_SECRET: testSecret }).of(network);
    expect(rows.map(({ network }) => network.toString('hex'))).toEqual(times(20, (n) => hash(`2001:db8:e:${n + 2}::/64`).toString('hex')));
    await db.sql.query('DELETE FROM users WHERE id = $1', [id]);
    expect((await db.sql.query('SELECT FROM known_networks WHERE user_id = $1', [id])).rowCount).toBe(0);
  }, 120_000);

  it('a flood of right passwords from one site of IPv6 keeps nobody else from logging in', async () => {
    const [flooder, calm] = [await registerUser(nodes[0]?.url ?? '', 'oscar'), await registerUser(nodes[0]?.url ?? '', 'paula')];
    const url = nodes[0]?.url ?? '';
    const logInHere = (username: string, from: string) =>
      call(url, '/auth/login', { body: { username, password }, headers: { 'x-forwarded-for': from } });
    const medianOfCalm = async () => {
      const took: number[] = [];
      for (let n = 0; n < 9; n++) {
        const start = performance.now();
        expect((await logInHere(calm.username, somewhere())).status).toBe(200);
        took.push(performance.now() - start);
      }
      return took.toSorted((a, b) => a - b)[4] ?? Number.NaN;
    };
    const quietMs = await medianOfCalm();
    const statuses: number[] = [];
    const end = new AbortController();
    const flood = times(150, async (n) => {
      while (!end.signal.aborted) statuses.push((await logInHere(flooder.username, `2001:db8:f:${n % 6}::1`)).status);
    });
    await eventually(() => statuses.length > 50, 'the flood', 60_000);
    expect(await medianOfCalm()).toBeLessThan(6 * quietMs);
    end.abort();
    await Promise.all(flood);
    expect(new Set(statuses)).toEqual(new Set([200]));
  }, 120_000);

  it('a name can be tried a hundred times from everywhere together; what a network may not try does not count', async () => {
    await registerUser(nodes[0]?.url ?? '', 'carol');
    const answers = await Promise.all(times(9, somewhere).flatMap((network) => times(15, () => logIn('carol', network))));
    expect(tally(answers)).toEqual({ 401: 90, 429: 45 });
    expect(tally(await Promise.all(times(15, () => logIn('carol', somewhere()))))).toEqual({ 401: 10, 429: 5 });
    expectLimited(await logIn('carol', somewhere(), password), 3_600);
  }, 120_000);

  it('a device that goes on with an old password locks out nobody else of its network', async () => {
    await registerUser(nodes[0]?.url ?? '', 'henry');
    const here = somewhere();
    expect(tally(await Promise.all(times(150, () => logIn('irene', here))))).toEqual({ 401: 10, 429: 140 });
    expect((await logIn('henry', here, password)).status).toBe(200);
    const wrong = await Promise.all(times(100, (n) => logIn(`somebody ${n}`, here)));
    expect(tally(wrong)).toEqual({ 401: 90, 429: 10 });
  }, 120_000);

  it('the table does not say who was tried from where', async () => {
    await logIn('mallory', somewhere());
    await logIn('mallory', '2001:db8:eeee::1');
    const { rows } = await db.sql.query('SELECT * FROM rate_limits');
    expect(rows.length).toBeGreaterThanOrEqual(5); // two networks, one name, and the name from each
    expect(JSON.stringify(rows)).not.toMatch(/mallory|198\.51|2001:db8/);
  });
});

it('a network can register thirty times an hour', async () => {
  const here = somewhere();
  await registerUser(nodes[0]?.url ?? '', 'dave');
  const register = (from: string) => post('/auth/register', { username: 'dave', email: 'other@test.local', password }, from);
  expect(tally(await Promise.all(times(35, () => register(here))))).toEqual({ 409: 30, 429: 5 });
  expectLimited(await register(here), 3_600);
  expect((await register(somewhere())).status).toBe(409);
});

it('a session can be refreshed sixty times a minute, and garbage counts against nobody’s session', async () => {
  const user = await registerUser(nodes[0]?.url ?? '', 'erin');
  const other = await registerUser(nodes[0]?.url ?? '', 'fred');
  const refresh = (refreshToken: string) => post('/auth/refresh', { refreshToken }, '203.0.113.1');
  expect(tally(await Promise.all(times(65, () => refresh(user.refreshToken))))).toEqual({ 200: 60, 429: 5 });
  expectLimited(await refresh(user.refreshToken), 60);
  expect((await refresh('garbage')).status).toBe(401);
  expect((await refresh(other.refreshToken)).status).toBe(200);
});

it('who holds a session can guess its password ten times', async () => {
  const user = await registerUser(nodes[0]?.url ?? '', 'grace');
  const change = (current_password: string) =>
    post('/auth/password', { current_password, new_password: password }, somewhere(), user.token);
  expect((await change(password)).status).toBe(200);
  expect(tally(await Promise.all(times(14, () => change('a wrong guess'))))).toEqual({ 403: 10, 429: 4 });
  expectLimited(await change(password), 900);
});

it('who is refused again and again costs the database nothing more, whatever the names', async () => {
  const [node] = nodes;
  const refused = (username: string) =>
    call(node?.url ?? '', '/auth/login', { body: { username, password }, headers: { 'x-forwarded-for': '2001:db8:ffff::1' } });
  await Promise.all(times(40, () => refused('x'))); // twice what a name may
  await Promise.all(times(210, (n) => refused(`name ${n}`))); // and a network
  const database = node?.app.get(Database) as Database;
  const query = jest.spyOn(database, 'query');
  const answers = await Promise.all(times(50, (n) => refused(n % 2 === 0 ? 'x' : `another ${n}`)));
  expect(tally(answers)).toEqual({ 429: 50 });
  // As long as it is refused, and not as long as no query is made.
  for (const { headers } of answers) expect(Number(headers.get('retry-after'))).toBeGreaterThan(600);
  expect(query.mock.calls.filter(([statement]) => JSON.stringify(statement).includes('rate_limits'))).toEqual([]);
  query.mockRestore();
}, 60_000);

it('without the database nobody is let through uncounted: the answer is unavailable', async () => {
  const proxy = await startProxy(db.url);
  const node = await startNode(proxy.through(db.url), { RATE_LIMITS: 'on' });
  proxy.swallow();
  proxy.cut();
  const { status, headers, body } = await call(node.url, '/auth/login', { body: { username: 'ann', password } });
  expect([status, headers.get('retry-after'), body]).toEqual([503, '1', expect.objectContaining({ code: 'unavailable' })]);
  proxy.heal();
  proxy.cut();
  await node.close();
  await proxy.close();
}, 60_000);

it('may be off, which the log says at the start', async () => {
  const node = await startProcessNode({ DATABASE_URL: db.url, RATE_LIMITS: 'off' });
  const answers = await Promise.all(
    times(120, () => call(node.url, '/auth/login', { body: { username: 'ann', password: 'a wrong guess' } })),
  );
  expect(tally(answers)).toEqual({ 401: 120 });
  await node.stop();
  expect(node.output().match(/rate limits are off/g)).toHaveLength(1);
  const limited = await startProcessNode({ DATABASE_URL: db.url, RATE_LIMITS: 'on' });
  await limited.stop();
  expect(limited.output()).not.toContain('rate limits are off');
}, 120_000);
