import { signed, signedToken } from '../../test/support/people.js';
import { loadConfig } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { AccessTokens } from './access-tokens.js';

const secret = 'a secret of the tests, of more than 32 bytes';
const tokens = (overrides: Record<string, string> = {}) => new AccessTokens(loadConfig({ JWT_ACCESS_SECRET: secret, ...overrides }));
const person = { userId: '01890000-0000-7000-8000-000000000001', username: 'ann', sessionId: '01890000-0000-7000-8000-000000000002' };
const ann = { id: person.userId, name: person.username, sessionId: person.sessionId };
const nowS = () => Math.floor(Date.now() / 1_000);

function refusal(token: string): string {
  try {
    tokens().verify(token);
    return 'accepted';
  } catch (error) {
    return error instanceof ClientError ? error.code : 'another error';
  }
}

const decoded = (token: string) =>
  token
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as object);

it('a token says who it was issued to and until when, by whom, for whom, and what it is', async () => {
  const before = Date.now();
  const token = await tokens().issue(person);
  const identity = tokens().verify(token);
  expect(identity).toMatchObject(person);
  expect(identity.expiresAtMs).toBeGreaterThan(before + 1_798_000);
  expect(identity.expiresAtMs).toBeLessThanOrEqual(Date.now() + 1_800_000);
  const [header, claims] = decoded(token);
  expect(header).toEqual({ alg: 'HS256', typ: 'at+jwt' });
  expect(claims).toMatchObject({ iss: 'trunkline', aud: 'trunkline', iat: expect.any(Number) });
});

it('an expired token is told from one that is not ours', () => {
  expect(refusal(signedToken(ann, { exp: nowS() - 10 }))).toBe('token_expired');
  expect(refusal(signedToken(ann, { exp: 0, iat: 0 }))).toBe('token_expired');
});

it('a token of a node whose clock is up to a minute ahead is accepted', () => {
  expect(refusal(signedToken(ann, { iat: nowS() + 50 }))).toBe('accepted');
  expect(refusal(signedToken(ann, { iat: nowS() + 50, nbf: nowS() + 50 }))).toBe('accepted');
});

it('parameters and claims that ask for nothing are passed over', () => {
  expect(refusal(signedToken(ann, { jti: 'x', scope: 'all' }, { kid: 'one' }))).toBe('accepted');
});

describe('refuses, signed with the right key,', () => {
  const claims: [name: string, claims: object][] = [
    ...[9e15, 9e12, 1e308, 253_402_300_800, -1, -1e308, 1.5, nowS() + 60.5, String(nowS() + 60), null, true, [], {}, undefined].map(
      (exp): [string, object] => [`exp ${JSON.stringify(exp)}`, { exp }],
    ),
    ...[nowS() + 75, 9e15, -1, 0.5, String(nowS()), null, undefined].map((iat): [string, object] => [
      `iat ${JSON.stringify(iat)}`,
      { iat },
    ]),
    ...[nowS() + 75, 9e15, -1, 0.5, 'now', null].map((nbf): [string, object] => [`nbf ${JSON.stringify(nbf)}`, { nbf }]),
    ...['elsewhere', '', 'Trunkline', ['trunkline'], null, 1, undefined].flatMap((other): [string, object][] => [
      [`iss ${JSON.stringify(other)}`, { iss: other }],
      [`aud ${JSON.stringify(other)}`, { aud: other }],
    ]),
    ...['ann', '', person.userId.toUpperCase().replace('0189', '0A89'), `${person.userId} `, 7, null, undefined].flatMap(
      (id): [string, object][] => [
        [`sub ${JSON.stringify(id)}`, { sub: id }],
        [`sid ${JSON.stringify(id)}`, { sid: id }],
      ],
    ),
    ...['', 'a\0b', '\ud800', 'x'.repeat(257), 7, null, undefined].map((name): [string, object] => [
      `name ${JSON.stringify(name)}`,
      { name },
    ]),
  ];
  it.each(claims)('%s', (_name, changed) => expect(refusal(signedToken(ann, changed))).toBe('unauthenticated'));

  const headers: [name: string, header: object][] = [
    ['a critical extension', { crit: ['exp'], exp: 1 }],
    ['an unencoded payload', { crit: ['b64'], b64: false }],
    ['an empty list of critical extensions', { crit: [] }],
    ['a crit of null', { crit: null }],
    ...['JWT', 'at+JWT ', 'logout+jwt', '', null, ['at+jwt'], undefined].map((typ): [string, object] => [
      `typ ${JSON.stringify(typ)}`,
      { typ },
    ]),
    ...['none', 'HS512', 'RS256', 'hs256', '', null, undefined].map((alg): [string, object] => [`alg ${JSON.stringify(alg)}`, { alg }]),
  ];
  it.each(headers)('%s', (_name, header) => expect(refusal(signedToken(ann, {}, header))).toBe('unauthenticated'));

  const withExp = (json: string) => JSON.stringify(decoded(signedToken(ann, { exp: 0 }))[1]).replace('"exp":0', `"exp":${json}`);
  const texts: [name: string, header: string, payload: string][] = [
    ['a header that is null', 'null', '{}'],
    ['a header that is no JSON', '{', '{}'],
    ['a payload that is no JSON', '{"alg":"HS256","typ":"at+jwt"}', '{'],
    ...['null', '[]', '7', '""', ''].map((payload): [string, string, string] => [
      `the payload ${payload}`,
      '{"alg":"HS256","typ":"at+jwt"}',
      payload,
    ]),
    ['a time of many levels', '{"alg":"HS256","typ":"at+jwt"}', withExp(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)],
    ['a time beyond all numbers', '{"alg":"HS256","typ":"at+jwt"}', withExp('1e999')],
    ['a time twice, the last beyond all numbers', '{"alg":"HS256","typ":"at+jwt"}', withExp('1,"exp":1e999')],
  ];
  it.each(texts)('%s', (_name, header, payload) => expect(refusal(signed(header, payload))).toBe('unauthenticated'));
});

it('refuses what another key or another algorithm signed, and what is no token', async () => {
  const foreign = await tokens({ JWT_ACCESS_SECRET: 'another secret, also of more than 32 bytes' }).issue(person);
  const [header = '', payload = ''] = signedToken(ann).split('.');
  const unsigned = `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.${payload}.`;
  for (const token of [foreign, unsigned, `${header}.${payload}.`, '', '.', '..', 'a.b.c', '\0', '💥'.repeat(1_000)])
    expect(refusal(token)).toBe('unauthenticated');
});
