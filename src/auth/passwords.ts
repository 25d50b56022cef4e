import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import argon2 from 'argon2';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { ClientError } from '../protocol/errors.js';
import pLimit from 'p-limit';
import type { Networks } from './caller.js';
import { FairQueue } from './fair-queue.js';

/** OWASP Password Storage Cheat Sheet, its first choice: argon2id, 19 MiB, 2 passes, 1 lane. About 30 ms of one core. */
const cost = { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/** A hash of today's cost that no password has. */
const nobodysHash = `$argon2id$v=19$m=${cost.memoryCost},t=${cost.timeCost},p=${cost.parallelism}$${'A'.repeat(22)}$${'A'.repeat(43)}`;

/** On half of the cores, and of the four threads of the process that hashes: it gives way, but what it does in the caches is felt by all. */
const hashesAtOnce = Math.min(4, Math.ceil(availableParallelism() / 2));

const attemptsWaitingMax = 500; // the last of them waits for about twenty seconds where passwords are hashed one at a time
const queueLimits = {
  // One attempt asks the database while another one's password is hashed; beside the attempts of one site there is room for those of others.
  atOnce: 4 * hashesAtOnce,
  atOncePerSite: 2 * hashesAtOnce,
  waitingMax: attemptsWaitingMax,
  waitMaxMs: 30_000,
  retryAfterMs: 5_000,
};

/** Who does not answer for so long is ended, and another process started. */
const answerDeadlineMs = 20_000;
const endDeadlineMs = 2_000;

const processFile = fileURLToPath(new URL('hash-process.cjs', import.meta.url));

export interface PasswordCheck {
  matches: boolean;
  /** The same password hashed at today's cost, where the stored hash was of another. */
  newHash?: string;
}

interface Job {
  readonly password: string;
  /** Checked against it where there is one, else hashed. */
  readonly storedHash?: string;
  readonly cost?: typeof cost;
}

interface Answer {
  readonly id: number;
  readonly result?: string | boolean;
  readonly error?: string;
}

/**
 * Hashes and checks passwords, a few at a time, in a process of its own that gives way to this one: a wave of logins takes neither the memory nor
 * the cores from messages. Not in a thread: what maps and unmaps 19 MiB, and is put off in the midst of it, holds up all threads of its process.
 */
@Injectable()
export class Passwords implements OnApplicationShutdown {
  private readonly attempts = new FairQueue(queueLimits);
  private readonly limit = pLimit(hashesAtOnce);
  /** Started with the first password. */
  private child: ChildProcess | undefined;
  private readonly asked = new Map<number, { readonly resolve: (result: never) => void; readonly reject: (error: Error) => void }>();
  private lastId = 0;
  private isClosing = false;

  async onApplicationShutdown(): Promise<void> {
    const { child } = this;
    this.isClosing = true;
    if (child?.connected !== true) return;
    child.ref();
    const exit = once(child, 'exit');
    child.disconnect(); // it ends with what it has in hand
    const timer = setTimeout(() => child.kill('SIGKILL'), endDeadlineMs);
    await exit;
    clearTimeout(timer);
  }

  /**
   * Runs an attempt, from its first query on, when it is the turn of the network that it comes from: a flood from one network must not keep others
   * from the database or from their hashes.
   * @throws ClientError `overloaded` when too many are waiting; what `attempt` throws
   */
  inTurn<Result>({ network, sites }: Networks, attempt: () => Promise<Result>): Promise<Result> {
    return this.attempts.run({ network, site: sites.at(-1) ?? network }, attempt);
  }

  /** Within an attempt. @throws ClientError `unavailable` when the process that hashes ended meanwhile */
  hash(password: string): Promise<string> {
    return this.limit(() => this.ask<string>({ password: prepared(password), cost }));
  }

  /**
   * Within an attempt. Takes as long without a stored hash as with one: time must not tell who has an account.
   * @throws ClientError `unavailable` when the process that hashes ended meanwhile
   */
  check(password: string, storedHash: string | undefined): Promise<PasswordCheck> {
    return this.limit(async () => {
      const given = prepared(password);
      const matches = await this.ask<boolean>({ password: given, storedHash: storedHash ?? nobodysHash });
      if (!matches || storedHash === undefined) return { matches: false };
      if (!argon2.needsRehash(storedHash, cost)) return { matches };
      return { matches, newHash: await this.ask<string>({ password: given, cost }) };
    });
  }

  private async ask<Result>(job: Job): Promise<Result> {
    if (this.isClosing) throw ended();
    const child = (this.child ??= this.start());
    const id = ++this.lastId;
    const timer = setTimeout(() => child.kill('SIGKILL'), answerDeadlineMs);
    try {
      return await new Promise<Result>((resolve, reject) => {
        this.asked.set(id, { resolve, reject });
        child.send({ id, ...job });
      });
    } finally {
      clearTimeout(timer);
      this.asked.delete(id);
    }
  }

  private start(): ChildProcess {
    const child = fork(processFile, { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    child.on('message', ({ id, result, error }: Answer) => {
      const asked = this.asked.get(id);
      if (error === undefined) asked?.resolve(result as never);
      else asked?.reject(new Error(error));
    });
    const onEnd = (): void => {
      if (this.child !== child) return;
      this.child = undefined;
      for (const { reject } of this.asked.values()) reject(ended());
    };
    child.on('error', onEnd);
    child.on('exit', onEnd);
    child.unref();
    child.channel?.unref();
    return child;
  }
}

/** Nothing was decided of the password, and another try is served: here by the next process, or by another node. */
const ended = (): ClientError =>
  new ClientError('unavailable', undefined, { retryAfterMs: 1_000, cause: new Error('the process that hashes passwords ended') });

/** Two keyboards may make the same letters of different code points (RFC 8265, section 4.2.2). */
const prepared = (password: string): string => password.normalize('NFC');
