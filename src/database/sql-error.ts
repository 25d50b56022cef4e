import pg from 'pg';
import { ClientError } from '../protocol/errors.js';

/** What a failed statement means for whoever sent it. The only place where an SQLSTATE is read. */
export type SqlFailure =
  /** The server refused the statement because of its contents; nothing was stored, and the same would fail again. */
  | 'refused'
  /** Lock or statement time-out, deadlock, serialisation failure: nothing was stored, and the same may succeed. */
  | 'contended'
  /** The connection or the server went away, or can't write now: whether it was stored is unknown. */
  | 'unavailable'
  /** An error of our own code: whether it was stored is unknown, and trying again would not help. */
  | 'internal';

/**
 * No connection, or none that answered in time. The connections to PostgreSQL throw it for whatever the socket, the pool or a
 * time-out of ours said, so that no other place has to know those errors; the cause has the words.
 */
export class DatabaseAway extends Error {
  constructor(reason: string, cause?: unknown) {
    const { message, code } = (cause ?? {}) as { readonly message?: string; readonly code?: string };
    super(cause === undefined ? reason : `${reason}: ${message || code}`, { cause });
  }
}

/** The connection is there, and what was asked has no answer yet: the server works on it, or the way to it is dead. */
export class NoAnswer extends DatabaseAway {}

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const contended = new Set(['40001', '40P01', '55P03', '57014']);
const refusedClasses = new Set(['21', '22', '23', '2F', '42', 'P0', 'XX']);

/** @param error anything that a statement rejected with */
export function classify(error: unknown): SqlFailure {
  if (error instanceof DatabaseAway || (error instanceof ClientError && error.temporary)) return 'unavailable';
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) return 'internal';
  if (contended.has(error.code)) return 'contended';
  return refusedClasses.has(error.code.slice(0, 2)) ? 'refused' : 'unavailable';
}

export const sqlState = (error: unknown): string | undefined => (error instanceof pg.DatabaseError ? error.code : undefined);

export const isUniqueViolation = (error: unknown): boolean => sqlState(error) === '23505';

/** For what is tried again by itself: a database that is away is no news, a bug is. */
export const logLevelOf = (error: unknown): 'debug' | 'error' => (classify(error) === 'unavailable' ? 'debug' : 'error');

/** What a client is told of a failed statement: `unavailable` where trying again may help, else the error itself, a bug. */
export function toClientError(error: unknown): unknown {
  if (error instanceof ClientError || ['refused', 'internal'].includes(classify(error))) return error;
  return new ClientError('unavailable', undefined, { retryAfterMs: 1_000, cause: error });
}
