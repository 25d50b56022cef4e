import fc from 'fast-check';
import { loadConfig } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { UserLimits } from './user-limits.js';

function limitsOf(overrides: Record<string, string> = {}) {
  const limits = new UserLimits(loadConfig({ ...overrides }));
  const clock = { ms: 1_000_000.123 };
  limits.now = () => clock.ms;
  const waitOf = (userId = 'ann', content = 'x') => limits.message(userId, content)?.details.retryAfterMs;
  const room = (work: () => Promise<unknown> = () => Promise.resolve(), userId = 'ann') => limits.count('rooms', userId, work);
  return { limits, clock, waitOf, room };
}

it('lets through a burst, then as many a second as may, and says how long to wait for the next one', () => {
  const { clock, waitOf } = limitsOf({ USER_MESSAGES_PER_S: '10', USER_MESSAGES_BURST: '5' });
  expect(Array.from({ length: 6 }, () => waitOf())).toEqual([undefined, undefined, undefined, undefined, undefined, 100]);
  clock.ms += 99;
  expect(waitOf()).toBe(1);
  clock.ms += 1;
  expect([waitOf(), waitOf()]).toEqual([undefined, 100]);
  expect(waitOf('bob')).toBeUndefined();
  clock.ms += 60_000;
  expect(Array.from({ length: 6 }, () => waitOf() === undefined)).toEqual([true, true, true, true, true, false]);
});

it('counts bytes of UTF-8 beside messages; what is refused by one counts for neither', () => {
  const { clock, waitOf } = limitsOf({ USER_MESSAGES_BURST: '10', USER_MESSAGES_PER_S: '1', USER_BYTES_PER_HOUR: '1048576' });
  const quarter = '😀'.repeat(65_536);
  for (let n = 0; n < 4; n++) expect(waitOf('ann', quarter)).toBeUndefined();
  for (let n = 0; n < 20; n++) expect(waitOf('ann', quarter)).toBe(900_000);
  expect(waitOf('ann', 'a')).toBe(4); // a byte is 3.4 ms
  clock.ms += 4;
  for (let n = 0; n < 6; n++) expect(waitOf('ann', '')).toBeUndefined(); // of ten, four are used
  expect(waitOf('ann', '')).toBe(996);
});

it('whoever waits as long as it was told passes at the very next try, at any time and rate', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.integer({ min: 1, max: 500 }),
      fc.double({ min: 0, max: 3e10, noNaN: true }),
      fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 50 }),
      (perSecond, burst, start, pauses) => {
        const { clock, waitOf } = limitsOf({ USER_MESSAGES_PER_S: `${perSecond}`, USER_MESSAGES_BURST: `${burst}` });
        clock.ms = start;
        for (let n = 0; n < burst; n++) expect(waitOf()).toBeUndefined();
        for (const pause of pauses) {
          clock.ms += pause;
          const waitMs = waitOf();
          if (waitMs === undefined) continue;
          expect(waitMs).toBeGreaterThan(0);
          clock.ms += waitMs;
          expect(waitOf()).toBeUndefined();
        }
      },
    ),
  );
});

it('counts before the work, and gives back what changed nothing for sure', async () => {
  const { room } = limitsOf({ USER_ROOMS_PER_HOUR: '2' });
  const taken = () => Promise.reject(new ClientError('conflict'));
  for (let n = 0; n < 5; n++) await expect(room(taken)).rejects.toMatchObject({ code: 'conflict' });
  for (let n = 0; n < 5; n++) expect(await room(() => Promise.resolve('already'))).toBe('already');
  const many = await Promise.allSettled(Array.from({ length: 5 }, () => room()));
  expect(many.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected', 'rejected']);
  await expect(room()).rejects.toMatchObject({ code: 'rate_limited', details: { retryAfterMs: 1_800_000 } });
});

it('does not give back where nobody knows', async () => {
  const { room } = limitsOf({ USER_ROOMS_PER_HOUR: '1' });
  await expect(room(() => Promise.reject(new ClientError('unavailable')))).rejects.toMatchObject({ code: 'unavailable' });
  await expect(room()).rejects.toMatchObject({ code: 'rate_limited' });
});

it('forgets users whose buckets are full again, and no others', () => {
  const { clock, waitOf, limits } = limitsOf({ USER_MESSAGES_PER_S: '1', USER_MESSAGES_BURST: '1', USER_BYTES_PER_HOUR: '1099511627776' });
  for (let n = 0; n < 50_000; n++) {
    clock.ms += 10;
    expect(waitOf(`user ${n}`)).toBeUndefined();
  }
  expect(waitOf('user 49999')).toBe(1_000);
  expect((limits as unknown as { users: Map<string, unknown> }).users.size).toBeLessThan(2_500);
});

it('are taken away by RATE_LIMITS=off', async () => {
  const { waitOf, room } = limitsOf({ RATE_LIMITS: 'off', USER_MESSAGES_BURST: '1', USER_ROOMS_PER_HOUR: '1' });
  for (let n = 0; n < 10; n++) {
    expect(waitOf()).toBeUndefined();
    await room();
  }
});
