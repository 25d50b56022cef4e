/** What the database was asked, by pg_stat_statements: an extension that the server must have loaded at its start. */
import type pg from 'pg';

export interface Statement {
  /** Its text, with white space made one blank. */
  readonly text: string;
  readonly calls: number;
  /** ms of the server, of all calls. */
  readonly ms: number;
}

/** Settings of a server that counts. */
export const countingStatements = { shared_preload_libraries: 'pg_stat_statements' };

/** Counts from now on. Does nothing on a server that can't. */
export async function countStatements(db: pg.Client): Promise<void> {
  await db.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements').catch(() => undefined);
  await db.query('SELECT pg_stat_statements_reset()').catch(() => undefined);
}

/** What clients sent since, the most frequent first, on this database. @returns undefined where nothing was counted */
export async function readStatements(db: pg.Client): Promise<Statement[] | undefined> {
  try {
    const { rows } = await db.query<{ text: string; calls: number; ms: number }>(
      `SELECT regexp_replace(query, '\\s+', ' ', 'g') AS text, calls::int, total_exec_time AS ms FROM pg_stat_statements
       WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat_statements%'
       ORDER BY calls DESC`,
    );
    return rows;
  } catch {
    return undefined;
  }
}
