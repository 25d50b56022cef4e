/** A node as a process of its own, started from dist/ as it is in production. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const entry = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/**
 * @param nodeArgs options of Node itself, such as --cpu-prof
 * @param main another build than that of this folder
 */
export function spawnNode(
  env: NodeJS.ProcessEnv,
  options: Omit<SpawnOptions, 'env'>,
  nodeArgs: readonly string[] = [],
  main = entry,
): ChildProcess {
  return spawn(process.execPath, [...nodeArgs, main], { ...options, env });
}

/**
 * Waits until a node says that it serves.
 * @param given gives the reason why it never will, as soon as there is one
 * @throws Error with that reason, or when the time is up
 */
export async function nodeIsReady(url: string, withinMs: number, given: () => string | undefined = () => undefined): Promise<void> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const reason = given();
    if (reason !== undefined) throw new Error(reason);
    if (await isReady(url)) return;
    if (Date.now() > deadline) throw new Error(`${url} was not ready within ${withinMs} ms`);
    await delay(50);
  }
}

const isReady = (url: string): Promise<boolean> =>
  fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2_000) }).then(
    ({ ok }) => ok,
    () => false,
  );

export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}
