import { campaign } from './campaign.js';
import { faultNames, type FaultName } from './faults.js';
import type { Violation } from './history.js';
import { harmOf, reliabilityPage, type PlayedRound, type Run } from './reliability.js';

const machine = { cores: 2, model: 'some', memoryGiB: 4, system: 'Linux 6', node: 'v20.19.0', postgres: '18.1' };
const run = { command: 'npm run chaos -- --all', seed: 7, startedAt: new Date(0), minutes: 1, machine, version: '0.1.0', sabotage: [] };

const round = (faults: FaultName[], violations: Violation[] = [], skipped: string[] = []): PlayedRound => ({
  faults,
  seed: 7,
  acked: 1_000,
  received: 10_000,
  recoveryS: 0.5,
  skipped,
  harm: harmOf(violations),
});
const rowOf = (page: string, fault: string): string[] =>
  page
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .find(([, name]) => name === fault) ?? [];
const page = (rounds: PlayedRound[], more: Partial<Run> = {}): Promise<string> =>
  reliabilityPage({ ...run, isPartial: false, rounds, ...more });

describe('the page of a run of chaos', () => {
  it('sums up the rounds of each fault, alone and in mixtures, and says what its zeroes are worth', async () => {
    const text = await page([round(['node killed']), round(['node killed']), round(['deadlocks', 'node killed'])]);
    expect(rowOf(text, 'node killed').slice(2, -1)).toEqual(['2', '1', '2,000', '0', '0', '0', '0', '0', '0.5 s']);
    expect(rowOf(text, '**all**').slice(2, 5)).toEqual(['3', '', '3,000']);
    expect(text).toContain('at most 1,000 in a million');
    expect(text).not.toContain('interrupted');
  });

  it('tells what was broken, and what kept a part from being played', async () => {
    const receive = { type: 'receive', at: 0, conn: 1, user: 'u', room: 'r', digest: 'd', via: 'live', epoch: 'e' } as const;
    const again: Violation = {
      invariant: 'I5',
      what: 'again',
      witness: [
        { ...receive, seq: 5 },
        { ...receive, seq: 5 },
      ],
    };
    const left: Violation = {
      invariant: 'I5',
      what: 'left out',
      witness: [
        { ...receive, seq: 5 },
        { ...receive, seq: 7 },
      ],
    };
    const text = await page([round(['deadlocks'], [again, left]), round(['disk full'], [], ['no mount'])], { isPartial: true });
    expect(rowOf(text, 'deadlocks').slice(5, 7)).toEqual(['1', '1']);
    expect(rowOf(text, 'disk full')[4]).toBe('not had');
    expect(text).toContain('disk full: no mount');
    expect(text).toContain('interrupted');
    expect(text).toContain('broken in 1 of 2 rounds');
  });
});

describe('the campaign', () => {
  it('plays every fault alone, whatever the time, and then mixtures of different kinds', () => {
    expect([...campaign(1, () => true)].map(({ faults }) => faults)).toEqual(faultNames.map((name) => [name]));
    let rest = faultNames.length + 20;
    const mixed = [...campaign(1, () => --rest < faultNames.length)].slice(faultNames.length);
    expect(mixed.length).toBeGreaterThan(0);
    for (const { faults } of mixed) expect(new Set(faults).size).toBe(Math.max(2, faults.length));
  });
});
