import { createHmac, hkdfSync } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '../config.js';

/**
 * Hashes of what could be guessed, such as addresses: without the key of the nodes, a table of them can't be searched for one. The key comes from
 * JWT_ACCESS_SECRET: with another secret, what is known of before is forgotten.
 */
@Injectable()
export class KeyedHash {
  private readonly key: Buffer;

  constructor(@Inject(CONFIG) { JWT_ACCESS_SECRET }: Pick<Config, 'JWT_ACCESS_SECRET'>) {
    this.key = Buffer.from(hkdfSync('sha256', JWT_ACCESS_SECRET, '', 'trunkline addresses', 32));
  }

  /** @returns 128 bits */
  of(text: string): Buffer {
    return createHmac('sha256', this.key).update(text).digest().subarray(0, 16);
  }
}
