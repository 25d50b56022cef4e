/**
 * npm run loadtest, npm run loadtest:delivery: makes users and rooms at the target, lets k6 play them, and says how it went. The exit code is 0 when every
 * threshold was met.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Command } from 'commander';
import { expectK6 } from './k6.js';
import { scenarios, shapeOf, type ScenarioName } from './plan.js';
import { expectServing, setUp } from './set-up.js';
import { Unusable } from './unusable.js';

const here = fileURLToPath(new URL('.', import.meta.url));
/** Of the tokens, beyond the end of the run: k6 starts, and who comes back late must still get in. */
const sparedMs = 60_000;

const command = new Command('npm run loadtest, npm run loadtest:delivery')
  .description('Plays a crowd against a running Trunkline, by k6: its nodes must run with RATE_LIMITS=off.')
  .addArgument(new Argument('<scenario>').choices(Object.keys(scenarios)))
  .addHelpText(
    'after',
    `
Scaled by the environment:
  BASE_URL     the proxy before the nodes, or any node   http://localhost:3000
  VUS          users in all                              720 (loadtest), 420 (loadtest:delivery)
  DURATION     of the run, such as 90s or 3m             3m
  INTERVAL_MS  between two messages of a sender          1000, 80
  MESSAGES     of each sender, loadtest:delivery only    80
  RESULTS_DIR  takes summary.json and chart.html         loadtest/results/…

Examples:
  RATE_LIMITS=off npm run cluster -- --nodes 5 --port 8080
  BASE_URL=http://localhost:8080 npm run loadtest:delivery
  VUS=72 DURATION=30s npm run loadtest`,
  )
  .parse();

try {
  process.exitCode = await run(command.args[0] as ScenarioName);
} catch (error) {
  if (!(error instanceof Unusable)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

/** @returns k6's exit code */
async function run(name: ScenarioName): Promise<number> {
  const { script, vus, intervalMs } = scenarios[name];
  const baseUrl = baseUrlGiven();
  const shape = shapeOf(name, {
    vus: wholeNumber('VUS', vus, 10),
    durationMs: durationGiven(),
    intervalMs: wholeNumber('INTERVAL_MS', intervalMs, 1),
    messages: wholeNumber('MESSAGES', 80, 1),
  });
  await expectK6();
  await expectServing(baseUrl);

  const runId = `load-${Date.now().toString(36)}`;
  const { places, senders, ...plan } = shape;
  const { users, rooms: ready } = await setUp(baseUrl, runId, places, plan.durationMs + sparedMs, (done) => progress(done, places.length));

  const resultsFolder = process.env['RESULTS_DIR'] ?? join(here, 'results', `${new Date().toISOString().replaceAll(/[:.]/g, '-')}-${name}`);
  await mkdir(resultsFolder, { recursive: true });
  const folder = await mkdtemp(join(tmpdir(), 'trunkline-load-')); // of this user alone: the tokens are in it
  try {
    const wsUrl = `${baseUrl.replace(/^http/, 'ws')}/ws`;
    const rooms = ready.map((room, n) => ({ ...room, senders: senders[n] }));
    await writeFile(join(folder, 'plan.json'), JSON.stringify({ ...plan, runId, baseUrl, wsUrl, rooms, resultsFolder }));
    await writeFile(join(folder, 'users.json'), JSON.stringify(users));
    const quiet = process.stdout.isTTY ? [] : ['--quiet']; // no progress bar, line by line, in a log
    const code = await k6(['run', '--no-usage-report', ...quiet, join(here, script)], {
      LOADTEST_FOLDER: folder,
      K6_WEB_DASHBOARD: 'true',
      K6_WEB_DASHBOARD_PORT: '-1',
      K6_WEB_DASHBOARD_PERIOD: '1s',
      K6_WEB_DASHBOARD_EXPORT: join(resultsFolder, 'chart.html'),
      XK6_DASHBOARD_CONFIG: join(here, 'chart.json'),
    });
    process.stdout.write(`Figures and chart are in ${relative('.', resultsFolder)}\n`);
    return code;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function k6(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const child = spawn('k6', args, { stdio: 'inherit', env: { ...process.env, ...env } });
  // k6 ends what runs and says how far it came. Ctrl-C reaches it by the terminal.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGINT'));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}

function progress(done: number, all: number): void {
  if (process.stdout.isTTY) process.stdout.write(`\rRegistered ${done} of ${all} users${done === all ? '\n' : ''}`);
  else if (done === all || done % 100 === 0) process.stdout.write(`Registered ${done} of ${all} users\n`);
}

function baseUrlGiven(): string {
  const given = process.env['BASE_URL'] ?? 'http://localhost:3000';
  if (!URL.canParse(given) || !/^https?:\/\//.test(given)) throw new Unusable(`BASE_URL=${given}: must be like http://localhost:3000`);
  return given.replace(/\/+$/, '');
}

function wholeNumber(name: string, preset: number, min: number): number {
  const value = Number(process.env[name] ?? preset);
  if (!Number.isInteger(value) || value < min) throw new Unusable(`${name}: must be a whole number of at least ${min}.`);
  return value;
}

function durationGiven(): number {
  const given = process.env['DURATION'] ?? '3m';
  const [, count, unit] = /^(\d+)([sm])$/.exec(given) ?? [];
  const durationMs = Number(count) * (unit === 'm' ? 60_000 : 1_000);
  if (!(durationMs >= 10_000)) throw new Unusable(`DURATION=${given}: must be like 90s or 3m, and at least 10s.`);
  return durationMs;
}
