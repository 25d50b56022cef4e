import pg from 'pg';
import { ClientError } from '../protocol/errors.js';

/** What a failed statement means for whoever sent it. The only place where an SQLSTATE is read. */
export type SqlFailure =
  /** The server refused the statement because of its contents; nothing was stored, and the same would fail again. */
  | 'refused'
  /** Lock or statement time-out, deadlock, serialisation failure: nothing was stored, and the same may succeed. */
  | 'contended'
  /** The connection or the server went away, or can't write now: whether it was stored is unknown. */
  | 'unavailable';

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const contended = new Set(['40001', '40P01', '55P03', '57014']);
const refusedClasses = new Set(['21', '22', '23', '2F', '42', 'P0', 'XX']);

/** @param error anything that a `pg` call rejected with. An error without SQLSTATE came from the socket or a time-out of ours. */
export function classify(error: unknown): SqlFailure {
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) return 'unavailable';
  if (contended.has(error.code)) return 'contended';
  return refusedClasses.has(error.code.slice(0, 2)) ? 'refused' : 'unavailable';
}

export const isUniqueViolation = (error: unknown): boolean => error instanceof pg.DatabaseError && error.code === '23505';

/** What a client is told of a failed statement: `unavailable` where trying again may help, else the error itself, a bug. */
export function toClientError(error: unknown): unknown {
  if (error instanceof ClientError || classify(error) === 'refused') return error;
  return new ClientError('unavailable', undefined, { retryAfterMs: 1_000, cause: error });
}
