import { setImmediate as turn } from 'node:timers/promises';
import { InSlices } from './in-slices.js';

it('does everything in order, of a turn no more than its slice, and lets others have their turns in between', async () => {
  const done: (number | string)[] = [];
  const slices = new InSlices<number>(3, (piece) => void done.push(piece));
  for (let piece = 0; piece < 9; piece++) slices.put(piece);
  slices.after(() => done.push('all'));
  expect(done).toEqual([]);
  for (let n = 0; !done.includes('all'); n++) {
    await turn();
    done.push(`turn ${n}`);
    if (n === 0) slices.put(9);
  }
  await turn();
  expect(done.filter((entry) => typeof entry === 'number')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  // At the end of the slice that had the last of them, in which the next piece may be too.
  expect(done.indexOf('all') - done.indexOf(8)).toBeGreaterThan(0);
  expect(done.indexOf('all') - done.indexOf(8)).toBeLessThanOrEqual(2);
  const perTurn = done
    .join(' ')
    .split(/turn \d/)
    .map((entries) => entries.match(/\b\d\b/g)?.length ?? 0);
  expect(Math.max(...perTurn)).toBeLessThanOrEqual(3);
});

it('what is put by the work itself is done in a later turn', async () => {
  const done: number[] = [];
  const slices: InSlices<number> = new InSlices(10, (piece) => {
    done.push(piece);
    if (piece < 3) slices.put(piece + 1);
  });
  slices.put(1);
  await turn();
  expect(done).toEqual([1]);
  await turn();
  await turn();
  expect(done).toEqual([1, 2, 3]);
});

it('calls back for nothing too, but not at once', async () => {
  let calls = 0;
  const slices = new InSlices<number>(10, () => undefined);
  slices.after(() => calls++);
  expect(calls).toBe(0);
  await turn();
  expect(calls).toBe(1);
});
