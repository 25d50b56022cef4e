/**
 * What a session says of how values are read and written, and of what its statements see, is for a server, a database, a role, an
 * address and the environment to set. A node's statements must mean the same everywhere, so each connection sets all of it itself.
 */
import { Socket } from 'node:net';
import pg from 'pg';

/**
 * Settings that any role may set. Where the server does not have one (a later version brought it) it is passed over.
 * `isTracked`: PgBouncer carries it from one server connection to the next; the others do not outlive a transaction there.
 */
export const sessionSettings: Readonly<Record<string, { readonly value: string; readonly isTracked?: true }>> = {
  search_path: { value: 'public, pg_temp' },
  client_encoding: { value: 'UTF8', isTracked: true },
  DateStyle: { value: 'ISO, YMD', isTracked: true },
  TimeZone: { value: 'UTC', isTracked: true },
  IntervalStyle: { value: 'postgres' },
  standard_conforming_strings: { value: 'on', isTracked: true },
  backslash_quote: { value: 'safe_encoding' },
  bytea_output: { value: 'hex' },
  extra_float_digits: { value: '1' },
  array_nulls: { value: 'on' },
  transform_null_equals: { value: 'off' },
  quote_all_identifiers: { value: 'off' },
  default_transaction_isolation: { value: 'read committed' },
  default_transaction_deferrable: { value: 'off' },
  row_security: { value: 'on' },
  gin_fuzzy_search_limit: { value: '0' }, // a search would find a random part
  exit_on_error: { value: 'off' },
  transaction_timeout: { value: '0' },
  idle_session_timeout: { value: '0' },
  plan_cache_mode: { value: 'auto' },
  'plpgsql.extra_errors': { value: 'none' },
};

/** What a connection is found to be, which it can't set itself. */
export interface SessionState {
  /** New transactions can't write: the default_transaction_read_only of the server, the database or the role, or a standby. */
  readonly isReadOnly: boolean;
  /** Triggers run: session_replication_role is what only a superuser may change. */
  readonly hasTriggers: boolean;
  /** Something between, such as PgBouncer, gives the connection to one session after another. */
  readonly isPooled: boolean;
}

const wanted = JSON.stringify(Object.fromEntries(Object.entries(sessionSettings).map(([name, { value }]) => [name, value])));

/** Makes a connection independent of what others set. */
export async function settleSession(client: pg.ClientBase): Promise<SessionState> {
  // Everything is named in full: until this has run, the search path may lead to functions and operators of somebody else.
  const { rows } = await client.query<{ role: string; read_only: string; pid: number }>({
    text: `
      SELECT pg_catalog.current_setting('session_replication_role') AS role, pg_catalog.current_setting('transaction_read_only') AS read_only,
        pg_catalog.pg_backend_pid() AS pid,
        CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
          THEN pg_catalog.set_config('synchronous_commit', 'on', false) END,
        (SELECT pg_catalog.count(pg_catalog.set_config(s.key, s.value, false))
         FROM pg_catalog.json_each_text($1::pg_catalog.json) AS s WHERE pg_catalog.current_setting(s.key, true) IS NOT NULL)`,
    values: [wanted],
  });
  const [row] = rows;
  return {
    isReadOnly: row?.read_only === 'on',
    hasTriggers: row?.role === 'origin',
    // A pooler makes up the process id that it tells its clients (for CancelRequest); the server tells its own.
    isPooled: row?.pid !== (client as pg.ClientBase & { processID: number }).processID,
  };
}

/**
 * A connection of a command, of the migrations or of the listener. The caller ends it.
 * @param signal ends it too, whatever it waits for
 * @throws what `pg` throws
 */
export async function openClient(config: pg.ClientConfig, signal?: AbortSignal): Promise<pg.Client> {
  const socket = new Socket();
  const client = new pg.Client({ ...config, ...(signal && { stream: () => socket }) });
  client.on('error', () => undefined); // the statement under way, or the next one, rejects
  signal?.throwIfAborted();
  signal?.addEventListener('abort', () => socket.destroy());
  try {
    await client.connect();
    await settleSession(client);
  } catch (error) {
    void client.end().catch(() => undefined);
    throw error;
  }
  return client;
}

/** How times and large numbers are read, once for all. */
export const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (oid === pg.types.builtins.INT8) return Number; // seqs and ids stay below 2^53
    if (oid === pg.types.builtins.TIMESTAMPTZ) return isoTime;
    return pg.types.getTypeParser(oid, format);
  }) as typeof pg.types.getTypeParser,
};

/** A time in another style than ISO would be read as another time, wrong by months: it is an error. */
function isoTime(text: string): string {
  if (!/^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:\d\d)?$/.test(text)) throw new Error(`not a time in ISO style: ${text}`);
  return new Date(text).toISOString();
}
