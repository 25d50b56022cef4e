/**
 * npm run bench: two nodes on one PostgreSQL, a load generator, and the figures: how many durable messages and deliveries a second, how long they
 * take, and whether each receiver got every seq of its room exactly once and in order. If not, the exit code is 1.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import pg from 'pg';
import { startNode, startPostgres, type Node } from './cluster.js';
import { countingStatements, countStatements, readStatements, type Statement } from './statements.js';
import type { FromLoad, LoadResult, ToLoad } from './plan.js';
import { usageOf, usageOfFamily, usageOfMachine, type Usage } from './process-usage.js';
import { failures, machineLine, table, type Report } from './report.js';
import { scenarios, type Scenario } from './scenarios.js';
import { bareInserts, makeCrowd, readStored } from './set-up.js';

const loadEntry = fileURLToPath(new URL('./load.ts', import.meta.url));

interface Options {
  scenario: Scenario[];
  seconds: number;
  warmup: number;
  nodes: number;
  contentChars: number;
  json?: string;
  quick: boolean;
  profile?: string;
  postgres: Record<string, string>;
}

const options = new Command('npm run bench --')
  .description('Measures two nodes on one PostgreSQL (embedded, or DATABASE_URL). Needs a build: npm run build.')
  .addOption(
    new Option('-s, --scenario <names>', `comma-separated: ${scenarios.map(({ name }) => name).join(', ')}`)
      .argParser(scenariosNamed)
      .default(
        scenarios.filter(({ arrivals }) => arrivals === undefined),
        'all but presence',
      ),
  )
  .option('--seconds <n>', 'measured time of each scenario', positive, 10)
  .option('--warmup <n>', 'seconds of load before the measured time', positive, 3)
  .option('--nodes <n>', 'nodes', positive, 2)
  .option('--content-chars <n>', 'characters of a message, 20 to 8000', positive, 50)
  .option('--json <file>', 'write the figures to a file as well')
  .option('--quick', 'less than a minute in all: 3 seconds a scenario', false)
  .option('--profile <folder>', 'write a CPU profile of each node and of the load generator')
  .option('--postgres <name=value>', 'setting of the embedded PostgreSQL; may be repeated', setting, {})
  .addHelpText(
    'after',
    '\nExamples:\n  npm run bench -- --quick\n  npm run bench -- --scenario 1,1b --seconds 30 --json figures.json\n  npm run bench -- --scenario presence',
  )
  .parse()
  .opts<Options>();

const seconds = options.quick ? Math.min(options.seconds, 3) : options.seconds;
const warmUp = options.quick ? Math.min(options.warmup, 2) : options.warmup;
const isTerminal = process.stderr.isTTY;

/** Ends the load generator, and with it the run, so that everything is stopped in its order. */
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
  const secret = randomBytes(32).toString('base64url');
  status('starting PostgreSQL');
  const counted = options.scenario.some(({ arrivals }) => arrivals !== undefined) && countingStatements;
  const postgres = await startPostgres(process.env['DATABASE_URL'], { ...counted, ...options.postgres });
  const reports: Report[] = [];
  let bareRowsPerSecond = Number.NaN;
  try {
    for (const scenario of options.scenario) {
      interruption.signal.throwIfAborted();
      const nodes: Node[] = [];
      try {
        await startNodes(nodes, postgres.connectionString, secret);
        if (Number.isNaN(bareRowsPerSecond)) {
          status('bare INSERTs, as the measure of this machine');
          bareRowsPerSecond = await bareInserts(postgres.connectionString, 2_000);
        }
        reports.push(await measure(scenario, nodes, postgres.connectionString, secret));
      } finally {
        await Promise.all(nodes.map((node) => node.stop()));
      }
    }
  } finally {
    status('');
    await postgres.stop();
  }
  const machine = {
    cores: availableParallelism(),
    model: cpus()[0]?.model ?? '',
    node: process.version,
    bareRowsPerSecond: Math.round(bareRowsPerSecond),
  };
  process.stdout.write(`${machineLine(machine)}\n\n${table(reports)}\n`);
  const figures = { at: new Date().toISOString(), machine, contentChars: options.contentChars, reports };
  if (options.json === undefined) process.stdout.write(`\n${JSON.stringify(figures)}\n`);
  else await writeFile(options.json, `${JSON.stringify(figures, undefined, 2)}\n`);
  const failed = reports.flatMap(failures);
  for (const failure of failed) process.stderr.write(`${failure}\n`);
  return failed.length === 0;
}

/** @param nodes takes each node as it is started, so that all are stopped when a later one fails */
async function startNodes(nodes: Node[], databaseUrl: string, secret: string): Promise<void> {
  status('starting nodes');
  for (let n = 1; n <= options.nodes; n++) {
    const node = await startNode(`node-${n}`, databaseUrl, secret, await profileArgs(`node-${n}`));
    nodes.push(node);
  }
  await Promise.all(nodes.map((node) => node.ready()));
}

