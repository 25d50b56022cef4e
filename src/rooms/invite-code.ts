/**
 * The code of an invitation: the room's id and a secret, so that whoever has it finds the room without a look-up over all buckets. 43 characters
 * of base64url.
 */
import { createHash, randomBytes } from 'node:crypto';
import { parse, stringify } from 'uuid';

const idBytes = 16;
const secretBytes = 16;

export interface InviteSecret {
  readonly roomId: string;
  readonly secret: Buffer;
}

export const newSecret = (roomId: string): InviteSecret => ({ roomId, secret: randomBytes(secretBytes) });

export const encodeInvite = ({ roomId, secret }: InviteSecret): string => Buffer.concat([parse(roomId), secret]).toString('base64url');

/** @returns undefined where this is no code */
export function decodeInvite(code: string): InviteSecret | undefined {
  const bytes = Buffer.from(code, 'base64url');
  if (bytes.length !== idBytes + secretBytes || bytes.toString('base64url') !== code) return undefined;
  try {
    return { roomId: stringify(bytes), secret: bytes.subarray(idBytes) };
  } catch {
    return undefined; // not a UUID
  }
}

/** The secret has 128 bits of chance: it needs no salt and no slow hash. */
export const hashSecret = ({ secret }: InviteSecret): Buffer => createHash('sha256').update(secret).digest();
