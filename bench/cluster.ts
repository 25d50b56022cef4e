/** What is measured: PostgreSQL and the nodes, each a process of its own, as in production. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, nodeIsReady, spawnNode } from '../scripts/cluster/node-process.js';
import { startEmbeddedPostgres } from '../src/database/embedded-postgres.js';
import { countingStatements } from './statements.js';

const readyDeadlineMs = 60_000;

/** Durable as in production: fsync and synchronous_commit stay on. */
const serverSettings = { shared_buffers: '256MB', max_connections: '200', ...countingStatements };

export interface Postgres {
  readonly connectionString: string;
  stop(): Promise<void>;
}

/** The server that is given, or an embedded one in a folder that is removed at the end. */
export async function startPostgres(given: string | undefined, settings: Readonly<Record<string, string>>): Promise<Postgres> {
  if (given) return { connectionString: given, stop: () => Promise.resolve() };
  const folder = await mkdtemp(join(tmpdir(), 'trunkline-bench-'));
  await chmod(folder, 0o755); // the server may run under an account of its own
  const server = await startEmbeddedPostgres(folder, { ...serverSettings, ...settings });
  return {
    connectionString: server.connectionString,
    async stop() {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export interface Node {
  readonly url: string;
  readonly process: ChildProcess;
  /** Resolves when it serves. */
  ready(): Promise<void>;
  stop(): Promise<void>;
}

/** @param settings of the node, DATABASE_URL and JWT_ACCESS_SECRET among them */
export async function startNode(name: string, settings: Readonly<Record<string, string>>, nodeArgs: readonly string[]): Promise<Node> {
  const port = await freePort();
  const env = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: String(port),
    NODE_NAME: name,
    LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'error',
    NODE_ENV: 'production',
    RATE_LIMITS: 'off',
    ...settings,
  };
  const child = spawnNode(env, { stdio: ['ignore', 'inherit', 'inherit'] }, nodeArgs);
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    process: child,
    ready: () =>
      nodeIsReady(url, readyDeadlineMs, () => (child.exitCode === null ? undefined : `${name} ended with code ${child.exitCode}`)),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
