import { readdir, readFile } from 'node:fs/promises';
import { getPriority } from 'node:os';
import { Passwords } from './passwords.js';

const passwords = new Passwords();
afterAll(() => passwords.onApplicationShutdown());

it('a password matches its own hash, however its letters are composed, and no other', async () => {
  const hash = await passwords.hash('pa\u0308ssword');
  expect(await passwords.check('pässword', hash)).toEqual({ matches: true });
  expect(await passwords.check('password', hash)).toEqual({ matches: false });
  expect(await passwords.check('pässword', undefined)).toEqual({ matches: false });
});

it('a hash that argon2 0.45 wrote, whose parameters stand in another order, matches its password', async () => {
  const stored = '$argon2id$v=19$m=19456,p=1,t=2$I6azJW60vv+NcUXoj2LwAg$4471uN2QZacWix3Hvp/vRZ3IetTHd3vA8c+b4BJpzhE';
  expect(await passwords.check('pa\u0308ssword', stored)).toMatchObject({ matches: true });
  expect(await passwords.check('password', stored)).toEqual({ matches: false });
});

it('a stored hash that is none is an error of its own call', async () => {
  const others = Promise.all(Array.from({ length: 2 }, (_, n) => passwords.hash(`password ${n}`)));
  await expect(passwords.check('x', 'no hash')).rejects.toThrow('must contain a $');
  expect(new Set(await others).size).toBe(2);
});

it('when the process that hashes ends, who waits for it is told, and the next are served by another', async () => {
  if (process.platform !== 'linux') return; // it looks into /proc
  const fragile = new Passwords();
  const first = await startedBy(() => fragile.hash('x'));
  const waiting = Promise.allSettled(Array.from({ length: 3 }, () => fragile.hash('x')));
  process.kill(first, 'SIGKILL');
  // What it had in hand, and on a machine of few cores the others had yet to be given to it.
  const ended = { status: 'rejected', reason: { code: 'unavailable' } };
  const outcomes = await waiting;
  expect(outcomes[0]).toMatchObject(ended);
  for (const outcome of outcomes.filter(({ status }) => status === 'rejected')) expect(outcome).toMatchObject(ended);
  const hashes = await Promise.all(Array.from({ length: 8 }, (_, n) => fragile.hash(`password ${n}`)));
  expect(new Set(hashes).size).toBe(8);
  await fragile.onApplicationShutdown();
});

it('what waits when the node ends is refused, and may be tried on another node', async () => {
  const ending = new Passwords();
  await ending.hash('x');
  const waiting = Promise.allSettled(Array.from({ length: 6 }, () => ending.hash('x')));
  await ending.onApplicationShutdown();
  const outcomes = await waiting;
  expect(outcomes.at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'unavailable' } });
});

it('what hashes gives way to the node, in all its threads', async () => {
  if (process.platform !== 'linux') return;
  const fresh = new Passwords();
  const child = await startedBy(() => fresh.hash('x'));
  const threads = (await readdir(`/proc/${child}/task`)).map(Number);
  // V8's own threads, that were there before the first line ran, are idle: of those that argon2 may run on there are four.
  const gaveWay = threads.filter((id) => getPriority(id) === getPriority() + 10);
  expect(gaveWay.length).toBeGreaterThanOrEqual(5);
  expect(gaveWay).toContain(child);
  await fresh.onApplicationShutdown();
});

/** @returns the id of the process that is there afterwards and was not before */
async function startedBy(call: () => Promise<unknown>): Promise<number> {
  const children = async () => (await readFile(`/proc/self/task/${process.pid}/children`, 'utf8')).split(' ').filter(Boolean).map(Number);
  const before = await children();
  await call();
  return (await children()).find((pid) => !before.includes(pid)) ?? Number.NaN;
}
