/**
 * npm run fuzz: coverage-guided fuzzing of what reads foreign bytes, by Jazzer.js (libFuzzer). Each file of test/fuzz/targets gives a function
 * that throws where a promise is broken. The exit code is 1 where one did; the input is written to .fuzz/, for a test of its own. Jazzer.js needs
 * glibc 2.38 where it runs on Linux (Debian 13, Ubuntu 24.04): `.ci/run` shows how an older system borrows one.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import pLimit from 'p-limit';

const root = fileURLToPath(new URL('..', import.meta.url));
const targetsFolder = join(root, 'test/fuzz/targets');
const findingsFolder = join(root, '.fuzz');
const hangS = 5;

const names = (await readdir(targetsFolder)).map((file) => basename(file, '.ts'));
const program = new Command('npm run fuzz --')
  .argument('[targets...]', `of ${names.join(', ')}; all where none is given`)
  .option('--seconds <n>', 'time for each target', positive, 10)
  .option('--seed <n>', 'of the choices of the fuzzer (default: another one each time)', positive)
  .parse();
const options = program.opts<{ seconds: number; seed?: number }>();
const unknown = program.args.filter((name) => !names.includes(name));
if (unknown.length > 0) program.error(`There is no target ${unknown.join(', ')}: choose of ${names.join(', ')}.`);

const atOnce = pLimit(availableParallelism());
const outcomes = await Promise.all((program.args.length > 0 ? program.args : names).map((name) => atOnce(() => fuzz(name))));
process.exitCode = outcomes.every((isGood) => isGood) ? 0 : 1;

/** @returns false where the target threw, hung, or could not be run; then all that was printed was printed here too */
async function fuzz(name: string): Promise<boolean> {
  const corpus = await mkdtemp(join(tmpdir(), `trunkline-fuzz-${name}-`));
  try {
    const { seeds } = (await import(join(targetsFolder, `${name}.ts`))) as { seeds: readonly (string | Buffer)[] };
    await Promise.all(seeds.map((seed, n) => writeFile(join(corpus, `seed-${n}`), seed)));
    await mkdir(findingsFolder, { recursive: true });
    const jazzer = [fileURLToPath(import.meta.resolve('@jazzer.js/core/dist/cli.js')), `test/fuzz/targets/${name}.js`, corpus];
    const measured = ['--includes', join(root, 'src/'), '--includes', '/ws/lib/'];
    const limits = [`-max_total_time=${options.seconds}`, `-timeout=${hangS}`, `-artifact_prefix=${join(findingsFolder, `${name}-`)}`];
    const seed = options.seed === undefined ? [] : [`-seed=${options.seed}`];
    // By its name, so that who puts another `node` first in PATH, on a newer libc, gets that one.
    const child = spawn('node', ['--import', 'tsx', ...jazzer, ...measured, '--', ...limits, ...seed], {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [output, [code]] = await Promise.all([text(child.stderr), once(child, 'exit') as Promise<[number | null]>]);
    const isGood = code === 0;
    const [, runs = '0', seconds = '0'] = /^Done (\d+) runs in (\d+) second/m.exec(output) ?? [];
    const [, edges = '0'] = /^#\d+\s+DONE\s+cov: (\d+)/m.exec(output) ?? [];
    process.stdout.write(
      isGood ? `${name}: ${runs} inputs in ${seconds} s, ${edges} edges of the code reached\n` : `${output}\n${name}: failed\n`,
    );
    return isGood;
  } finally {
    await rm(corpus, { recursive: true, force: true });
  }
}

function positive(given: string): number {
  const value = Number(given);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('It must be a whole number above 0.');
  return value;
}
