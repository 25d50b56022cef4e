import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { protections, type ProtectionName } from './protections.js';
import { SmallWorld } from './sabotage.js';

describe('the checker', () => {
  let world: SmallWorld;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trunkline-sabotage-'));
    world = await SmallWorld.create(join(folder, 'nodes.log'));
  }, 60_000);
  afterAll(async () => {
    await world.close();
    await rm(folder, { recursive: true });
  }, 30_000);

  it.each(Object.keys(protections) as ProtectionName[])(
    'finds what a server does without this: %s',
    async (name) => {
      const { whole, sabotaged } = await world.try(name);
      const { breaks } = protections[name];
      expect(whole.filter(({ invariant }) => invariant === breaks)).toEqual([]);
      expect(sabotaged.map(({ invariant }) => invariant)).toContain(breaks);
    },
    60_000,
  );
});
