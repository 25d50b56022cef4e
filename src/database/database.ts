/**
 * Connections to PostgreSQL. Three pools, so that no REST load can starve the others: one for everything; one for what is asked every
 * second, of the bus and of sessions; and the message writer's, with a connection for each lane, and a second one once the lane has a second
 * batch in flight or has met rooms whose lock somebody else holds. Every wait here has an end: for a connection, for a lock, for a statement, for an answer.
 *
 * A connection whose statement was given up keeps its place in its pool until the server has let go of it. A commit that waits for a
 * synchronous standby can't be given up on the server, so a new connection for each time-out would take all that the server has.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import pg from 'pg';
import type { Logger } from 'pino';
import { CONFIG, type Config } from '../config.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import { settleSession, types } from './session.js';
import { classify, DatabaseAway, NoAnswer, sqlState, toClientError } from './sql-error.js';

const connectTimeoutMs = 5_000;
const lockTimeoutMs = 2_000;
const statementTimeoutMs = 5_000;
/** Above the server's own limit: when it fires, the server or the network is not answering. */
const queryTimeoutMs = 7_000;
/** How often the server is asked whether it still works on what was given up. */
const inspectEveryMs = 500;
/** A pooler hides which process of the server that is: then the place is given back after so long, and the pooler's own limits count. */
const pooledHoldMs = 60_000;

/** Of a connection; in the address they would win over ours. */
const owned = ['application_name', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'query_timeout'];

function withoutOwned(connectionString: string): string {
  if (!URL.canParse(connectionString)) return connectionString;
  const url = new URL(connectionString);
  if (!owned.some((name) => url.searchParams.has(name))) return connectionString;
  for (const name of owned) url.searchParams.delete(name);
  return url.href;
}

