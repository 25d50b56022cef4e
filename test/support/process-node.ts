import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { testSecret } from './node.js';
import { eventually } from './eventually.js';

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
  const child = spawn(process.execPath, ['dist/main.js'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      JWT_ACCESS_SECRET: testSecret,
      HOST: '127.0.0.1',
      PORT: String(port),
      LOG_FORMAT: 'json',
      RATE_LIMITS: 'off',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const url = `http://127.0.0.1:${port}`;
  await eventually(
    async () => {
      if (child.exitCode !== null) throw new Error(`it exited with ${child.exitCode}: ${output}`);
      return (await fetch(`${url}/health`)).ok;
    },
    'the node to serve',
    20_000,
  );
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
  return node;
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}
