import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { freePort, nodeIsReady, spawnNode } from '../../scripts/cluster/node-process.js';
import { testSecret } from './node.js';

/** Several that start at once on a busy machine take long; a test that waits for one alone has its own time-out. */
const readyDeadlineMs = 90_000;

const running = new Set<ProcessNode>();
// A test that fails must not leave its nodes behind.
afterAll(() => Promise.all([...running].map((node) => node.stop('SIGKILL'))));

/** A node as a process of its own, for what only a process can suffer. */
export interface ProcessNode {
  readonly url: string;
  readonly process: ChildProcess;
  /** What it wrote, both streams. */
  output(): string;
  /** Ends it, if it still runs, and resolves with its exit code; null after a signal. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export async function startProcessNode(env: Record<string, string>): Promise<ProcessNode> {
  const port = await freePort();
  const own = { JWT_ACCESS_SECRET: testSecret, HOST: '127.0.0.1', PORT: String(port), LOG_FORMAT: 'json', RATE_LIMITS: 'off' };
  const child = spawnNode({ PATH: process.env['PATH'], ...own, ...env }, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const url = `http://127.0.0.1:${port}`;
  const node: ProcessNode = {
    url,
    process: child,
    output: () => output,
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const [code] = await exited;
      running.delete(node);
      return code;
    },
  };
  running.add(node);
  await nodeIsReady(url, readyDeadlineMs, () => (child.exitCode === null ? undefined : `it exited with ${child.exitCode}: ${output}`));
  return node;
}
