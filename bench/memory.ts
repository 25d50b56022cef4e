import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../scripts/cluster/node-process.js';

export interface Memory {
  readonly residentBytes: number;
  /** Of JavaScript objects. */
  readonly heapBytes: number;
  /** Of buffers, and of what else in C++ belongs to JavaScript objects. */
  readonly externalBytes: number;
}

export interface Probed {
  /** For the environment of the process that is to be looked into. */
  readonly env: Readonly<Record<string, string>>;
  /** What is left after collections of garbage. */
  memory(): Promise<Memory>;
}

/** What is free is given back to the system little by little: the least of some readings counts. */
const [readings, betweenMs] = [4, 1_500];

/** For one process. */
export async function memoryProbe(): Promise<Probed> {
  const port = await freePort();
  const probe = new URL('./memory-probe.mjs', import.meta.url);
  return {
    env: { NODE_OPTIONS: `--import=${probe.href}`, MEMORY_PROBE_PORT: String(port) },
    async memory() {
      let least: Memory | undefined;
      for (let n = 0; n < readings; n++) {
        if (n > 0) await delay(betweenMs);
        const answer = await fetch(`http://127.0.0.1:${port}`, { headers: { connection: 'close' } });
        const { rss, heapUsed, external } = (await answer.json()) as NodeJS.MemoryUsage;
        if (least === undefined || rss < least.residentBytes) least = { residentBytes: rss, heapBytes: heapUsed, externalBytes: external };
      }
      return least as Memory;
    },
  };
}
