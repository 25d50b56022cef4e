import { startNode, type TestNode } from '../../test/support/node.js';
import { callAnything, type Answer } from '../../test/support/any-call.js';
import { call, registerUser, testPassword } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';

const allowed = 'https://chat.example.org';
const other = 'https://evil.example.org';

let db: TestDatabase;
let listing: TestNode;
let plain: TestNode;

beforeAll(async () => {
  db = await createTestDatabase();
  listing = await startNode(db.url, { ALLOWED_ORIGINS: `https://first.example.org, ${allowed}` });
  plain = await startNode(db.url);
});
afterAll(async () => {
  await Promise.all([listing.close(), plain.close()]);
  await db.drop();
});

const preflight = (node: TestNode, origin: string): Promise<Answer> =>
  callAnything(node.url, '/rooms/1', {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'PATCH', 'access-control-request-headers': 'authorization,content-type' },
  });
const originOf = ({ headers }: Answer) => headers.get('access-control-allow-origin');
const allowedOf = (answer: Answer) => [originOf(answer), answer.headers.get('access-control-allow-credentials')];

describe('a page at another origin', () => {
  it('that is listed may ask by every method, with a token, a body and cookies', async () => {
    const answer = await preflight(listing, allowed);
    expect(answer.status).toBe(204);
    expect(allowedOf(answer)).toEqual([allowed, 'true']);
    expect(answer.headers.get('access-control-allow-headers')).toBe('authorization,content-type');
    const methods = answer.headers.get('access-control-allow-methods')?.split(', ');
    expect(methods).toEqual(expect.arrayContaining(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']));
    expect(answer.headers.get('vary')?.toLowerCase()).toContain('origin');
  });

  it('that is listed may act with the cookies of its reader, and read the answer, also of a refusal', async () => {
    await registerUser(listing.url, 'ann');
    const headers = { origin: allowed };
    const login = await call(listing.url, '/auth/login', { body: { username: 'ann', password: testPassword }, headers });
    expect(allowedOf(login)).toEqual([allowed, 'true']);
    const cookie = login.headers
      .getSetCookie()
      .map((line) => line.split(';')[0])
      .join('; ');
    const created = await call(listing.url, '/rooms', { body: { name: 'from a page' }, headers: { ...headers, cookie } });
    expect([created.status, ...allowedOf(created)]).toEqual([201, allowed, 'true']);
    const refused = await call(listing.url, '/rooms', { headers });
    expect([refused.status, ...allowedOf(refused)]).toEqual([401, allowed, 'true']);
    expect(refused.headers.get('access-control-expose-headers')).toBe('x-request-id, retry-after');
  });

  it('that is not listed may neither ask nor read', async () => {
    for (const origin of [other, 'null', `${allowed}.evil.example`]) {
      expect(originOf(await preflight(listing, origin))).toBeNull();
      expect(originOf(await call(listing.url, '/rooms', { headers: { origin } }))).toBeNull();
    }
  });

  it('is not allowed where none is listed', async () => {
    expect(originOf(await preflight(plain, allowed))).toBeNull();
    expect(originOf(await call(plain.url, '/rooms', { headers: { origin: allowed } }))).toBeNull();
  });
});
