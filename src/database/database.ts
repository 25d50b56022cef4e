/**
 * Connections to PostgreSQL. Three pools, so that no REST load can starve the others: one for everything; one for what is asked every
 * second, of the bus and of sessions; and the message writer's, with a connection for each lane, and a second one once the lane has a second
 * batch in flight or has met rooms whose lock somebody else holds. Every wait here has an end: for a connection, for a lock, for a statement, for an answer.
 */
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import pg from 'pg';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { LOGGER } from '../logger.js';
import { toClientError } from './sql-error.js';

const connectTimeoutMs = 5_000;
const lockTimeoutMs = 2_000;
const statementTimeoutMs = 5_000;
/** Above the server's own limit: when it fires, the server or the network is not answering. */
const queryTimeoutMs = 7_000;

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') => {
    if (oid === pg.types.builtins.INT8) return Number; // seqs and ids stay below 2^53
    if (oid === pg.types.builtins.TIMESTAMPTZ) return (text: string) => new Date(text).toISOString();
    return pg.types.getTypeParser(oid, format);
  }) as typeof pg.types.getTypeParser,
};

/** What every connection of a node has in common; LISTEN uses it too. */
export function connectionConfig(connectionString: string, name: string): pg.ClientConfig {
  return {
    connectionString,
    types,
    application_name: `trunkline ${name}`.slice(0, 63),
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
}

/** What is asked every second takes some ms: who has no answer by then is on a connection that is dead, and the next second asks on another. */
const watchTimeouts = { statement_timeout: 1_500, query_timeout: 2_000 };
/** One for the heartbeat; one for the heads of the rooms and, in turn, the sessions of the sockets. */
const watchConnections = 2;
/** A lane may have two batches' connections; see the message writer. */
const connectionsPerLane = 2;

/** What one node holds at most, with the connection that listens. */
export const connectionsPerNode = ({ DATABASE_POOL_SIZE, WRITER_LANES }: Config): number =>
  DATABASE_POOL_SIZE + connectionsPerLane * WRITER_LANES + watchConnections + 1;

/** Where a session must be one's own: for LISTEN, and for the lock that the migrations hold. Not by way of a pooler of transactions. */
export const directUrl = ({ DATABASE_URL, DATABASE_LISTEN_URL }: Config): string =>
  DATABASE_LISTEN_URL === '' ? DATABASE_URL : DATABASE_LISTEN_URL;

/** How many connections a pool has, and who waits for one. */
export interface PoolState {
  readonly open: number;
  readonly idle: number;
  readonly max: number;
  readonly waiters: number;
}

export interface Queryable {
  query<Row extends pg.QueryResultRow>(query: pg.QueryConfig | string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

@Injectable()
export class Database implements Queryable, OnApplicationShutdown {
  private readonly pool: pg.Pool;
  private readonly writers: pg.Pool;
  private readonly watchers: pg.Pool;
  /**
   * Asked, once it is set, with the epoch of each new connection before it is used for anything but what the bus asks: to promise that nothing is
   * read or written of an epoch that clients were not told of. A connection for which it rejects is not used.
   */
  admit: ((epoch: string) => Promise<void>) | undefined;
  /** For what is asked every second: its own connections, so that requests which wait for a lock don't make it look as if the database were away. */
  readonly watch: Queryable;

  constructor(@Inject(CONFIG) config: Config, @Inject(LOGGER) log: Logger) {
    // pg-pool waits for what it returns, which its types don't say.
    const onConnect = ((client) => this.whenAdmitted(client)) as (client: pg.ClientBase) => void;
    this.pool = new pg.Pool({ ...connectionConfig(config.DATABASE_URL, 'api'), max: config.DATABASE_POOL_SIZE, onConnect });
    this.writers = new pg.Pool({
      ...connectionConfig(config.DATABASE_URL, 'writer'),
      onConnect,
      max: connectionsPerLane * config.WRITER_LANES,
      idleTimeoutMillis: 0,
    });
    this.watchers = new pg.Pool({ ...connectionConfig(config.DATABASE_URL, 'watch'), ...watchTimeouts, max: watchConnections });
    this.watch = { query: (query, values) => queryOn(this.watchers, query, values) };
    // Without a listener the death of an idle connection would end the process.
    for (const pool of [this.pool, this.writers, this.watchers])
      pool.on('error', (error) => log.warn({ err: error }, 'an idle database connection was lost'));
  }

  get pools(): Readonly<Record<'api' | 'writer' | 'watch', PoolState>> {
    return { api: stateOf(this.pool), writer: stateOf(this.writers), watch: stateOf(this.watchers) };
  }

  /** @throws ClientError `unavailable` when the database can't be asked; pg.DatabaseError when it refused the statement. */
  async query<Row extends pg.QueryResultRow>(query: pg.QueryConfig | string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
    return queryOn<Row>(this.pool, query, values);
  }

  /** Runs `work` in a transaction: committed when it resolves, rolled back when it throws. Same errors as `query`. */
  async transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    let broken: Error | undefined;
    const client = await this.pool.connect().catch((error: unknown) => {
      throw toClientError(error);
    });
    // The pool listens only while a client is idle: without this the end of its connection would be the end of the process.
    const lost = (error: Error) => (broken = error);
    client.on('error', lost);
    try {
      await client.query('BEGIN');
      const result = await work(client);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((rollbackError: Error) => (broken = rollbackError));
      throw toClientError(error);
    } finally {
      client.off('error', lost);
      client.release(broken);
    }
  }

  /** One statement on a connection of the message writer. Rejects with the raw error: the writer judges it itself. */
  async write<Row extends pg.QueryResultRow>(query: pg.QueryConfig): Promise<pg.QueryResult<Row>> {
    return this.writers.query<Row>(query);
  }

  private async whenAdmitted(client: pg.ClientBase): Promise<void> {
    if (this.admit === undefined) return; // before the node serves
    const { rows } = await client.query<{ epoch: string }>('SELECT current_epoch() AS epoch');
    await this.admit(rows[0]?.epoch ?? '');
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.pool.end(), this.writers.end(), this.watchers.end()]);
  }
}

const stateOf = ({ totalCount, idleCount, waitingCount, options }: pg.Pool): PoolState => ({
  open: totalCount,
  idle: idleCount,
  max: options.max,
  waiters: waitingCount,
});

async function queryOn<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
  query: pg.QueryConfig | string,
  values?: unknown[],
): Promise<pg.QueryResult<Row>> {
  try {
    return await pool.query<Row>(query as string, values);
  } catch (error) {
    throw toClientError(error);
  }
}
