import { ClientError } from '../protocol/errors.js';
import { boundedQueue } from './bounded-queue.js';

it('runs no more than so many at once, in order, and refuses what is beyond the queue', async () => {
  const { run, refuseWhenFull } = boundedQueue({ atOnce: 2, waitingMax: 3, retryAfterMs: 5_000 });
  const started: number[] = [];
  const finish: (() => void)[] = [];
  const work = (n: number) => run(() => new Promise<number>((resolve) => (started.push(n), finish.push(() => resolve(n)))));
  const accepted = [0, 1, 2, 3, 4].map(work);
  await expect(work(5)).rejects.toMatchObject({ code: 'overloaded', details: { retryAfterMs: 5_000 } });
  expect(refuseWhenFull).toThrow(ClientError);
  await new Promise(setImmediate);
  expect(started).toEqual([0, 1]);
  for (let n = 0; n < 5; n++) {
    finish[n]?.();
    await accepted[n];
    await new Promise(setImmediate);
    expect(started).toEqual([0, 1, 2, 3, 4].slice(0, n + 3));
  }
  expect(refuseWhenFull).not.toThrow();
});

it('work that fails makes room like work that succeeds', async () => {
  const { run } = boundedQueue({ atOnce: 1, waitingMax: 0, retryAfterMs: 1 });
  await expect(run(() => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  await expect(run(() => Promise.resolve('fine'))).resolves.toBe('fine');
});
