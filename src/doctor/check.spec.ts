import { judgeClock, judgeQueue } from './bus-checks.js';
import { fail, ok, reasonOf, runChecks, warn, type Check, type Finding } from './check.js';
import { judgeEncryption } from './server-checks.js';
import { settingsChecks } from './settings-checks.js';
import { readConfig } from '../config.js';

const run = async (checks: readonly Check<undefined>[]) => {
  const lines: string[] = [];
  await runChecks(checks, undefined, (name, { verdict, text }) => lines.push(`${verdict} ${name}: ${text}`), 50);
  return lines;
};

it('a check that throws or does not end is a failure of its own, and the others are made all the same', async () => {
  expect(
    await run([
      { name: 'throws', run: () => Promise.reject(new AggregateError([new Error('refused'), new Error('away')])) },
      { name: 'hangs', run: () => new Promise(() => undefined) },
      { name: 'says two things', run: () => [...ok('one'), ...warn('two')] },
    ]),
  ).toEqual(['fail throws: refused; away', 'fail hangs: no answer within 0.05 s', 'ok says two things: one', 'warn says two things: two']);
});

it('what comes after a gate that fails is not made', async () => {
  const after: Check<undefined> = { name: 'after', run: () => ok('made') };
  expect(await run([{ name: 'gate', isGate: true, run: () => fail('shut') }, after])).toEqual(['fail gate: shut']);
  expect(await run([{ name: 'gate', isGate: true, run: () => warn('ajar') }, after])).toEqual(['warn gate: ajar', 'ok after: made']);
});

it('no address that may hold a password comes into a reason', () => {
  expect(reasonOf(new Error('bad postgres://me:secret@host/db here'))).toBe('bad postgres://(hidden) here');
});

it.each<[string, [askedAt: number, answeredAt: number, serverAt: number][], Finding['verdict'], RegExp]>([
  ['the same', [[1_000, 1_010, 1_005]], 'ok', /within a second/],
  ['far apart, as far as a slow answer can tell', [[1_000, 6_000, 5_500]], 'ok', /within a second/],
  ['the quickest of several answers tells it', [[1_000, 9_000, 8_000], [9_000, 9_002, 13_002]], 'warn', /4000 ms ahead of/], // prettier-ignore
  ['behind', [[100_000, 100_010, 98_500]], 'warn', /1500 ms behind/],
  ['far behind', [[100_000, 100_010, 60_000]], 'fail', /40000 ms behind/],
])('clocks: %s', (_, samples, verdict, text) => {
  const found = judgeClock(samples.map(([askedAt, answeredAt, serverAt]) => ({ askedAt, answeredAt, serverAt })));
  expect(found).toEqual([{ verdict, text: expect.stringMatching(text) }]);
});

it('the notification queue is looked at from a tenth on, and fails from a half on', () => {
  expect([0, 0.09, 0.1, 0.49, 0.5, 1].map((usage) => judgeQueue(usage)[0]?.verdict)).toEqual(['ok', 'ok', 'warn', 'warn', 'fail', 'fail']);
});

it('a connection without TLS is well in a private network alone', () => {
  const verdicts = (encrypted: boolean, ...addresses: (string | null)[]) =>
    addresses.map((at) => judgeEncryption(encrypted, at)[0]?.verdict);
  expect(verdicts(false, null, '127.0.0.1', '10.1.2.3', 'fd00::1', '192.168.0.9')).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
  expect(verdicts(false, '8.8.8.8', '2606:4700::1')).toEqual(['warn', 'warn']);
  expect(verdicts(true, '8.8.8.8')).toEqual(['ok']);
});

describe('settings', () => {
  const random = 'q3bT9vX0zKf7mR2wY8sLc1nJ5hG4dPaE6uVoZiBt';
  const good = { DATABASE_URL: 'postgres://app:0b8fd21c6e1a4d97@db/chat', JWT_ACCESS_SECRET: random };
  const judge = async (env: Record<string, string>) => {
    const lines: string[] = [];
    await runChecks(settingsChecks, readConfig({ ...good, ...env }), (name, { verdict, text }) => {
      if (verdict !== 'ok') lines.push(`${verdict} ${name}: ${text}`);
    });
    return lines;
  };

  it('that are good are all ok', async () => {
    expect(await judge({})).toEqual([]);
  });

  it.each<[string, Record<string, string>, RegExp]>([
    ['not allowed', { PORT: '70000' }, /^fail settings: PORT=70000: must be a whole number/],
    ['a secret that is missing', { JWT_ACCESS_SECRET: '' }, /^fail settings: JWT_ACCESS_SECRET is missing/],
    ['a secret of one character', { JWT_ACCESS_SECRET: 'x'.repeat(40) }, /^fail JWT secret: .*too few different/],
    ['a secret made up by a person', { JWT_ACCESS_SECRET: `change-me-${random}` }, /^fail JWT secret: .*made up by a person/],
    ['a heartbeat that a proxy cuts', { HEARTBEAT_MS: '60000' }, /^warn settings together: HEARTBEAT_MS=60000 is not below 60000/],
    ['tokens that outlive sessions', { ACCESS_TOKEN_TTL_S: '600', REFRESH_TOKEN_TTL_S: '600' }, /^warn settings together: ACCESS_TOKEN/],
    ['refresh beyond the end', { SESSION_MAX_AGE_S: '3600' }, /^warn settings together: REFRESH_TOKEN_TTL_S/],
    [
      'to listen without writing',
      { DATABASE_URL: '', DATABASE_LISTEN_URL: 'postgres://db/chat' },
      /^warn settings together: DATABASE_LISTEN/,
    ],
    ['slow sockets that miss their pongs', { HEARTBEAT_MS: '5000' }, /^warn settings together: SLOW_SOCKET/],
    [
      'a password like its user',
      { DATABASE_URL: 'postgres://chatroom-owner:chatroom-owner@db/chat' },
      /^warn passwords: the password in DATABASE_URL/,
    ],
    ['a short password', { DATABASE_LISTEN_URL: 'postgres://app:hunter2@db/chat' }, /^warn passwords: the password in DATABASE_LISTEN_URL/],
    ['no rate limits', { RATE_LIMITS: 'off' }, /^warn rate limits: /],
  ])('%s', async (_, env, line) => {
    const lines = await judge(env);
    expect(lines).toEqual([expect.stringMatching(line)]);
    for (const secret of [random, '0b8fd21c6e1a4d97', 'hunter2']) expect(lines.join('')).not.toContain(secret);
  });
});
