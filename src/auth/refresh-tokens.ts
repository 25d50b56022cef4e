import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { parse as uuidBytes, stringify as uuidText } from 'uuid';
import { CONFIG, type Config } from '../config.js';

const idBytes = 16;
const secretBytes = 32;
const sealBytes = 16;

/**
 * Refresh tokens: the id of a session, a secret of 256 bits, and a seal over both that only the nodes can make. Opaque to clients.
 *
 * The seal tells a token that was ours once from one that never was, so that spent ones need not be kept to be known. A token's successor is
 * made of it by a key of ours: whoever asks again because the answer was lost gets the same one, though only its hash is stored. Without the
 * key, no token tells anything of the one before or after it.
 */
@Injectable()
export class RefreshTokens {
  private readonly key: Buffer;

  constructor(@Inject(CONFIG) { JWT_ACCESS_SECRET }: Config) {
    this.key = Buffer.from(hkdfSync('sha256', JWT_ACCESS_SECRET, '', 'trunkline refresh tokens', 32));
  }

  /** The first token of a session. */
  first(sessionId: string): string {
    return this.sealed(Buffer.concat([uuidBytes(sessionId), randomBytes(secretBytes)]));
  }

  /** The token that a token of ours is exchanged for: always the same. */
  successor(token: string): string {
    const body = bodyOf(token);
    return this.sealed(Buffer.concat([body.subarray(0, idBytes), this.mac('successor', body)]));
  }

  /** The session that a token is or was of; undefined where we never made it. */
  sessionOf(token: string): string | undefined {
    const bytes = Buffer.from(token, 'base64url');
    if (bytes.length !== idBytes + secretBytes + sealBytes || bytes.toString('base64url') !== token) return undefined;
    const body = bodyOf(token);
    if (!timingSafeEqual(bytes.subarray(body.length), this.seal(body))) return undefined;
    return uuidText(body.subarray(0, idBytes));
  }

  private sealed(body: Buffer): string {
    return Buffer.concat([body, this.seal(body)]).toString('base64url');
  }

  private seal(body: Buffer): Buffer {
    return this.mac('seal', body).subarray(0, sealBytes);
  }

  /** @param use keeps what is made for one use from being worth anything for another */
  private mac(use: 'seal' | 'successor', body: Buffer): Buffer {
    return createHmac('sha256', this.key).update(`${use}\n`).update(body).digest();
  }
}

const bodyOf = (token: string): Buffer => Buffer.from(token, 'base64url').subarray(0, idBytes + secretBytes);

/** What is stored of a token: nobody who reads the table can use it. Needs no salt, for nobody can guess 256 random bits. */
export const hashRefreshToken = (token: string): Buffer => createHash('sha256').update(token).digest();