/** What every connection of a node has in common; LISTEN uses it too. */
export function connectionConfig(connectionString: string, name: string): pg.ClientConfig {
  return {
    connectionString: withoutOwned(connectionString),
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
const watchTimeouts = { statement_timeout: 1_500, connectionTimeoutMillis: 2_500 };
const watchQueryTimeoutMs = 2_000;
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

/** A connection that was given up while the server may still work on its last statement. */
interface Held {
  readonly pool: pg.Pool;
  readonly pid: number | undefined;
  readonly since: number;
  readonly letGo: (answered: boolean) => void;
}

@Injectable()
export class Database implements Queryable, OnApplicationShutdown {
  private readonly pool: pg.Pool;
  private readonly writers: pg.Pool;
  private readonly watchers: pg.Pool;
  private readonly held = new Set<Held>();
  private readonly pooled = new WeakSet<pg.ClientBase>();
  private inspecting = false;
  private closed = false;
  /** Whether the newest connection can't write. */
  private isReadOnly = false;
  /** Connections that were made when others could write and new ones can't, or the reverse, are ended when they are given back. */
  private rightsChanges = 0;
  private readonly madeAt = new WeakMap<pg.ClientBase, number>();
  /**
   * Asked, once it is set, with the epoch of each new connection before it is used for anything but what the bus asks: to promise that nothing is
   * read or written of an epoch that clients were not told of. A connection for which it rejects is not used.
   */
  admit: ((epoch: string) => Promise<void>) | undefined;
  /** For what is asked every second: its own connections, so that requests which wait for a lock don't make it look as if the database were away. */
  readonly watch: Queryable;

  constructor(
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) private readonly log: Logger,
  ) {
    // The time-out of answers is ours, not pg's: pg forgets a statement that it gives up.
    const common = (name: string) => ({ ...connectionConfig(config.DATABASE_URL, name), query_timeout: 0 });
    // pg-pool waits for what it returns, which its types don't say.
    const settled = (admitted: boolean) => ((client) => this.settle(client, admitted)) as (client: pg.ClientBase) => void;
    this.pool = new pg.Pool({ ...common('api'), max: config.DATABASE_POOL_SIZE, onConnect: settled(true) });
    this.writers = new pg.Pool({
      ...common('writer'),
      onConnect: settled(true),
      max: connectionsPerLane * config.WRITER_LANES,
      idleTimeoutMillis: 0,
    });
    this.watchers = new pg.Pool({ ...common('watch'), ...watchTimeouts, max: watchConnections, onConnect: settled(false) });
    this.watch = {
      query: (query, values) => this.run(this.watchers, (connection) => connection.query(query, values), watchQueryTimeoutMs),
    };
    // Without a listener the death of an idle connection would end the process.
    for (const pool of [this.pool, this.writers, this.watchers])
      pool.on('error', (error) => log.warn({ err: error }, 'an idle database connection was lost'));
  }

  get pools(): Readonly<Record<'api' | 'writer' | 'watch', PoolState>> {
    return { api: stateOf(this.pool), writer: stateOf(this.writers), watch: stateOf(this.watchers) };
  }

  /** @throws ClientError `unavailable` when the database can't be asked; pg.DatabaseError when it refused the statement; an error of ours. */
  async query<Row extends pg.QueryResultRow>(query: pg.QueryConfig | string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
    return this.run(this.pool, (connection) => connection.query<Row>(query, values));
  }

  /** Runs `work` in a transaction: committed when it resolves, rolled back when it throws. Same errors as `query`. */
  async transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.run(this.pool, async (connection) => {
      await connection.query('BEGIN');
      try {
        const result = await work(connection);
        await connection.query('COMMIT');
        return result;
      } catch (error) {
        if (connection.isUsable) await connection.query('ROLLBACK').catch(() => connection.spoil());
        else connection.spoil();
        throw error;
      }
    });
  }

  /** One statement on a connection of the message writer. Rejects with the raw error: the writer judges it itself. */
  async write<Row extends pg.QueryResultRow>(query: pg.QueryConfig, timeoutMs = queryTimeoutMs): Promise<pg.QueryResult<Row>> {
    return this.on(this.writers, (connection) => connection.query<Row>(query), timeoutMs);
  }

  private async run<Result>(pool: pg.Pool, work: (connection: Connection) => Promise<Result>, timeoutMs = queryTimeoutMs): Promise<Result> {
    try {
      return await this.on(pool, work, timeoutMs);
    } catch (error) {
      throw toClientError(error);
    }
  }

  /** @throws DatabaseAway, pg.DatabaseError with an SQLSTATE, or what `work` throws */
  private async on<Result>(pool: pg.Pool, work: (connection: Connection) => Promise<Result>, timeoutMs: number): Promise<Result> {
    this.refuseWhereAllAreHeld(pool);
    const client = await pool.connect().catch((error: unknown) => {
      throw error instanceof ClientError ? error : new DatabaseAway('no connection to the database', error);
    });
    const connection = new Connection(client, timeoutMs);
    try {
      return await work(connection);
    } finally {
      const { unanswered } = connection;
      if (unanswered === undefined) connection.release(this.isOutdated(client));
      else this.hold(pool, client, connection, unanswered);
    }
  }

  private refuseWhereAllAreHeld(pool: pg.Pool): void {
    if (this.held.size === 0) return;
    const held = this.heldOf(pool);
    if (held.length < pool.options.max) return;
    // The watchers only read, and ask what became of the others: one place of theirs is always for the next try.
    if (pool === this.watchers) return held[0]?.letGo(false);
    throw new NoAnswer('every connection waits for an answer that the server did not give in time');
  }

  private heldOf(pool: pg.Pool): Held[] {
    return [...this.held].filter((each) => each.pool === pool);
  }

  /** Connections of the message writer whose last statement was given up and may still be worked on. */
  get heldWriters(): number {
    return this.heldOf(this.writers).length;
  }

  private hold(pool: pg.Pool, client: pg.PoolClient, connection: Connection, unanswered: Promise<unknown>): void {
    if (this.closed) return connection.release(true);
    const held: Held = {
      pool,
      pid: this.pooled.has(client) ? undefined : (client as pg.PoolClient & { processID: number }).processID,
      since: performance.now(),
      letGo: (answered) => {
        if (this.held.delete(held)) connection.release(!answered || this.isOutdated(client));
      },
    };
    this.held.add(held);
    unanswered.then(
      () => held.letGo(true),
      () => held.letGo(false),
    );
    void this.inspect();
  }

  /** Asks which of the held connections the server still works for, and gives the places of the others back, until none is held. */
  private async inspect(): Promise<void> {
    if (this.inspecting) return;
    this.inspecting = true;
    while (this.held.size > 0 && !this.closed) {
      await this.letIdleGo().catch((error: unknown) => this.log.debug({ err: error }, 'what was given up can’t be asked for yet'));
      if (this.held.size > 0) await delay(inspectEveryMs, undefined, { ref: false });
    }
    this.inspecting = false;
  }

  private async letIdleGo(): Promise<void> {
    const asked = [...this.held];
    const pids = asked.flatMap(({ pid }) => pid ?? []);
    const { rows } = await this.watch.query<{ pid: number; works: boolean }>(
      // One that waits for its client has answered: the way to it is dead. It is ended, or it would stay for as long as TCP lets it.
      `SELECT pid, works, works OR pg_terminate_backend(pid)
       FROM (SELECT pid, wait_event_type IS DISTINCT FROM 'Client' AND coalesce(state, '') NOT LIKE 'idle%' AS works FROM pg_stat_activity
             WHERE pid = ANY ($1::int[]) AND application_name LIKE 'trunkline %') AS given_up`,
      [pids],
    );
    const working = new Set(rows.filter(({ works }) => works).map(({ pid }) => pid));
    const now = performance.now();
    for (const held of asked) if (held.pid === undefined ? now - held.since > pooledHoldMs : !working.has(held.pid)) held.letGo(false);
  }

  private isOutdated(client: pg.ClientBase): boolean {
    return this.madeAt.get(client) !== this.rightsChanges;
  }

  private async settle(client: pg.ClientBase, isAdmitted: boolean): Promise<void> {
    const { isReadOnly, hasTriggers, isPooled } = await inTime(settleSession(client));
    if (!hasTriggers) throw new DatabaseAway('session_replication_role is not origin, so that triggers don’t run');
    if (isPooled) this.pooled.add(client);
    if (isReadOnly !== this.isReadOnly) {
      this.isReadOnly = isReadOnly;
      this.rightsChanges++;
      this.log.warn(isReadOnly ? 'new connections can only read' : 'new connections can write again');
    }
    this.madeAt.set(client, this.rightsChanges);
    if (!isAdmitted || this.admit === undefined) return; // before the node serves
    const { rows } = await inTime(client.query<{ epoch: string }>('SELECT current_epoch() AS epoch'));
    await this.admit(rows[0]?.epoch ?? '');
  }

  async onApplicationShutdown(): Promise<void> {
    this.closed = true;
    const ended = Promise.all([this.pool.end(), this.writers.end(), this.watchers.end()]);
    for (const held of this.held) held.letGo(false);
    await ended;
  }
}

