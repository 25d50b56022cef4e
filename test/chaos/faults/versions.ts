/** An upgrade: nodes of the version before the newest migration, beside those of this one, while the schema goes from the one to the other. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { testSecret } from '../../support/node.js';
import { seconds, type World } from '../world.js';
import { Skipped, type Fault } from './scene.js';

const run = promisify(execFile);
const parts = ['src', 'migrations', 'package.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json', '.swcrc'];

interface Version {
  readonly main: string;
  /** Migrations that it does not have. */
  readonly missing: number;
  remove(): Promise<void>;
}

/** @throws Skipped where there is no history to build it from */
async function versionBefore(): Promise<Version> {
  const folder = await mkdtemp(join(tmpdir(), 'trunkline-before-'));
  const remove = () => rm(folder, { recursive: true });
  try {
    const { stdout: commit } = await run('git', ['log', '-1', '--format=%H', '--', 'migrations']);
    await run('bash', ['-o', 'pipefail', '-c', 'git archive "$1^" "${@:2}" | tar -x -C "$0"', folder, commit.trim(), ...parts]);
  } catch (error) {
    await remove();
    throw new Skipped('there is no history of the code here, to build the version before from', { cause: error });
  }
  await symlink(resolve('node_modules'), join(folder, 'node_modules'));
  await run(resolve('node_modules/.bin/nest'), ['build'], { cwd: folder });
  const [ours, theirs] = await Promise.all([readdir('migrations'), readdir(join(folder, 'migrations'))]);
  return { main: join(folder, 'dist/main.js'), missing: ours.filter((file) => !theirs.includes(file)).length, remove };
}

const migrateDown = ({ postgres }: World, count: number) =>
  run(process.execPath, ['dist/migrate.js', 'down', String(count)], {
    env: { ...process.env, DATABASE_URL: postgres.url, JWT_ACCESS_SECRET: testSecret },
  });

export const versionFaults = {
  'upgrade from the version before': async ({ world }) => {
    const before = await versionBefore();
    const [first, ...others] = world.nodes;
    await Promise.all(world.nodes.map((node) => node.stop('SIGTERM')));
    if (before.missing > 0) await migrateDown(world, before.missing);
    await Promise.all(world.nodes.map((node) => node.start({ main: before.main })));
    await seconds(3);
    await first?.stop('SIGTERM');
    await first?.start(); // migrates, while the others serve
    await seconds(2);
    for (const main of [before.main, undefined]) {
      for (const node of others) {
        await node.stop('SIGTERM');
        await node.start(main === undefined ? {} : { main });
      }
    }
    await before.remove();
  },
} as const satisfies Record<string, Fault>;
