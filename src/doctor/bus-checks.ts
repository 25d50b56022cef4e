/** The bus: whether what is notified comes back, whether its queue is free, and who could hold it up. And the clock. */
import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { directUrl } from '../database/database.js';
import { fail, ok, warn, type Check, type Finding } from './check.js';
import { connect, isPooled, type Server } from './server.js';

/** A channel of the doctor's: the nodes hear nothing of it. */
const channel = 'trunkline_doctor';
const roundTripDeadlineMs = 3_000;
/** A transaction in which nothing happens for so long is one that somebody forgot. */
const forgottenAfter = '1 minute';
const queueShareWarn = 0.1;
const queueShareFail = 0.5;

export const busChecks: readonly Check<Server>[] = [
  { name: 'pooler', run: pooler },
  { name: 'LISTEN round trip', run: roundTrip },
  { name: 'notification queue', run: queue },
  { name: 'open transactions', run: (server) => openTransactions(server) },
  { name: 'clock', run: clock },
];

function pooler({ pooled, config }: Server): readonly Finding[] {
  if (!pooled) return ok('DATABASE_URL goes to the server itself');
  if (config.DATABASE_LISTEN_URL === '')
    return fail(
      'DATABASE_URL goes through a pooler such as PgBouncer: set DATABASE_LISTEN_URL to the direct address, for LISTEN and migrations',
    );
  return ok('DATABASE_URL goes through a pooler; DATABASE_LISTEN_URL is set');
}

/** Notifies by one address and hears by the other: they must be the same database, and the listener's session its own. */
async function roundTrip({ sql, config }: Server): Promise<readonly Finding[]> {
  const listener = await connect(directUrl(config));
  try {
    const name = config.DATABASE_LISTEN_URL === '' ? 'DATABASE_URL' : 'DATABASE_LISTEN_URL';
    const payload = randomUUID();
    const heard = new Promise<number>((done) =>
      listener.on('notification', (notification) => notification.payload === payload && done(performance.now())),
    );
    await listener.query(`LISTEN ${channel}`);
    const sentAt = performance.now();
    await sql.query('SELECT pg_notify($1, $2)', [channel, payload]);
    const heardAt = await Promise.race([heard, wait(roundTripDeadlineMs, undefined, { ref: false })]);
    if (heardAt !== undefined) return ok(`${Math.round(heardAt - sentAt)} ms`);
    return fail(
      `what was notified did not come back within ${roundTripDeadlineMs / 1_000} s: ` +
        ((await isPooled(listener))
          ? `${name} goes through a pooler such as PgBouncer, which does not carry LISTEN in transaction mode: set DATABASE_LISTEN_URL to the direct address`
          : `${name} and DATABASE_URL must be the same database of the same primary`),
    );
  } finally {
    await listener.end();
  }
}

async function queue({ sql }: Server): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ usage: number }>('SELECT pg_notification_queue_usage() AS usage');
  return judgeQueue(rows[0]?.usage ?? 0);
}

/** @param usage share of the queue, 0 to 1 */
export function judgeQueue(usage: number): readonly Finding[] {
  const text = `${Math.round(usage * 100)} % full`;
  const toDo =
    'some session LISTENs and stays in a transaction or does not read; at 100 % no message can be stored. PostgreSQL logs its process id: pg_terminate_backend';
  if (usage >= queueShareFail) return fail(`${text}: ${toDo}`);
  return usage >= queueShareWarn ? warn(`${text}: ${toDo}`) : ok(text);
}

/** They hold back vacuum and, where they LISTEN, the queue; a prepared one keeps its rooms locked for ever. */
export async function openTransactions({ sql }: Server, olderThan = forgottenAfter): Promise<readonly Finding[]> {
  const { rows } = await sql.query<{ what: string; end: string }>(
    `SELECT 'process ' || pid || ' (' || coalesce(usename, '?') || ', ' || coalesce(nullif(application_name, ''), 'no name') || ')' AS what,
       'SELECT pg_terminate_backend(' || pid || ')' AS end
     FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - $1::interval
     UNION ALL SELECT 'the prepared transaction ' || quote_literal(gid), 'COMMIT or ROLLBACK PREPARED ' || quote_literal(gid)
     FROM pg_prepared_xacts WHERE database = current_database() AND prepared < clock_timestamp() - $1::interval`,
    [olderThan],
  );
  if (rows.length === 0) {
    const all = await sql.query<{ seen: boolean }>("SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS seen");
    return ok(
      `none idle for more than ${olderThan}${all.rows[0]?.seen === true ? '' : ' of this role (GRANT pg_monitor to it, to see others too)'}`,
    );
  }
  return rows.flatMap(({ what, end }) =>
    warn(`${what} waits in a transaction for more than ${olderThan}: it may lock rooms and holds back vacuum. ${end}`),
  );
}

/** This machine's clock against the server's, by the quickest of a few questions. */
async function clock({ sql }: Server): Promise<readonly Finding[]> {
  const samples: ClockSample[] = [];
  for (let n = 0; n < 5; n++) {
    const askedAt = Date.now();
    const { rows } = await sql.query<{ ms: string }>('SELECT (extract(epoch FROM clock_timestamp()) * 1000)::text AS ms');
    samples.push({ askedAt, answeredAt: Date.now(), serverAt: Number(rows[0]?.ms) });
  }
  return judgeClock(samples);
}

/** ms since 1970, the first two by this machine's clock. */
export interface ClockSample {
  readonly askedAt: number;
  readonly answeredAt: number;
  readonly serverAt: number;
}

const skewWarnMs = 1_000;
const skewFailMs = 30_000;

/** The server's time was taken somewhere between question and answer: no more skew is claimed than is certain. */
export function judgeClock(samples: readonly ClockSample[]): readonly Finding[] {
  const certain = samples.map(({ askedAt, answeredAt, serverAt }) =>
    serverAt < askedAt ? serverAt - askedAt : serverAt > answeredAt ? serverAt - answeredAt : 0,
  );
  const skewMs = Math.round(certain.reduce((most, skew) => (Math.abs(skew) > Math.abs(most) ? skew : most), 0));
  const text = `the database's clock is ${Math.abs(skewMs)} ms ${skewMs < 0 ? 'behind' : 'ahead of'} this machine's`;
  const toDo = 'tokens and sessions end by clocks. Run an NTP service on both (timedatectl set-ntp true)';
  if (Math.abs(skewMs) >= skewFailMs) return fail(`${text}: ${toDo}`);
  return Math.abs(skewMs) >= skewWarnMs ? warn(`${text}: ${toDo}`) : ok('within a second');
}
