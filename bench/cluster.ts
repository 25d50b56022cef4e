/** What is measured: PostgreSQL and the nodes, each a process of its own, as in production. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { startEmbeddedPostgres } from '../src/database/embedded-postgres.js';

const readyDeadlineMs = 60_000;
const entry = fileURLToPath(new URL('../dist/main.js', import.meta.url));

/** Durable as in production: fsync and synchronous_commit stay on. */
const serverSettings = { shared_buffers: '256MB', max_connections: '200' };

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

export async function startNode(name: string, databaseUrl: string, secret: string, nodeArgs: readonly string[]): Promise<Node> {
  const port = await freePort();
  const child = spawn(process.execPath, [...nodeArgs, entry], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      DATABASE_URL: databaseUrl,
      JWT_ACCESS_SECRET: secret,
      HOST: '127.0.0.1',
      PORT: String(port),
      NODE_NAME: name,
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'warn',
      NODE_ENV: 'production',
      RATE_LIMITS: 'off',
    },
  });
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    process: child,
    async ready() {
      const deadline = Date.now() + readyDeadlineMs;
      while (!(await answers(`${url}/health`))) {
        if (child.exitCode !== null) throw new Error(`${name} ended with code ${child.exitCode}`);
        if (Date.now() > deadline) throw new Error(`${name} did not get ready`);
        await delay(50);
      }
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

const answers = (url: string): Promise<boolean> =>
  fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}
