/** What a suite's run consists of: its databases, nodes and other processes, all of which it gives back in `end`. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { pino } from 'pino';
import { migrate } from '../src/database/migrations.js';
import { startNode, type Node } from './cluster.js';
import type { Run } from './suite.js';

const endDeadlineMs = 5_000;

export interface RunOptions extends Pick<Run, 'secret' | 'seconds' | 'warmUp' | 'contentChars' | 'quick' | 'wants' | 'status' | 'signal'> {
  /** Of any database of the server; its role must be allowed to create others. */
  readonly serverUrl: string;
  /** Folder for CPU profiles. */
  readonly profile: string | undefined;
}

export async function startRun(options: RunOptions): Promise<Run & { end(): Promise<void> }> {
  const { serverUrl, profile, ...given } = options;
  const databases: string[] = [];
  const children: ChildProcess[] = [];
  let nodes: Node[] = [];

  const newDatabase = async (tables?: string): Promise<string> => {
    const name = `trunkline_bench_${process.pid}_${Date.now().toString(36)}_${databases.length}`;
    await onServer(serverUrl, `CREATE DATABASE ${name}`);
    databases.push(name);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    await (tables === undefined ? migrate(url.href, pino({ level: 'warn' })) : onServer(url.href, tables));
    return url.href;
  };
  const profileArgs = (name: string): string[] =>
    profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${name}-${Date.now()}.cpuprofile`];
  const stopNodes = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()));
    nodes = [];
  };

  if (profile !== undefined) await mkdir(profile, { recursive: true });
  const databaseUrl = await newDatabase();
  return {
    ...given,
    databaseUrl,
    newDatabase,
    async startNodes(count, env = {}) {
      options.status('starting nodes');
      const started: Node[] = [];
      for (let n = 1; n <= count; n++) {
        options.signal.throwIfAborted();
        const node = await startNode(
          `node-${n}`,
          { DATABASE_URL: databaseUrl, JWT_ACCESS_SECRET: options.secret, ...env },
          profileArgs(`node-${n}`),
        );
        nodes.push(node); // so that all are stopped when a later one fails
        started.push(node);
      }
      await Promise.all(started.map((node) => node.ready()));
      return started;
    },
    stopNodes,
    fork(entry, name, env = {}) {
      const child = fork(fileURLToPath(entry), {
        signal: options.signal,
        env: { ...process.env, ...env },
        execArgv: ['--import', 'tsx', ...profileArgs(name)],
      });
      child.on('error', () => undefined); // of the signal; who waits for the child sees its exit
      children.push(child);
      return child;
    },
    async end() {
      await Promise.all(children.map(ended));
      await stopNodes();
      for (const name of databases) await onServer(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

/** Lets a process write its profile, which it does at an end of its own. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), endDeadlineMs);
  await exit;
  clearTimeout(timer);
}

async function onServer(databaseUrl: string, statements: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(statements);
  } finally {
    await client.end();
  }
}
