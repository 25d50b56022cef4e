import { randomBytes } from 'node:crypto';
import argon2 from 'argon2';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { boundedQueue } from './bounded-queue.js';

/** OWASP Password Storage Cheat Sheet, its first choice: 19 MiB, 2 passes, 1 lane. About 25 ms of one core. */
const cost = { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

const queueLimits = {
  atOnce: 3, // argon2 runs on libuv's threads, of which there are 4: one stays free for DNS look-ups and files
  waitingMax: 1_000, // the last of them waits for about ten seconds on two cores
  retryAfterMs: 5_000,
};

export interface PasswordCheck {
  matches: boolean;
  /** The same password hashed at today's cost, where the stored hash was of another. */
  newHash?: string;
}

/** Hashes and checks passwords, a few at a time, so that a wave of logins takes neither the memory nor the threads of everything else. */
@Injectable()
export class Passwords implements OnModuleInit {
  private readonly queue = boundedQueue(queueLimits);
  private nobodysHash = '';

  async onModuleInit(): Promise<void> {
    this.nobodysHash = await argon2.hash(randomBytes(32), cost);
  }

  /** @throws ClientError `overloaded` when too many are waiting */
  hash(password: string): Promise<string> {
    return this.queue(() => argon2.hash(prepared(password), cost));
  }

  /**
   * Takes as long without a stored hash as with one: time must not tell who has an account.
   * @throws ClientError `overloaded` when too many are waiting
   */
  check(password: string, storedHash: string | undefined): Promise<PasswordCheck> {
    return this.queue(async () => {
      const matches = await argon2.verify(storedHash ?? this.nobodysHash, prepared(password));
      if (!matches || storedHash === undefined) return { matches: false };
      if (!argon2.needsRehash(storedHash, cost)) return { matches };
      return { matches, newHash: await argon2.hash(prepared(password), cost) };
    });
  }
}

/** Two keyboards may make the same letters of different code points (RFC 8265, section 4.2.2). */
const prepared = (password: string): string => password.normalize('NFC');
