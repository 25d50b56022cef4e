/** Plays a scenario on nodes: its crowd in the database, the load generator, the check of the tables against what was acked. */
import type { ChildProcess } from 'node:child_process';
import pg from 'pg';
import type { Node } from './cluster.js';
import type { DialectName } from './dialect.js';
import type { FromLoad, LoadResult, ToLoad } from './plan.js';
import { postmasterPid, usageOf, usageOfFamily, usageOfMachine, type Usage } from './process-usage.js';
import type { Scenario } from './scenarios.js';
import { makeCrowd, readStored, unlikeAcked, type Crowd, type Stored } from './set-up.js';
import { countStatements, readStatements, type Statement } from './statements.js';
import type { Figure, Run, SuiteResult } from './suite.js';

const loadEntry = new URL('./processes/load.ts', import.meta.url);

export interface LoadReport {
  readonly scenario: Scenario;
  readonly result: LoadResult;
  /** Sends that were answered with an error, by its code. */
  readonly refused: Readonly<Record<string, number>>;
  /** What the tables say that can't be. */
  readonly problems: readonly string[];
  /** `machine` is all of them and whatever else ran. */
  readonly processes: readonly ProcessUse[];
  /** While users came online. */
  readonly statements?: readonly Statement[];
}

export interface ProcessUse {
  readonly name: string;
  readonly residentMiB: number | null;
  /** Of one core. */
  readonly cpuPercent: number;
}

/** What is under the load: Trunkline, or a peer of bench/peers/. */
export interface Backend {
  readonly dialect: DialectName;
  readonly databaseUrl: string;
  /** Processes whose CPU and memory are told beside those of the nodes, by name. */
  readonly beside?: Readonly<Record<string, ChildProcess>>;
  makeCrowd(db: pg.Client, scenario: Scenario, nodeUrls: readonly string[]): Promise<Crowd>;
  readStored(db: pg.Client, roomIds: readonly string[]): Promise<Stored>;
}

type BackendNode = Pick<Node, 'url' | 'process'>;

export const trunkline = ({ databaseUrl, secret }: Run): Backend => ({
  dialect: 'trunkline',
  databaseUrl,
  makeCrowd: (db, scenario, nodeUrls) => makeCrowd(db, scenario, nodeUrls, secret),
  readStored,
});

export async function playScenario(
  run: Run,
  scenario: Scenario,
  nodes: readonly BackendNode[],
  backend: Backend = trunkline(run),
): Promise<LoadReport> {
  run.status(`${scenario.name}: setting up`);
  const db = new pg.Client({ connectionString: backend.databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const crowd = await backend.makeCrowd(
      db,
      scenario,
      nodes.map(({ url }) => url),
    );
    await db.query('CHECKPOINT').catch(() => undefined); // may need rights; the writes of the run before are not this one's
    return await underLoad(run, scenario, nodes, backend, crowd, db);
  } finally {
    await db.end();
  }
}

/** Plays one scenario after the other, each on nodes of its own. */
export async function playEach<Load extends Scenario>(
  run: Run,
  loads: readonly Load[],
  figuresOf: (report: LoadReport, load: Load) => Figure[],
): Promise<Pick<SuiteResult, 'figures' | 'failures'> & { readonly reports: readonly LoadReport[] }> {
  const reports: LoadReport[] = [];
  const figures: Figure[] = [];
  for (const load of loads) {
    const report = await playScenario(run, load, await run.startNodes(2));
    await run.stopNodes();
    reports.push(report);
    figures.push(...figuresOf(report, load));
  }
  return { figures, failures: reports.flatMap(failuresOf), reports };
}

async function underLoad(
  run: Run,
  scenario: Scenario,
  nodes: readonly BackendNode[],
  backend: Backend,
  crowd: Crowd,
  db: pg.Client,
): Promise<LoadReport> {
  const serverPid = await postmasterPid(db);
  const load = run.fork(loadEntry, 'load');
  const tell = (message: ToLoad): void => void load.send(message);
  const processes = [
    ...nodes.map(({ process: child }, n) => [`node ${n + 1}`, child] as const),
    ...Object.entries(backend.beside ?? {}),
    ['load', load] as const,
  ];
  const usage = async (): Promise<Record<string, Usage>> => ({
    ...Object.fromEntries(await Promise.all(processes.map(async ([name, child]) => [name, await usageOf(child.pid)] as const))),
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
          return run.status(`${scenario.name}: warming up`);
        case 'measuring':
          before = await usage();
          if (isCounted) await countStatements(db);
          return;
        case 'measured':
          after = await usage();
          if (isCounted) statements = await readStatements(db);
          return run.status(`${scenario.name}: waiting for the last receivers`);
        case 'progress':
          return run.status(
            `${scenario.name}: ${message.acked.toLocaleString('en')} stored, ${message.deliveries.toLocaleString('en')} delivered`,
          );
        case 'settled': {
          Object.assign(refused, message.errors);
          const { heads, messages: storedByRoom, problems: found } = await backend.readStored(db, crowd.roomIds);
          problems.push(...found, ...unlikeAcked(message.ackedByRoom, storedByRoom));
          tell({ kind: 'heads', heads });
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
    const { warmUp, seconds, contentChars } = run;
    tell({
      kind: 'run',
      plan: { dialect: backend.dialect, scenario, ...crowd, warmUpMs: warmUp * 1_000, measureMs: seconds * 1_000, contentChars },
    });
  });

  const used = Object.entries(after).map(([name, { residentMiB, cpuSeconds, at }]) => ({
    name,
    residentMiB: Number.isNaN(residentMiB) ? null : Math.round(residentMiB),
    cpuPercent: ((cpuSeconds - (before[name]?.cpuSeconds ?? 0)) / (at - (before[name]?.at ?? 0))) * 100,
  }));
  return { scenario, result, refused, problems, processes: used, ...(statements !== undefined && { statements }) };
}

/** What must not be, in words. */
export function failuresOf({ scenario, result, refused, problems }: LoadReport): string[] {
  const { lost, doubled, reordered, acksOutOfOrder, unexpected } = result;
  const counts: Record<string, number> = { lost, doubled, reordered, 'acks out of order': acksOutOfOrder, ...unexpected };
  for (const [code, count] of Object.entries(refused)) counts[`sends refused with ${code}`] = count;
  const wrong = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([what, count]) => `${what}: ${count}`);
  return [...wrong, ...problems].map((what) => `${scenario.name}: ${what}`);
}

/** Messages for each second of CPU that the run itself used: what others took from the machine falls out of it. */
export function messagesPerCpuSecond({ result, processes }: LoadReport): number {
  const cores = processes.filter(({ name }) => name !== 'machine').reduce((sum, { cpuPercent }) => sum + cpuPercent, 0) / 100;
  return result.acked / result.seconds / cores;
}

export const usageNote = ({ scenario, processes }: LoadReport): string =>
  `${scenario.name}: ${processes
    .map(
      ({ name, residentMiB, cpuPercent }) => `${name} ${residentMiB === null ? '' : `${residentMiB} MiB `}${Math.round(cpuPercent)}% CPU`,
    )
    .join(', ')}`;
