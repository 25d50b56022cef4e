import fc from 'fast-check';
import { FairQueue, type QueueLimits } from './fair-queue.js';

const limits: QueueLimits = { atOnce: 2, atOncePerSite: 1, waitingMax: 4, waitMaxMs: 60_000, retryAfterMs: 5_000 };
const overloaded = { status: 'rejected', reason: expect.objectContaining({ code: 'overloaded', details: { retryAfterMs: 5_000 } }) };

/** Work that ends when it is told to. */
function desk(queue: FairQueue) {
  const started: string[] = [];
  const finish = new Map<string, () => void>();
  return {
    started,
    put: (name: string, site: string, network = site) => {
      const done = queue.run({ site, network }, () => {
        started.push(name);
        return new Promise<string>((resolve) => finish.set(name, () => resolve(name)));
      });
      done.catch(() => undefined);
      return done;
    },
    end: async (name: string) => {
      finish.get(name)?.();
      finish.delete(name);
      await new Promise(setImmediate);
    },
    running: () => [...finish.keys()],
  };
}

it('sites take turns, and in a site its networks, in the order in which they came', async () => {
  const { started, put, end, running } = desk(new FairQueue({ ...limits, atOnce: 1, waitingMax: 100 }));
  const all = [
    ...['a1', 'a2', 'a3'].map((name) => put(name, 'flood', 'a')),
    ...['b1', 'b2'].map((name) => put(name, 'flood', 'b')),
    put('c1', 'calm'),
    put('d1', 'quiet'),
  ];
  await new Promise(setImmediate);
  for (let left = all.length; left > 0; left--) await end(running()[0] ?? '');
  expect(started).toEqual(['a1', 'a2', 'c1', 'd1', 'b1', 'a3', 'b2']);
  expect(await Promise.all(all)).toEqual(['a1', 'a2', 'a3', 'b1', 'b2', 'c1', 'd1']);
});

it('one site has so many running, though there is room for others', async () => {
  const { put, running, end } = desk(new FairQueue(limits));
  const first = [put('a1', 'a'), put('a2', 'a')];
  await new Promise(setImmediate);
  expect(running()).toEqual(['a1']);
  const other = put('b1', 'b');
  await new Promise(setImmediate);
  expect(running()).toEqual(['a1', 'b1']);
  await end('a1');
  expect(running()).toEqual(['b1', 'a2']);
  await end('a2');
  await end('b1');
  await Promise.all([...first, other]);
});

it('where too many wait, the network with the most loses its last; who has none waiting is taken', async () => {
  const { put, end, running } = desk(new FairQueue(limits));
  const flood = ['f0', 'f1', 'f2', 'f3', 'f4', 'f5'].map((name, n) => put(name, 'flood', n === 1 ? 'other' : 'heavy'));
  const [calm, calmToo] = [put('c1', 'calm'), put('c2', 'calm')];
  for (let n = 0; n < 9; n++) await end(running()[0] ?? '');
  const outcomes = await Promise.allSettled([...flood, calm, calmToo]);
  const refused = outcomes.flatMap(({ status }, n) => (status === 'rejected' ? [n] : []));
  expect(refused).toEqual([4, 5]);
  expect(outcomes[4]).toEqual(overloaded);
});

it('what waits for too long is refused, and takes nobody’s place', async () => {
  const { put, end } = desk(new FairQueue({ ...limits, waitMaxMs: 20 }));
  const first = put('a1', 'a');
  const [outcome] = await Promise.allSettled([put('a2', 'a')]);
  expect(outcome).toEqual(overloaded);
  await end('a1');
  expect(await first).toBe('a1');
  const next = put('a3', 'a');
  await new Promise(setImmediate);
  await end('a3');
  expect(await next).toBe('a3');
});

it('work that fails makes room like work that succeeds', async () => {
  const queue = new FairQueue({ ...limits, atOnce: 1, waitingMax: 0 });
  const origin = { site: 'a', network: 'a' };
  await expect(queue.run(origin, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
  await expect(queue.run(origin, () => Promise.resolve('fine'))).resolves.toBe('fine');
});

it('whatever comes, nothing is lost, the limits hold, and nothing is kept of what is done', async () => {
  const step = fc.record({ site: fc.constantFrom('a', 'b', 'c'), network: fc.constantFrom('1', '2'), ends: fc.nat(3) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const queue = new FairQueue(limits);
      const { put, end, running } = desk(queue);
      const outcomes: Promise<unknown>[] = [];
      for (const [n, { site, network, ends }] of steps.entries()) {
        outcomes.push(put(`${site}${n}`, site, `${site}${network}`).catch(() => 'refused'));
        await new Promise(setImmediate);
        const sites = running().map((name) => name[0]);
        expect(sites.length).toBeLessThanOrEqual(limits.atOnce);
        expect(new Set(sites).size).toBe(sites.length);
        for (let k = 0; k < ends; k++) await end(running()[0] ?? '');
      }
      while (running().length > 0) await end(running()[0] ?? '');
      await Promise.all(outcomes);
      expect((queue as unknown as { sites: Map<string, unknown> }).sites.size).toBe(0);
    }),
    { numRuns: 50 },
  );
});