const inTime = <Result>(answer: Promise<Result>): Promise<Result> => {
  const late = new AbortController();
  const tooLate = delay(queryTimeoutMs, undefined, { signal: late.signal, ref: false }).then(() => {
    throw new NoAnswer(`no answer within ${queryTimeoutMs} ms`);
  });
  return Promise.race([answer, tooLate]).finally(() => late.abort());
};

/** After these the session is as it was before the statement: the connection is kept. */
const isHarmless = (error: unknown): boolean => classify(error) === 'contended' || /^(22|23|P0)/.test(sqlState(error) ?? '');

/** A connection that is lent by its pool. */
class Connection implements Queryable {
  /** The answer that did not come in time; it settles when the server has let go, or the connection is gone. */
  unanswered: Promise<unknown> | undefined;
  private lost: Error | undefined;
  private isSpoilt = false;
  private readonly onError = (error: Error): void => void (this.lost = error);

  constructor(
    private readonly client: pg.PoolClient,
    private readonly timeoutMs: number,
  ) {
    // The pool listens only while a client is idle: without this the end of its connection would be the end of the process.
    client.on('error', this.onError);
  }

  get isUsable(): boolean {
    return this.unanswered === undefined && this.lost === undefined;
  }

  /** A transaction may be open on it: nobody else may use it. */
  spoil(): void {
    this.isSpoilt = true;
  }

  query<Row extends pg.QueryResultRow>(query: pg.QueryConfig | string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
    if (this.unanswered !== undefined) return Promise.reject(new NoAnswer('the statement before had no answer'));
    return new Promise((resolve, reject) => {
      const answer = this.client.query<Row>(query as string, values);
      const timer = setTimeout(() => {
        this.unanswered = answer;
        reject(new NoAnswer(`no answer within ${this.timeoutMs} ms`));
      }, this.timeoutMs);
      answer.then(
        (result) => {
          clearTimeout(timer);
          resolve(result);
        },
        (error: unknown) => {
          clearTimeout(timer);
          if (!isHarmless(error)) this.isSpoilt = true;
          reject(this.judge(error));
        },
      );
    });
  }

  release(isOutdated: boolean): void {
    this.client.off('error', this.onError);
    this.client.release(isOutdated || this.isSpoilt || this.lost !== undefined);
  }

  /** The server's own word stays as it is; what the socket says is `DatabaseAway`; the rest is an error of our code. */
  private judge(error: unknown): unknown {
    if (sqlState(error) !== undefined) return error;
    const { _queryable: isQueryable } = this.client as pg.PoolClient & { _queryable?: boolean };
    const isLost = this.lost !== undefined || isQueryable === false || error instanceof pg.DatabaseError;
    return isLost ? new DatabaseAway('the connection was lost', error) : error;
  }
}

const stateOf = ({ totalCount, idleCount, waitingCount, options }: pg.Pool): PoolState => ({
  open: totalCount,
  idle: idleCount,
  max: options.max,
  waiters: waitingCount,
});