async function measure(scenario: Scenario, nodes: readonly Node[], databaseUrl: string, secret: string): Promise<Report> {
  status(`scenario ${scenario.name}: setting up`);
  const db = new pg.Client({ connectionString: databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const crowd = await makeCrowd(
      db,
      scenario,
      nodes.map(({ url }) => url),
      secret,
    );
    await db.query('CHECKPOINT').catch(() => undefined); // may need rights; the writes of the run before are not this one's
    const serverPid = await postmasterPid(db);
    return await underLoad(scenario, nodes, crowd, db, serverPid);
  } finally {
    await db.end();
  }
}

async function underLoad(
  scenario: Scenario,
  nodes: readonly Node[],
  crowd: Awaited<ReturnType<typeof makeCrowd>>,
  db: pg.Client,
  serverPid: number | undefined,
): Promise<Report> {
  const load = fork(loadEntry, { signal: interruption.signal, execArgv: ['--import', 'tsx', ...(await profileArgs('load'))] });
  const tell = (message: ToLoad): void => void load.send(message);
  const usage = async (): Promise<Record<string, Usage>> => ({
    ...Object.fromEntries(
      await Promise.all(nodes.map(async ({ process: child }, n) => [`node ${n + 1}`, await usageOf(child.pid)] as const)),
    ),
    load: await usageOf(load.pid),
    machine: await usageOfMachine(),
    ...(serverPid !== undefined && { postgres: await usageOfFamily(serverPid) }),
  });
  const problems: string[] = [];
  const refused: Record<string, number> = {};
  let before: Record<string, Usage> = {};
  let after: Record<string, Usage> = {};
  let statements: readonly Statement[] | undefined;
  const isCounted = scenario.arrivals !== undefined;

  const result = await new Promise<LoadResult>((done, fail) => {
    const accept = async (message: FromLoad): Promise<void> => {
      switch (message.kind) {
        case 'connected':
          return status(`scenario ${scenario.name}: warming up`);
        case 'measuring':
          before = await usage();
          if (isCounted) await countStatements(db);
          return;
        case 'measured':
          after = await usage();
          if (isCounted) statements = await readStatements(db);
          return status(`scenario ${scenario.name}: waiting for the last receivers`);
        case 'progress':
          return status(
            `scenario ${scenario.name}: ${message.acked.toLocaleString('en')} stored, ${message.deliveries.toLocaleString('en')} delivered`,
          );
        case 'settled': {
          Object.assign(refused, message.errors);
          const stored = await readStored(db, crowd.roomIds);
          problems.push(...stored.problems);
          for (const [roomId, messages] of Object.entries(stored.messages)) {
            const acked = message.ackedByRoom[roomId] ?? 0;
            if (acked !== messages) problems.push(`room ${roomId}: ${acked} acked, ${messages} stored`);
          }
          tell({ kind: 'heads', heads: stored.heads });
          return;
        }
        case 'done':
          return done(message.result);
      }
    };
    let accepted = Promise.resolve();
    load.on('error', fail);
    load.on('exit', (code) => void accepted.then(() => fail(new Error(`the load generator ended with code ${code}`))));
    load.on('message', (message: FromLoad) => {
      accepted = accepted.then(() => accept(message)).catch(fail);
    });
    tell({
      kind: 'run',
      plan: { scenario, ...crowd, warmUpMs: warmUp * 1_000, measureMs: seconds * 1_000, contentChars: options.contentChars },
    });
  }).finally(() => load.kill());

  const processes = Object.entries(after).map(([name, used]) => ({
    name,
    residentMiB: Number.isNaN(used.residentMiB) ? null : Math.round(used.residentMiB),
    cpuPercent: Math.round(((used.cpuSeconds - (before[name]?.cpuSeconds ?? 0)) / (used.at - (before[name]?.at ?? 0))) * 100),
  }));
  return { scenario, result, refused, problems, processes, ...(statements !== undefined && { statements }) };
}

/** @returns undefined where the server is on another machine */
async function postmasterPid(db: pg.Client): Promise<number | undefined> {
  try {
    const { rows } = await db.query<{ pid: string }>(`SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid`);
    return rows[0] && Number(rows[0].pid);
  } catch {
    return undefined;
  }
}

async function profileArgs(name: string): Promise<string[]> {
  if (options.profile === undefined) return [];
  await mkdir(options.profile, { recursive: true });
  return ['--cpu-prof', `--cpu-prof-dir=${options.profile}`, `--cpu-prof-name=${name}-${Date.now()}.cpuprofile`];
}

/** One line that is written over; nothing where nobody looks. */
function status(text: string): void {
  if (isTerminal) process.stderr.write(`\r\x1b[2K${text}`);
}

function scenariosNamed(names: string): Scenario[] {
  return names.split(',').map((name) => {
    const scenario = scenarios.find((known) => known.name === name);
    if (scenario === undefined) throw new InvalidArgumentError(`There is no scenario ${name}.`);
    return scenario;
  });
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
