/** `npm run doctor [-- --url URL] [--nodes N]`: examines a deployment, and says of each part that it is well or what to do. */
import { parseArgs } from 'node:util';
import { readConfig, type Config } from './config.js';
import { embeddedUrl } from './database/embedded-postgres.js';
import { busChecks } from './doctor/bus-checks.js';
import { reasonOf, runChecks, type Report, type Verdict } from './doctor/check.js';
import { frontChecks } from './doctor/front-checks.js';
import { schemaChecks } from './doctor/schema-checks.js';
import { serverChecks } from './doctor/server-checks.js';
import { openServer, type Server } from './doctor/server.js';
import { settingsChecks } from './doctor/settings-checks.js';
import { failForPeople, UsageError } from './failure.js';

const usage = `Usage: npm run doctor [-- --url https://chat.example.org] [--nodes N]
  --url    the address that clients use, to examine the proxy too; fails one login, of a name that nobody has
  --nodes  how many nodes the database must have room for; without it, those that run
Examines the settings in the environment, the database and what is at the address. One line a check: ok, or warn or fail and what to do.
Exits with 1 when something fails, else with 0.
`;

try {
  await run();
} catch (error) {
  failForPeople(error);
}

async function run(): Promise<void> {
  const options = parseOptions();
  if (options.help === true) return void process.stdout.write(usage);
  const counts: Record<Verdict, number> = { ok: 0, warn: 0, fail: 0 };
  const report: Report = (name, { verdict, text }) => {
    counts[verdict]++;
    process.stdout.write(`${verdict.padEnd(4)}  ${name}: ${text}\n`);
  };

  const { config: given, problems } = readConfig();
  await runChecks(settingsChecks, { config: given, problems }, report);
  const url = given.DATABASE_URL === '' ? await embeddedUrl(given.DATA_DIR) : given.DATABASE_URL;
  const config = { ...given, DATABASE_URL: url ?? '' };
  const server = await examineDatabase(config, options.nodes, report);
  if (options.url !== undefined) await runChecks(frontChecks, { url: options.url, config, server }, report);
  await server?.close().catch(() => undefined);

  process.stdout.write(`${counts.ok} ok, ${counts.warn} to look at, ${counts.fail} failed\n`);
  process.exit(counts.fail > 0 ? 1 : 0); // a check that was given up may still wait
}

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: { url: { type: 'string' }, nodes: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
    if (values.url !== undefined && !/^https?:$/.test(URL.canParse(values.url) ? new URL(values.url).protocol : '')) throw new Error();
    if (values.nodes !== undefined && !/^[1-9]\d{0,3}$/.test(values.nodes)) throw new Error();
    return {
      help: values.help,
      url: values.url?.replace(/\/+$/, ''),
      nodes: values.nodes === undefined ? undefined : Number(values.nodes),
    };
  } catch {
    throw new UsageError(usage);
  }
}

/** Undefined where there is no database to ask; then that is reported, and the rest goes on without. */
async function examineDatabase(config: Config, nodes: number | undefined, report: Report): Promise<Server | undefined> {
  if (config.DATABASE_URL === '') {
    report('database', {
      verdict: 'fail',
      text: `DATABASE_URL is not set and there is no embedded PostgreSQL in DATA_DIR=${config.DATA_DIR}: set it, or run npm start first`,
    });
    return undefined;
  }
  let server;
  try {
    server = await openServer(config, nodes);
  } catch (error) {
    report('database', { verdict: 'fail', text: `can't be used: ${reasonOf(error)}. ${unreachableToDo(error)}` });
    return undefined;
  }
  for (const checks of [serverChecks, schemaChecks, busChecks]) await runChecks(checks, server, report);
  return server;
}

/** PgBouncer refuses with a protocol violation what the nodes ask for when they connect. */
function unreachableToDo(error: unknown): string {
  const isRefusedByPooler = (error as { code?: unknown }).code === '08P01';
  return isRefusedByPooler
    ? 'PgBouncer needs: ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout'
    : 'Is DATABASE_URL right, does the server run, may this machine reach it?';
}
