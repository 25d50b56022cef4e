import { connect } from 'node:net';
import fc from 'fast-check';
import { startNode, type TestNode } from '../../test/support/node.js';
import { type Answer, type Call } from '../../test/support/any-call.js';
import { call, createRoom, registerUser } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';

let db: TestDatabase;
let node: TestNode;
let token: string;
let room: string;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startNode(db.url);
  token = (await registerUser(node.url, 'ann')).token;
  room = await createRoom(node.url, token, 'room');
});
afterAll(async () => {
  await node.close();
  await db.drop();
});

const ask = (path: string, more: Call = {}): Promise<Answer> => call(node.url, path, { token, ...more });

/** Sends bytes that `fetch` would not, and reads to the end of the connection. */
function exchange(text: string): Promise<string> {
  const { port } = new URL(node.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1', () => socket.write(text));
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(answer));
  });
}

it('a failure is a problem document that carries the id of the request', async () => {
  const { status, headers, body } = await ask('/nowhere');
  expect(status).toBe(404);
  expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(body).toEqual({
    type: 'urn:trunkline:error:not_found',
    title: 'There is nothing at this address.',
    status: 404,
    detail: 'There is nothing at this address.',
    code: 'not_found',
    request_id: headers.get('x-request-id'),
  });
});

it('every answer has an id of its own, whatever id the client sends', async () => {
  const ids = new Set<string | null>();
  for (const path of ['/rooms', '/rooms', '/nowhere', '/rooms/%', '/auth/me'])
    ids.add((await ask(path, { headers: { 'x-request-id': 'mine' } })).headers.get('x-request-id'));
  expect(ids.size).toBe(5);
  expect(ids).not.toContain('mine');
  expect(ids).not.toContain(null);
});

it('a database that is busy for too long is said to be so, and when to come back', async () => {
  await db.sql.query('BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE');
  const { status, headers, body } = await ask('/rooms');
  await db.sql.query('ROLLBACK');
  expect([status, headers.get('retry-after')]).toEqual([503, '1']);
  expect(body).toMatchObject({ code: 'unavailable' });
});

it('a bug of ours tells nothing but the id that finds it in the log', async () => {
  await db.sql.query('ALTER TABLE rooms RENAME TO cellar');
  const { status, headers, body } = await ask('/rooms');
  await db.sql.query('ALTER TABLE cellar RENAME TO rooms');
  expect(status).toBe(500);
  expect(body).toEqual({
    type: 'urn:trunkline:error:internal',
    title: expect.any(String),
    status: 500,
    detail: 'A bug on our side; the request id finds it in the log.',
    code: 'internal',
    request_id: headers.get('x-request-id'),
  });
});

it('every bad field is named at once, twenty at most', async () => {
  const { body } = await ask('/rooms', { body: { name: '', history: 1, description: [] } });
  expect((body as { errors: { field: string }[] }).errors.map(({ field }) => field).toSorted()).toEqual(['description', 'history', 'name']);
  const unknown = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`${'x'.repeat(80)}${n}`, n]));
  const answer = await ask('/rooms', { body: unknown });
  expect((answer.body as { errors: unknown[] }).errors).toHaveLength(20);
});

