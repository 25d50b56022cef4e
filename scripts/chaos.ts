/** `npm run chaos`: rounds of faults on three nodes, each judged by the checker. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { thisMachine } from '../bench/machine.js';
import { campaign, type Plan } from '../test/chaos/campaign.js';
import { faultNames, type FaultName } from '../test/chaos/faults.js';
import { harmOf, reliabilityPage, type PlayedRound, type Sabotage } from '../test/chaos/reliability.js';
import { playRound, type RoundResult } from '../test/chaos/round.js';
import { protections, type ProtectionName } from '../test/chaos/sabotage/protections.js';
import { SmallWorld } from '../test/chaos/sabotage/sabotage.js';
import { createWorld, type World } from '../test/chaos/world.js';

interface Options {
  seed: number;
  faults?: FaultName[][];
  all?: true;
  sabotage?: true;
  minutes?: number;
  report?: string;
  out: string;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('must be a whole number.');
  return Number(text);
}

/** `a,b + c` are two rounds: one of a, and one of b and c at once. */
function faultsNamed(list: string): FaultName[][] {
  return list.split(',').map((mixture) =>
    mixture.split('+').map((wanted) => {
      const found = faultNames.find((name) => name === wanted.trim());
      if (found === undefined)
        throw new InvalidArgumentError(`there is no fault '${wanted.trim()}'. There are:\n  ${faultNames.join('\n  ')}`);
      return found;
    }),
  );
}

const options = new Command('npm run chaos --')
  .description('Breaks three nodes and their PostgreSQL while clients talk, and checks that everything promised held.')
  .option('--seed <n>', 'where the dice begin', wholeNumber, Date.now() % 1_000_000)
  .option('--faults <a,b+c>', 'those, one after the other, or with a plus at once (default: drawn by the dice)', faultsNamed)
  .addOption(new Option('--all', 'every fault alone, then in mixtures, and so on until the time is over').conflicts('faults'))
  .option('--sabotage', 'plays builds of the server with one protection taken out, which the checker has to find')
  .option('--minutes <m>', 'how long to go on (default: 2, with --all 25, and as long as it takes to have each once)', wholeNumber)
  .option('--report <file>', 'write a table of what the run came to, such as docs/reliability.md')
  .option('--out <folder>', 'for the records of the rounds that broke a promise, and the log of the nodes', '.data/chaos')
  .addHelpText('after', `\nFaults:\n  ${faultNames.join('\n  ')}`)
  .parse()
  .opts<Options>();

const sendsPerSecond = 2_000;
const startedAt = new Date();
const until = Date.now() + (options.minutes ?? (options.all === true ? 25 : 2)) * 60_000;
const isOver = (): boolean => Date.now() > until;
const rounds: PlayedRound[] = [];
const sabotage: Sabotage[] = [];
let machine: Awaited<ReturnType<typeof thisMachine>> | undefined;
const nothing = (): Promise<void> => Promise.resolve();
let close: () => Promise<void> = nothing;
let interruption: Promise<void> | undefined;

await mkdir(options.out, { recursive: true });
const logFile = join(options.out, 'nodes.log');
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void (interruption ??= interrupted()));
try {
  if (options.sabotage !== true || options.all === true || options.faults !== undefined) await play();
  if (options.sabotage === true) await playSabotage();
} catch (error) {
  await interruption; // ends the process: that all breaks then is no news
  await report(true);
  throw error;
} finally {
  status('');
  await close().catch(() => undefined);
}
await report(false);
process.exitCode = sumUp() ? 0 : 1;

async function play(): Promise<void> {
  let world = await open();
  for (const { faults, seed } of plans()) {
    status(`round ${rounds.length + 1}, ${clock()}: ${faults.join(' + ')} (seed ${seed})`);
    const result = await playRound(world, faults, seed, { sendsPerSecond, recordTo: join(options.out, 'last-round.jsonl') });
    const { history: _, violations, ...round } = result;
    rounds.push({ ...round, harm: harmOf(violations) });
    await tell(result);
    if (violations.length === 0) continue;
    await world.close(); // what a broken round left may break the next
    world = await open();
  }
  await world.close();
  close = nothing;
}

