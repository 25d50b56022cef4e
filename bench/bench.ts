/**
 * npm run bench: the suites of bench/suites/, one after the other, on one PostgreSQL. Each checks that nothing was lost, doubled or put out of order,
 * and measures its own limit in the same run. The exit code is 1 where something was wrong; not for a goal that was missed.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { Command, InvalidArgumentError } from 'commander';
import { startPostgres } from './cluster.js';
import { machineLine, thisMachine, type Machine } from './machine.js';
import { figuresByName, suiteText, type Bench, type MeasuredSuite } from './report.js';
import { startRun } from './run.js';
import type { Suite } from './suite.js';
import { suites } from './suites.js';

/** With `--quick`, at most. */
const quickSeconds = { seconds: 2, warmUp: 1 };

interface Options {
  suite?: Chosen[];
  seconds: number;
  warmUp: number;
  contentChars: number;
  json?: string;
  compare?: string;
  quick: boolean;
  profile?: string;
  postgres: Record<string, string>;
}

/** A suite, and those of its parts that are wanted: all where there are none. */
interface Chosen {
  readonly suite: Suite;
  readonly parts: ReadonlySet<string>;
}

const options = new Command('npm run bench --')
  .description(
    'Measures Trunkline on one PostgreSQL: the embedded one, or the server of DATABASE_URL, where it makes databases of its own.',
  )
  .option('-s, --suite <names>', 'comma-separated suites, a part alone as suite:part, or all (default: all but the extra ones)', chosenBy)
  .option('--seconds <n>', 'measured time of each load', positive, 10)
  .option('--warm-up <n>', 'seconds of load before the measured time', positive, 3)
  .option('--content-chars <n>', 'characters of a message, 20 to 8000', positive, 50)
  .option('--json <file>', 'write the figures, with more than is printed, to a file')
  .option('--compare <file>', 'an earlier file of --json: prints the ratio of each figure to the earlier one')
  .option('--quick', 'less than a minute in all; says what it leaves out', false)
  .option('--profile <folder>', 'write a CPU profile of each process')
  .option('--postgres <name=value>', 'setting of the embedded PostgreSQL; may be repeated', setting, {})
  .addHelpText(
    'after',
    `\nSuites:\n${suites.map(helpOf).join('\n')}\n\nExamples:\n  npm run bench -- --quick\n  npm run bench -- --suite latency,end-to-end:10-rooms --seconds 30 --json figures.json`,
  )
  .parse()
  .opts<Options>();

const { seconds, warmUp } = options.quick
  ? { seconds: Math.min(options.seconds, quickSeconds.seconds), warmUp: Math.min(options.warmUp, quickSeconds.warmUp) }
  : options;
const isTerminal = process.stderr.isTTY;

/** Ends the processes of the suite, and with them the run, so that everything is stopped in its order. */
const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interruption.abort());

process.exitCode = await bench().then(
  (isRight) => (isRight ? 0 : 1),
  (error: unknown) => {
    process.stderr.write(`${interruption.signal.aborted ? 'stopped' : String((error as Error).stack)}\n`);
    return 1;
  },
);

async function bench(): Promise<boolean> {
  const earlier = options.compare === undefined ? undefined : figuresByName(JSON.parse(await readFile(options.compare, 'utf8')) as Bench);
  const chosen = (options.suite ?? choice(suites.filter(({ isExtra }) => isExtra !== true))).filter(
    ({ suite }) => !options.quick || suite.isLong !== true || options.suite !== undefined,
  );
  status('starting PostgreSQL');
  const postgres = await startPostgres(process.env['DATABASE_URL'], options.postgres);
  const measured: MeasuredSuite[] = [];
  let machine: Machine;
  try {
    machine = await thisMachine(postgres.connectionString);
    print(machineLine(machine));
    for (const [n, { suite, parts }] of chosen.entries()) {
      measured.push(await measure(suite, parts, postgres.connectionString, `${n + 1}/${chosen.length} ${suite.name}`));
      print(`\n${suiteText(measured.at(-1) as MeasuredSuite, earlier)}`);
    }
  } finally {
    status('');
    await postgres.stop();
  }
  const leftOut = suites.filter((suite) => !chosen.some((one) => one.suite === suite)).map(({ name }) => name);
  if (options.suite === undefined && leftOut.length > 0) print(`\nleft out: ${leftOut.join(', ')}`);
  const figures: Bench = {
    at: new Date().toISOString(),
    arguments: process.argv.slice(2).join(' '),
    machine,
    seconds,
    warmUp,
    contentChars: options.contentChars,
    suites: measured,
  };
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(figures, undefined, 2)}\n`);
  const failed = measured.flatMap(({ name, failures }) => failures.map((failure) => `${name}: ${failure}`));
  for (const failure of failed) process.stderr.write(`${failure}\n`);
  return failed.length === 0;
}

async function measure(suite: Suite, parts: ReadonlySet<string>, serverUrl: string, place: string): Promise<MeasuredSuite> {
  interruption.signal.throwIfAborted();
  const run = await startRun({
    serverUrl,
    secret: randomBytes(32).toString('base64url'),
    seconds,
    warmUp,
    contentChars: options.contentChars,
    quick: options.quick,
    profile: options.profile,
    wants: (part) => parts.size === 0 || parts.has(part),
    status: (text) => status(`${place}: ${text}`),
    signal: interruption.signal,
  });
  try {
    return { name: suite.name, title: suite.title, ...(await suite.run(run)) };
  } finally {
    await run.end();
  }
}

function print(text: string): void {
  status('');
  process.stdout.write(`${text}\n`);
}

/** One line that is written over; nothing where nobody looks. */
function status(text: string): void {
  if (isTerminal) process.stderr.write(`\r\x1b[2K${text}`);
}

function chosenBy(names: string): Chosen[] {
  if (names === 'all') return choice(suites);
  const parts = new Map<Suite, Set<string>>();
  for (const text of names.split(',')) {
    const [name, part] = text.split(':');
    const suite = suites.find((known) => known.name === name);
    if (suite === undefined)
      throw new InvalidArgumentError(`There is no suite ${name}: choose of ${suites.map((known) => known.name).join(', ')}.`);
    if (part !== undefined && suite.parts?.includes(part) !== true)
      throw new InvalidArgumentError(`${name} has no part ${part}: choose of ${suite.parts?.join(', ') ?? 'none'}.`);
    const wanted = parts.get(suite) ?? new Set();
    parts.set(suite, part === undefined ? wanted : wanted.add(part));
  }
  return [...parts].map(([suite, wanted]) => ({ suite, parts: wanted }));
}

function choice(all: readonly Suite[]): Chosen[] {
  return all.map((suite) => ({ suite, parts: new Set<string>() }));
}

function helpOf({ name, title, parts, isExtra }: Suite): string {
  return `  ${name.padEnd(12)} ${title}${isExtra === true ? ' (extra)' : ''}${parts === undefined ? '' : `\n${' '.repeat(15)}parts: ${parts.join(', ')}`}`;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
}

function setting(text: string, previous: Record<string, string>): Record<string, string> {
  const [name = '', ...value] = text.split('=');
  return { ...previous, [name]: value.join('=') };
}
