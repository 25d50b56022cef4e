import { leaseMs, Leases, renewEveryMs } from './leases.js';

const lease = (nodeId: string, remainingMs: number) => ({ nodeId, remainingMs });

describe('a node', () => {
  it('is taken for dead when its lease is not renewed, whether it expired or is gone', () => {
    const leases = new Leases();
    expect(leases.poll([lease('a', leaseMs), lease('b', leaseMs)], 0)).toEqual([]);
    let now = 0;
    for (let left = leaseMs - renewEveryMs; left > 0; left -= renewEveryMs) {
      now += renewEveryMs;
      expect(leases.poll([lease('a', left), lease('c', leaseMs)], now)).toEqual([]);
    }
    now += renewEveryMs;
    expect(leases.poll([lease('a', 0), lease('c', leaseMs)], now).toSorted()).toEqual(['a', 'b']);
    leases.forget(['a', 'b']);
    expect(leases.poll([lease('c', leaseMs)], now + renewEveryMs)).toEqual([]);
  });

  it('that renews while it is suspected is alive again', () => {
    const leases = new Leases();
    leases.poll([lease('a', 100)], 0);
    leases.poll([lease('a', 100)], 0);
    leases.poll([lease('a', 100)], renewEveryMs);
    expect(leases.poll([lease('a', leaseMs)], 2 * renewEveryMs)).toEqual([]);
  });

  it('of which only a signal or an old row is known has a lease’s time to be seen', () => {
    const leases = new Leases();
    leases.poll([], 0);
    leases.meet('a', 0);
    leases.meet('a', leaseMs - 1); // the first time counts
    for (let now = renewEveryMs; now < leaseMs; now += renewEveryMs) expect(leases.poll([lease('b', -60_000)], now)).toEqual([]);
    expect(leases.poll([lease('b', -60_000)], leaseMs)).toEqual(['a']);
    expect(leases.poll([lease('b', -60_000)], leaseMs + renewEveryMs)).toEqual(['a', 'b']);
  });

  it('is given a lease’s time after the database was away, when nobody could renew', () => {
    const leases = new Leases();
    leases.poll([lease('a', leaseMs)], 0);
    expect(leases.poll([lease('a', -50_000)], 60_000)).toEqual([]);
    expect(leases.poll([lease('a', leaseMs - renewEveryMs)], 60_000 + renewEveryMs)).toEqual([]);
  });
});
