import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FaultName } from './faults.js';
import { playRound } from './round.js';
import { createWorld, type World } from './world.js';

/** A short selection of what `npm run chaos -- --all` plays: one of each kind of thing that breaks. */
const selection: [FaultName, number][] = [
  ['node killed', 11],
  ['LISTEN ended', 12],
  ['answers of PostgreSQL lost', 13],
  ['PostgreSQL crashed', 14],
  ['answers to clients lost', 15],
];

/** A quarter of what chaos offers: other tests share the cores. */
const sendsPerSecond = 500;

describe('three nodes and their PostgreSQL', () => {
  let world: World;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trunkline-rounds-'));
    world = await createWorld(join(folder, 'nodes.log'));
  }, 60_000);
  afterAll(async () => {
    await world.close();
    await rm(folder, { recursive: true });
  }, 30_000);

  it.each(selection)(
    'keep every promise while this happens: %s (seed %i)',
    async (fault, seed) => {
      const { violations, acked, received } = await playRound(world, [fault], seed, { sendsPerSecond });
      expect(violations).toEqual([]);
      expect(acked).toBeGreaterThan(500);
      expect(received).toBeGreaterThan(acked);
    },
    120_000,
  );
});
