import { JwtService } from '@nestjs/jwt';
import { loadConfig } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { AccessTokens } from './access-tokens.js';

const secret = 'a secret of the tests, of more than 32 bytes';
const tokens = (overrides: Record<string, string> = {}) => new AccessTokens(loadConfig({ JWT_ACCESS_SECRET: secret, ...overrides }));
const person = { userId: '01890000-0000-7000-8000-000000000001', username: 'ann', sessionId: '01890000-0000-7000-8000-000000000002' };

function refusal(token: string): string {
  try {
    tokens().verify(token);
    return 'accepted';
  } catch (error) {
    return error instanceof ClientError ? error.code : 'another error';
  }
}

it('a token says who it was issued to and until when', async () => {
  const before = Date.now();
  const identity = tokens().verify(await tokens().issue(person));
  expect(identity).toMatchObject(person);
  expect(identity.expiresAtMs).toBeGreaterThan(before + 1_798_000);
  expect(identity.expiresAtMs).toBeLessThanOrEqual(Date.now() + 1_800_000);
});

it('an expired token is told from one that is not ours', async () => {
  const past = Math.floor(Date.now() / 1_000) - 10;
  const { userId: sub, username: name, sessionId: sid } = person;
  const expired = new JwtService({ secret }).sign({ sub, name, sid, exp: past });
  expect(refusal(expired)).toBe('token_expired');
});

it('refuses what another key or another algorithm signed, what lacks a claim, and what is no token', async () => {
  const { userId: sub, username: name, sessionId: sid } = person;
  const foreign = await tokens({ JWT_ACCESS_SECRET: 'another secret, also of more than 32 bytes' }).issue(person);
  const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const unsigned = `${base64({ alg: 'none', typ: 'JWT' })}.${base64({ sub, name, sid, exp: 9_999_999_999 })}.`;
  const otherAlgorithm = new JwtService({ secret }).sign({ sub, name, sid }, { algorithm: 'HS512', expiresIn: 60 });
  const withoutSession = new JwtService({ secret }).sign({ sub, name }, { expiresIn: 60 });
  const withoutExpiry = new JwtService({ secret }).sign({ sub, name, sid });
  const notAnObject = new JwtService({ secret }).sign('text');
  for (const token of [
    foreign,
    unsigned,
    otherAlgorithm,
    withoutSession,
    withoutExpiry,
    notAnObject,
    '',
    'a.b.c',
    '\0',
    '💥'.repeat(1_000),
  ]) {
    expect(refusal(token)).toBe('unauthenticated');
  }
});