function* plans(): Generator<Plan> {
  if (options.all === true) return yield* campaign(options.seed, isOver);
  const chosen = options.faults ?? faultNames.map((name) => [name]);
  for (let round = 0; round < (options.faults?.length ?? 1) || !isOver(); round++) {
    const seed = options.seed + round;
    yield { faults: chosen[(options.faults === undefined ? seed : round) % chosen.length] ?? [], seed };
  }
}

async function open(): Promise<World> {
  const world = await createWorld(logFile);
  close = () => world.close();
  machine ??= await thisMachine(world.postgres.url);
  return world;
}

async function playSabotage(): Promise<void> {
  const world = await SmallWorld.create(logFile);
  close = () => world.close();
  machine ??= await thisMachine(world.postgres.url);
  for (const name of Object.keys(protections) as ProtectionName[]) {
    status(`a server without ${name}`);
    const { breaks } = protections[name];
    const { whole, sabotaged } = await world.try(name);
    const foundIn = (violations: typeof whole) => violations.some(({ invariant }) => invariant === breaks);
    const result = { without: name, breaks, isFound: foundIn(sabotaged), foundInWhole: foundIn(whole) };
    sabotage.push(result);
    print(
      `without ${name}: ${breaks} ${result.isFound ? 'is found broken' : 'SHOULD BE FOUND BROKEN'}${result.foundInWhole ? ', AND IS BROKEN WITH IT' : ''}`,
    );
  }
  await world.close();
  close = nothing;
}

async function interrupted(): Promise<void> {
  status('');
  await report(true);
  await close().catch(() => undefined);
  process.exit(130);
}

async function report(isPartial: boolean): Promise<void> {
  if (options.report === undefined || machine === undefined) return;
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
  const page = await reliabilityPage({
    command: ['npm run chaos --', ...process.argv.slice(2).map((word) => (/\s/.test(word) ? `'${word}'` : word))].join(' '),
    seed: options.seed,
    startedAt,
    minutes: Math.round((Date.now() - startedAt.getTime()) / 60_000),
    machine,
    version,
    isPartial,
    rounds,
    sabotage,
  });
  await writeFile(options.report, page);
  print(`${isPartial ? 'What there is so far' : 'The table'} is in ${options.report}.`);
}

/** @returns whether all is as it should be */
function sumUp(): boolean {
  const broken = rounds.filter(({ harm }) => Object.values(harm).some((times) => times > 0)).length;
  const acked = rounds.reduce((sum, round) => sum + round.acked, 0);
  if (rounds.length > 0) print(`\nRounds: ${rounds.length}, ${acked} sends acked, ${broken} rounds in which a promise was broken`);
  return broken === 0 && sabotage.every(({ isFound, foundInWhole }) => isFound && !foundInWhole);
}

async function tell({ faults, seed, history, violations, acked, refused, received, recoveryS, skipped }: RoundResult): Promise<void> {
  const name = faults.join(' + ');
  const verdict = violations.length === 0 ? 'held' : `BROKEN: ${[...new Set(violations.map(({ invariant }) => invariant))].join(', ')}`;
  print(
    `${name} (seed ${seed}): ${acked} acked, ${refused} refused, ${received} received, recovered in ${recoveryS.toFixed(1)} s: ${verdict}`,
  );
  for (const why of skipped) print(`  without its fault: ${why}`);
  if (violations.length === 0) return;
  for (const { invariant, what, witness } of violations.slice(0, 5)) {
    print(`  ${invariant} ${what}`);
    for (const event of witness) print(`     ${JSON.stringify(event)}`);
  }
  const path = join(options.out, `${seed}-${name.replaceAll(/\W+/g, '-')}.json`);
  await writeFile(path, JSON.stringify({ faults, ...history, violations }));
  print(`  the whole record: ${path}`);
}

function print(text: string): void {
  status('');
  process.stdout.write(`${text}\n`);
}

/** One line that is written over; nothing where nobody looks. */
function status(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`);
}

function clock(): string {
  const s = Math.round((Date.now() - startedAt.getTime()) / 1_000);
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}
