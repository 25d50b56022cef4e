/** What `npm ci` installs runs on every Node of `engines`, without a compiler. `.ci/run` does it with the oldest and the newest Node. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { minVersion, satisfies } from 'semver';

const execute = promisify(execFile);
const root = new URL('../../', import.meta.url);
const textOf = (name: string): Promise<string> => readFile(fileURLToPath(new URL(name, root)), 'utf8');

interface Locked {
  readonly engines?: { readonly node?: string };
  readonly hasInstallScript?: boolean;
  /** npm leaves it out, without a word, where it does not fit. */
  readonly optional?: boolean;
}

let engines: string;
let allowScripts: Readonly<Record<string, boolean>>;
let locked: [path: string, Locked][];
beforeAll(async () => {
  ({
    engines: { node: engines },
    allowScripts,
  } = JSON.parse(await textOf('package.json')));
  locked = Object.entries((JSON.parse(await textOf('package-lock.json')) as { packages: Record<string, Locked> }).packages);
});

it('the oldest Node that package.json allows is the one that .ci/run installs and the README names', async () => {
  const oldest = minVersion(engines)?.version;
  expect(await textOf('.ci/run')).toContain(`\noldest_node=${oldest}\n`);
  expect(await textOf('README.md')).toContain(`Node ${oldest?.replace(/\.0$/, '')} or later`);
});

it('every package in the lock allows the oldest Node of each line that package.json allows', () => {
  const oldestOfLines = engines.split('||').map((range) => minVersion(range)?.version ?? '');
  expect(oldestOfLines).toHaveLength(3);
  const refusals = locked.flatMap(([path, { engines: needs, optional }]) => {
    if (needs?.node === undefined || optional === true) return [];
    return oldestOfLines.filter((node) => !satisfies(node, needs.node ?? '*')).map((node) => `${path} on ${node}: ${needs.node}`);
  });
  expect(refusals).toEqual([]);
});

it('every install script in the lock is allowed or denied by name', () => {
  const names = locked.flatMap(([path, { hasInstallScript }]) =>
    hasInstallScript === true ? [path.replace(/^.*node_modules\//, '')] : [],
  );
  expect(names.toSorted()).toEqual(Object.keys(allowScripts).toSorted());
});

it('argon2 0.44 hashes with the binary that it ships (that of 0.45 ends Node 20 to 22.13 with a segmentation fault)', async () => {
  const env = { ...process.env, PREBUILDS_ONLY: '1' }; // read by node-gyp-build, which else takes what was compiled here
  const { stdout } = await execute(process.execPath, ['-e', "require('argon2').hash('x').then(console.log)"], {
    env,
    cwd: fileURLToPath(root),
  });
  expect(stdout).toMatch(/^\$argon2id\$/);
});
