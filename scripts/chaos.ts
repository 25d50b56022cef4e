/** `npm run chaos`: rounds of faults on three nodes, each judged by the checker. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { faults, type FaultName } from '../test/chaos/faults.js';
import { playRound, type RoundResult } from '../test/chaos/round.js';
import { createWorld } from '../test/chaos/world.js';

const names = Object.keys(faults) as FaultName[];

interface Options {
  seed: number;
  faults?: FaultName[];
  all?: true;
  minutes: number;
  out: string;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('must be a whole number.');
  return Number(text);
}

function faultNames(list: string): FaultName[] {
  return list.split(',').map((wanted) => {
    const found = names.find((name) => name === wanted.trim());
    if (found === undefined) throw new InvalidArgumentError(`there is no fault '${wanted.trim()}'. There are:\n  ${names.join('\n  ')}`);
    return found;
  });
}

const command = new Command('chaos')
  .description('Breaks three nodes and their PostgreSQL while clients talk, and checks that everything promised held.')
  .option('--seed <n>', 'where the dice begin', wholeNumber, Date.now() % 1_000_000)
  .option('--faults <a,b>', 'which to choose from, separated by commas', faultNames)
  .addOption(new Option('--all', 'each once, in their order').conflicts('minutes'))
  .option('--minutes <m>', 'how long to go on with faults drawn by the dice', wholeNumber, 2)
  .option('--out <folder>', 'for the records of the rounds that broke a promise, and the log of the nodes', '.data/chaos')
  .addHelpText('after', `\nFaults:\n  ${names.join('\n  ')}`);
const options = command.parse().opts<Options>();

await mkdir(options.out, { recursive: true });
const world = await createWorld(join(options.out, 'nodes.log'));
const results: RoundResult[] = [];
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void world.close().finally(() => process.exit(1)));
try {
  const until = Date.now() + options.minutes * 60_000;
  const chosen = options.faults ?? names;
  for (let round = 0; options.all === true ? round < chosen.length : Date.now() < until; round++) {
    const seed = options.seed + round;
    const fault = chosen[options.all === true ? round : seed % chosen.length] as FaultName;
    const result = await playRound(world, fault, seed, join(options.out, 'last-round.jsonl'));
    results.push(result);
    await tell(result);
  }
} finally {
  await world.close();
}
const broken = results.filter(({ violations }) => violations.length > 0);
const acked = results.reduce((sum, result) => sum + result.acked, 0);
console.log(`\nRounds: ${results.length}, ${acked} sends acked, ${broken.length} rounds in which a promise was broken`);
process.exitCode = broken.length > 0 ? 1 : 0;

async function tell({ fault, seed, history, violations, acked: sends, refused, received, recoveryS, skipped }: RoundResult): Promise<void> {
  const verdict = violations.length === 0 ? 'held' : `BROKEN: ${[...new Set(violations.map(({ invariant }) => invariant))].join(', ')}`;
  console.log(
    `${fault} (seed ${seed}): ${sends} acked, ${refused} refused, ${received} received, recovered in ${recoveryS.toFixed(1)} s: ${verdict}`,
  );
  if (skipped !== undefined) console.log(`  without its fault: ${skipped}`);
  if (violations.length === 0) return;
  for (const { invariant, what, witness } of violations.slice(0, 5)) {
    console.log(`  ${invariant} ${what}`);
    for (const event of witness) console.log(`     ${JSON.stringify(event)}`);
  }
  const path = join(options.out, `${seed}-${fault.replaceAll(/\W+/g, '-')}.json`);
  await writeFile(path, JSON.stringify({ fault, ...history, violations }));
  console.log(`  the whole record: ${path}`);
}
