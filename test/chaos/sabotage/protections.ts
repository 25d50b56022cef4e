/** What the server is built on, one protection each: how to take it out, what then goes wrong, and which promise the checker must find broken. */
import pg from 'pg';
import { eventually } from '../../support/eventually.js';
import type { Invariant } from '../history.js';
import { seconds } from '../world.js';
import { sent, type Stage } from './stage.js';
import { membersBeforeLock, readingBeforeLock, withoutIdempotency, withoutKeyIndex } from './statements.js';

type TakeOut = (sql: pg.Pool) => Promise<() => Promise<unknown>>;

interface Protection {
  readonly breaks: Invariant;
  /** Of a protection in the database; the others are taken out of the nodes, by the same name in without.mjs. */
  readonly takeOut?: TakeOut;
  /** Another protection against the same, which is not there in either round, so that what is seen is this one's work. */
  readonly alsoOut?: TakeOut;
  /** What happens to the clients, so that the protection is needed. */
  act(stage: Stage): Promise<void>;
}

/** A client of the database that is no node. */
async function inSession(stage: Stage, act: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: stage.postgres.url, application_name: 'chaos' });
  await client.connect();
  try {
    await act(client);
  } finally {
    await client.end();
  }
}

/** On a busy machine clients may not be back in time, or batches not wait: then what the round is made for has not happened, and is tried again. */
async function untilInTime(act: () => Promise<void>): Promise<void> {
  for (let triesLeft = 2; ; triesLeft--) {
    try {
      return await act();
    } catch (error) {
      if (triesLeft === 0) throw error;
    }
  }
}

/** Cuts all clients, which come back to this one node. */
async function gatherOn({ nodes, clients }: Stage, node: number): Promise<void> {
  for (const client of clients) {
    client.moveTo([nodes[node]?.url ?? '']);
    client.cut();
  }
  await eventually(() => clients.every(({ isConnected }) => !isConnected), 'all to be cut', 5_000);
  await eventually(() => clients.every(({ isConnected }) => isConnected), 'all to come back', 5_000);
}

/** Resolves when so many batches wait for a lock. */
const batchesWait = ({ postgres }: Stage, count: number): Promise<unknown> =>
  eventually(
    async () => {
      const { rows } = await postgres.sql.query<{ n: number }>(
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'append_(batch|lone)'",
      );
      return (rows[0]?.n ?? 0) >= count;
    },
    'batches to wait',
    5_000,
  );

async function notificationsLost(stage: Stage): Promise<void> {
  for (const { listen } of stage.nodes) listen.swallow();
  await sent(stage, 10);
  for (const { listen } of stage.nodes) {
    listen.heal();
    listen.cut();
  }
  await Promise.all(stage.nodes.map((node) => node.ready(20_000)));
}

const all = {
  'catch-up on connect': { breaks: 'I8', act: notificationsLost },

  'gap repair': {
    breaks: 'I8',
    async act(stage) {
      await notificationsLost(stage);
      await sent(stage, 10);
    },
  },

  'order by seq': {
    breaks: 'I5',
    act: (stage) =>
      inSession(stage, async (client) => {
        const heard = new Set<string>();
        let said: Promise<unknown> = Promise.resolve();
        client.on('notification', ({ payload = '' }) => {
          if (heard.has(payload) || heard.size > 20) return;
          heard.add(payload);
          said = said.then(() => client.query("SELECT pg_notify('trunkline', $1)", [payload]));
        });
        await client.query('LISTEN trunkline');
        for (let n = 0; n < 5; n++) await sent(stage, 3);
        client.removeAllListeners('notification');
        await said;
      }),
  },

  idempotency: {
    breaks: 'I2',
    async takeOut(sql) {
      const putBack = [await withoutKeyIndex(sql), await withoutIdempotency(sql)];
      return async () => {
        for (const put of putBack) await put();
      };
    },
    async act(stage) {
      for (const { front } of stage.nodes) front.onServerData = () => false;
      for (const client of stage.clients) client.send(stage.room);
      await seconds(0.5);
      for (const { front } of stage.nodes) front.onServerData = undefined;
    },
  },

  'lock before read': {
    breaks: 'I2',
    takeOut: readingBeforeLock,
    alsoOut: withoutKeyIndex,
    act: (stage) =>
      untilInTime(async () => {
        await gatherOn(stage, 0);
        await inSession(stage, async (client) => {
          await client.query('BEGIN');
          await client.query('SELECT FROM rooms WHERE id = $1 FOR UPDATE', [stage.room]);
          for (const each of stage.clients) each.send(stage.room);
          await batchesWait(stage, 1);
          await gatherOn(stage, 1); // where they send again, beside the batch that waits
          await batchesWait(stage, 2);
          await client.query('COMMIT');
        });
      }),
  },

  'membership under the lock': {
    breaks: 'I7',
    takeOut: membersBeforeLock,
    act: (stage) =>
      untilInTime(() =>
        inSession(stage, async (client) => {
          const [owner, kicked] = stage.people;
          await client.query('BEGIN');
          await client.query("SELECT leave_room($1, $2, $3, 'kicked')", [stage.room, kicked?.id, owner?.id]);
          for (let n = 0; n < 2; n++) stage.clients[1]?.send(stage.room); // in one batch, or one alone and then the other
          await batchesWait(stage, 1);
          await client.query('COMMIT');
        }),
      ),
  },

  'byte budget': {
    breaks: 'I11',
    async act(stage) {
      const { clients, nodes, recorder } = stage;
      const deaf = clients.slice(2);
      for (const client of deaf) client.pauseReading(true);
      const reading = { ...stage, clients: clients.slice(0, 2) };
      for (let n = 0; n < 10; n++) {
        await sent(reading, 40, 60_000);
        for (const node of nodes) {
          const metrics = await node.scrape();
          recorder.record({
            type: 'unsent',
            node: node.name,
            bytes: metrics.sum('trunkline_unsent_bytes'),
            sockets: metrics.sum('trunkline_connections'),
          });
        }
      }
      for (const client of deaf) client.pauseReading(false);
    },
  },
} satisfies Record<string, Protection>;

export type ProtectionName = keyof typeof all;

export const protections: Readonly<Record<ProtectionName, Protection>> = all;
