import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Run } from '../suite.js';

const entry = new URL('./server.ts', import.meta.url);

export interface ToBare {
  /** Frames in base64 that each socket gets when it opens. */
  readonly greeting: string;
}

export interface FromBare {
  readonly url: string;
}

export interface BareServer {
  readonly url: string;
  readonly process: ChildProcess;
  stop(): void;
}

/** @param env variables of its process */
export async function startBareServer(run: Run, greeting = '', env: Readonly<Record<string, string>> = {}): Promise<BareServer> {
  const child = run.fork(entry, 'bare', env);
  child.send({ greeting } satisfies ToBare);
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`a bare server ended with code ${code}`);
  });
  const [{ url }] = (await Promise.race([once(child, 'message'), ended])) as [FromBare];
  ended.catch(() => undefined); // it is to be stopped
  return { url, process: child, stop: () => child.disconnect() };
}
