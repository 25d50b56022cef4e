import { setTimeout as delay } from 'node:timers/promises';
import { microseconds } from './histogram.js';

/**
 * Open loop: the moments at which messages are due are fixed beforehand (a Poisson process, the same in each run), and a message's latency counts
 * from there: when something stalls, what comes late because of it shows as late.
 * @param send is called for the n-th message when it is due, or as soon after as can be; `dueAt` in µs
 */
export async function onSchedule(perSecond: number, stop: AbortSignal, send: (dueAt: number, n: number) => void): Promise<void> {
  const random = repeatableRandom(20_260_101);
  let dueAt = microseconds();
  for (let n = 0; !stop.aborted; n++) {
    dueAt += (-Math.log(1 - random()) / perSecond) * 1_000_000;
    const waitMs = (dueAt - microseconds()) / 1_000;
    if (waitMs > 0) await delay(waitMs);
    if (!stop.aborted) send(dueAt, n);
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32, public domain). */
function repeatableRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