it('a body that is not JSON in UTF-8 is refused with what is wrong', async () => {
  const json = 'application/json';
  const cases: [Call, number, string][] = [
    [{ raw: '{"name":' }, 400, 'invalid_payload'],
    [{ raw: 'null' }, 400, 'invalid_payload'],
    [{ raw: '[]' }, 400, 'invalid_payload'],
    [{ raw: '"name"' }, 400, 'invalid_payload'],
    [{ raw: '1e999' }, 400, 'invalid_payload'],
    [{ raw: '' }, 400, 'invalid_payload'],
    [{ raw: '{"__proto__":{"admin":true},"name":"x"}' }, 400, 'invalid_payload'],
    [{ raw: '{"constructor":{"prototype":{"admin":true}},"name":"x"}' }, 400, 'invalid_payload'],
    [{ raw: new Uint8Array([0x7b, 0x22, 0x6e, 0xff, 0x22, 0x3a, 0x31, 0x7d]) }, 400, 'invalid_payload'],
    [{ raw: 'name=x', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, 415, 'invalid_payload'],
    [{ raw: '{"name":"x"}', headers: { 'content-type': 'text/plain' } }, 415, 'invalid_payload'],
    [{ raw: '{"name":"x"}', headers: { 'content-type': '///' } }, 415, 'invalid_payload'],
    [{ raw: `{"name":"${'x'.repeat(524_288)}"}`, headers: { 'content-type': json } }, 413, 'message_too_long'],
  ];
  for (const [request, status, code] of cases) {
    const answer = await ask('/rooms', request);
    expect([request, answer.status, answer.body]).toMatchObject([request, status, { status, code }]);
  }
});

it('more fields or levels than anything asks for are refused before they cost anything', async () => {
  const flood = Object.fromEntries(Array.from({ length: 30_000 }, (_, n) => [`x${n}`, n]));
  const bodies = [
    JSON.stringify(flood),
    `{"name":${'['.repeat(250_000)}${']'.repeat(250_000)}}`,
    `${'{"name":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
  ];
  for (const raw of bodies) expect((await ask('/rooms', { raw })).body).toMatchObject({ status: 400, code: 'invalid_payload' });
  expect((await ask(`/rooms?${'a&'.repeat(101)}`)).status).toBe(400);
  expect((await ask('/rooms', { body: { name: '"[{[{', description: '[{'.repeat(500) } })).status).toBe(201);
});

it('fields that have the names of what every object has do nothing', async () => {
  const answer = await ask('/rooms', { raw: '{"toString":1,"hasOwnProperty":1,"valueOf":null,"name":"unharmed"}' });
  expect([answer.status, answer.body]).toMatchObject([201, { name: 'unharmed' }]);
  expect((await ask('/rooms?__proto__=1&limit=1')).body).toMatchObject([{ name: 'unharmed' }]);
});

it('an empty body is none, whatever its type says', async () => {
  for (const type of ['application/json', 'application/x-www-form-urlencoded']) {
    const answer = await ask(`/rooms/${room}/join`, { method: 'POST', raw: '', headers: { 'content-type': type } });
    expect([answer.status, answer.body]).toEqual([200, { success: true }]);
  }
});

it('an address that can not be decoded, or is too long, is refused', async () => {
  for (const path of [
    '/rooms/%',
    '/rooms/%ff/join',
    `/rooms/${'x'.repeat(500)}`,
    '/rooms/%00',
    '/rooms/..%2f',
    '/rooms?limit=%ff',
    '//',
    '/rooms/__proto__',
  ]) {
    const { status, body } = await ask(path);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(body).toMatchObject({ status, code: expect.any(String), request_id: expect.any(String) });
  }
});

it('what is not HTTP gets an answer and no more', async () => {
  expect(await exchange('NONSENSE\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  expect(await exchange(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
  expect(await exchange('GET /rooms HTTP/1.1\r\nhost: x\r\ncookie: %; =; trunkline_access=%ff\r\nconnection: close\r\n\r\n')).toMatch(
    /^HTTP\/1\.1 401 /,
  );
});

it('no JSON body and no text in an address is answered with a 5xx', async () => {
  const posts = ['/auth/register', '/auth/login', '/auth/refresh', '/rooms', `/rooms/${room}/messages`];
  const keys = [
    'username',
    'email',
    'password',
    'refreshToken',
    'name',
    'description',
    'history',
    'content',
    'client_msg_id',
    '__proto__',
    'constructor',
  ];
  const value = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('\0', '\ud800', 'x'.repeat(2_000), 1e308, -0, 2 ** 63),
  );
  const body = fc.oneof(fc.jsonValue(), fc.dictionary(fc.oneof(fc.constantFrom(...keys), fc.string()), value, { maxKeys: 6 }));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...posts), body, fc.string({ unit: 'binary', maxLength: 40 }), async (path, content, text) => {
      const encoded = encodeURIComponent(text.toWellFormed());
      const answers = await Promise.all([
        ask(path, { method: 'POST', raw: JSON.stringify(content) }),
        ask(`/rooms/${encoded}/messages?cursor=${encoded}`),
        ask(`/rooms?q=${encoded}&${encoded}=${encoded}`),
      ]);
      for (const { status, body: answer, headers } of answers) {
        expect(status).toBeLessThan(500);
        if (status >= 400)
          expect([headers.get('content-type'), answer]).toMatchObject(['application/problem+json; charset=utf-8', { status }]);
      }
    }),
    { numRuns: 150 },
  );
}, 60_000);
