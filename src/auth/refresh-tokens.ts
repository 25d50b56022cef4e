import { createHash, randomBytes } from 'node:crypto';

/** 256 random bits in 43 characters, opaque to everybody. */
export const makeRefreshToken = (): string => randomBytes(32).toString('base64url');

/** What is stored of a token: nobody who reads the table can use it. Needs no salt, for nobody can guess 256 random bits. */
export const hashRefreshToken = (token: string): Buffer => createHash('sha256').update(token).digest();
