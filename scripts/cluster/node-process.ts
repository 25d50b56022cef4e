/** A node as a process of its own, started from dist/ as it is in production. */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
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

/** Below those that systems give to connections and to `listen(0)`, so that none of these takes it before it is used. */
const ports = { from: 20_000, to: 32_000 };
/** Each worker of jest takes from a part of its own: a port that one has drawn and not used yet looks free to the others. */
const workersMax = 12;
const given = new Set<number>();

/** A port of this machine's own that nothing listens on; in one process never the same twice. */
export const freePort = (): Promise<number> => freePorts(1);

/** The first of so many such ports in a row. */
export async function freePorts(count: number): Promise<number> {
  const { from, to } = portsOf(process.env['JEST_WORKER_ID']);
  for (;;) {
    const first = randomInt(from, to - count + 1);
    const row = Array.from({ length: count }, (_, n) => first + n);
    if (row.some((port) => given.has(port))) continue;
    const areFree = await Promise.all(row.map(isFree));
    if (!areFree.every(Boolean)) continue;
    for (const port of row) given.add(port);
    return first;
  }
}

/** @param worker of jest, from 1; outside of jest undefined */
function portsOf(worker: string | undefined): typeof ports {
  if (worker === undefined) return ports;
  const size = (ports.to - ports.from) / workersMax;
  const from = ports.from + (Number(worker) % workersMax) * size;
  return { from, to: from + size };
}

/** Whether nothing listens on it, by whatever address of this machine. */
export async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  const listens = await new Promise<boolean>((resolve) => {
    probe.once('error', () => resolve(false));
    probe.listen(port, () => resolve(true));
  });
  if (listens) await new Promise((closed) => probe.close(closed));
  return listens;
}
