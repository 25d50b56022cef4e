import { spawnSync } from 'node:child_process';

/** What they import is not of the tests' world: a hook of jest, or a decorator's types, would end them at once. */
it.each(['scripts/chaos.ts', 'scripts/cluster.ts', 'bench/bench.ts'])('%s starts outside of jest, and says how it is used', (script) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['node_modules/.bin/tsx', script, '--help'], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^Usage: /);
});
