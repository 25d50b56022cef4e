/** npm run cluster: nodes behind Nginx on this machine, with no Docker. `--help` says how it is used. */
import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../src/config.js';
import { connectionsPerNode } from '../src/database/database.js';
import { secretFile, startEmbeddedPostgres, type EmbeddedPostgres } from '../src/database/embedded-postgres.js';
import { failForPeople } from '../src/failure.js';
import { Cluster, portsAreFree } from './cluster/cluster.js';
import { control, refuseSecond, rollCluster } from './cluster/control.js';
import { findNginx } from './cluster/nginx.js';

interface Options {
  nodes: number;
  port: number;
  roll?: true;
}

const nodesMax = 32;
/** For psql, the migration of a node that starts, and PostgreSQL's own. */
const otherConnections = 20;

const wholeUpTo = (max: number) => (text: string) => {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > max) throw new InvalidArgumentError(`must be a whole number from 1 to ${max}`);
  return number;
};

const options = new Command('npm run cluster --')
  .description('Starts Trunkline nodes behind Nginx on this machine, on DATABASE_URL or a PostgreSQL of its own. Ctrl-C stops all.')
  .option('-n, --nodes <number>', 'how many nodes', wholeUpTo(nodesMax), 5)
  .option('-p, --port <port>', 'where Nginx listens; the nodes take the ports above it', wholeUpTo(65_535 - nodesMax), 8080)
  .option('--roll', 'restart the nodes of the running cluster, one after the other, and end')
  .addHelpText(
    'after',
    `
Settings come from the environment, as for a single node; what ends is started again. Of METRICS_PORT each node takes the next. Only Nginx has to be installed.

Examples:
  npm run cluster                                  # 5 nodes on http://localhost:8080, data in .data/
  DATABASE_URL=postgres://… npm run cluster -- --nodes 3 --port 9000
  npm run cluster -- --roll                        # builds, and puts the new version in place without losing anything`,
  )
  .parse()
  .opts<Options>();

const names = Array.from({ length: options.nodes }, (_, n) => `node-${n + 1}`);
const width = Math.max(...names.map(({ length }) => length));
const print = (name: string, line: string): void => {
  process.stdout.write(`${name.padEnd(width)} | ${line}\n`);
};

if (options.roll) {
  try {
    await rollCluster(loadConfig({ ...process.env, DATABASE_URL: '' }).DATA_DIR, (line) => console.log(line));
  } catch (error) {
    failForPeople(error);
  }
} else {
  run();
}

function run(): void {
  let cluster: Cluster | undefined;
  let postgres: EmbeddedPostgres | undefined;
  let stopping: Promise<void> | undefined;

  const start = async (): Promise<void> => {
    const config = loadConfig();
    const nginx = await findNginx();
    await refuseSecond(config.DATA_DIR);
    const ports = { ...options, metricsPort: config.METRICS_PORT };
    await portsAreFree(ports);
    await mkdir(config.DATA_DIR, { recursive: true });
    const secret = config.JWT_ACCESS_SECRET || (await secretFile(resolve(config.DATA_DIR, 'jwt-secret')));
    if (config.DATABASE_URL === '') {
      const max_connections = String(Math.max(100, connectionsPerNode(config) * options.nodes + otherConnections));
      postgres = await startEmbeddedPostgres(config.DATA_DIR, { max_connections, shared_buffers: '256MB' });
    }
    const env = {
      NODE_ENV: 'production',
      LOG_FORMAT: process.stdout.isTTY ? 'pretty' : 'json',
      ...process.env,
      DATABASE_URL: postgres?.connectionString ?? config.DATABASE_URL,
      JWT_ACCESS_SECRET: secret,
    };
    const made = new Cluster({ ...ports, nginx, drainMs: config.DRAIN_MS, env, print });
    await control(config.DATA_DIR, made);
    if (stopping !== undefined) return;
    cluster = made;
    await made.start();
    process.stdout.write(welcome(made.url));
  };

  const stop = async (): Promise<void> => {
    await cluster?.stop();
    await starting.catch(() => undefined);
    await postgres?.stop();
  };

  const starting = start();
  starting.catch(async (error: unknown) => {
    if (stopping !== undefined) return;
    stopping = stop();
    await stopping;
    failForPeople(error);
  });
  process.on('exit', () => cluster?.kill());
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stopping !== undefined) return;
      process.stdout.write('\nStopping: clients are told to come back later.\n');
      stopping = stop();
      void stopping.then(
        () => process.exit(0),
        (error: unknown) => failForPeople(error),
      );
    });
  }
}

function welcome(url: string): string {
  return `
  Trunkline is listening on ${url} (WebSocket: ${url.replace('http', 'ws')}/ws): Nginx, and ${options.nodes} nodes on the ports above
  Try:      npm run chat -- --user ann --room lobby --url ${url}
  Restart:  npm run cluster -- --roll
  Stop with Ctrl-C.

`;
}
