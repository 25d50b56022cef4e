/** Each breaks something of the world for a while, and has put it right when it resolves. */
import { execFileSync } from 'node:child_process';
import pg from 'pg';
import type { ChaosClient } from './client.js';
import type { Dice } from './dice.js';
import { seconds, type World, type WorldNode } from './world.js';

export interface Scene {
  readonly world: World;
  readonly clients: readonly ChaosClient[];
  readonly rooms: readonly string[];
  readonly dice: Dice;
}

type Fault = (scene: Scene) => Promise<void>;

const oneNode = ({ world: { nodes }, dice }: Scene): WorldNode => nodes[dice.below(nodes.length)] as WorldNode;

async function restart(node: WorldNode, signal: NodeJS.Signals): Promise<void> {
  const code = await node.stop(signal);
  if (signal === 'SIGTERM' && code !== 0) throw new Error(`${node.name} ended with ${code} after SIGTERM`);
  await node.start();
}

/** Ends sessions of the nodes. */
const terminate = (scene: Scene, which = ''): Promise<unknown> =>
  scene.world.postgres.sql.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name NOT LIKE 'chaos%' AND pid <> pg_backend_pid() AND query ILIKE $1 || '%'`,
    [which],
  );

/** For new connections of the nodes: the old ones are ended. */
async function withDatabaseSetting(scene: Scene, name: string, value: string, lastsS: number): Promise<void> {
  const { sql } = scene.world.postgres;
  await sql.query(`ALTER DATABASE trunkline SET ${name} = '${value}'`);
  await terminate(scene);
  await seconds(lastsS);
  await sql.query(`ALTER DATABASE trunkline RESET ${name}`);
  await terminate(scene);
}

/** In a session of its own, as a program of the user's would. */
async function inSession<T>({ world }: Scene, act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: world.postgres.url, application_name: 'chaos' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end();
  }
}

function backendsOf(postmaster: number): number[] {
  const children = execFileSync('ps', ['--ppid', String(postmaster), '-o', 'pid='], { encoding: 'utf8' });
  return children.trim().split(/\s+/).map(Number);
}

/** Some of what the server or a node sends is lost, and the connection with it, so that who waits never hears. */
async function losing(
  proxies: readonly { onServerData: ((chunk: Buffer) => boolean) | undefined }[],
  dice: Dice,
  lastsS: number,
): Promise<void> {
  for (const proxy of proxies) proxy.onServerData = () => dice.below(200) > 0;
  await seconds(lastsS);
  for (const proxy of proxies) proxy.onServerData = undefined;
}

export const faults = {
  nothing: () => seconds(8),

  'node killed': async (scene) => {
    for (let n = 0; n < 3; n++) await restart(oneNode(scene), 'SIGKILL');
  },
  'node stopped': async (scene) => {
    await restart(oneNode(scene), 'SIGTERM');
  },
  'nodes rolled': async ({ world: { nodes } }) => {
    for (const node of nodes) await restart(node, 'SIGTERM');
  },
  'node frozen for 10 s': async (scene) => {
    const node = oneNode(scene);
    node.signal('SIGSTOP');
    await seconds(10);
    node.signal('SIGCONT');
  },

  'LISTEN ended': async (scene) => {
    for (let n = 0; n < 4; n++) {
      await terminate(scene, 'LISTEN');
      await seconds(2);
    }
  },
  'LISTEN half-open': async (scene) => {
    const { listen } = oneNode(scene);
    listen.swallow();
    await seconds(8);
    listen.heal();
  },
  'node cut off from PostgreSQL for 8 s': async (scene) => {
    const { database, listen } = oneNode(scene);
    for (const proxy of [database, listen]) proxy.swallow();
    await seconds(8);
    for (const proxy of [database, listen]) {
      proxy.heal();
      proxy.cut();
    }
  },
  'answers of PostgreSQL lost': ({ world: { nodes }, dice }) =>
    losing(
      nodes.map(({ database }) => database),
      dice,
      8,
    ),
  'connections to PostgreSQL cut': async ({ world: { nodes } }) => {
    for (let n = 0; n < 5; n++) {
      for (const { database } of nodes) database.cut();
      await seconds(1.5);
    }
  },

  'PostgreSQL restarted': async ({ world: { postgres } }) => {
    await postgres.halt('SIGINT');
    await postgres.boot();
  },
  'PostgreSQL crashed': async ({ world: { postgres } }) => {
    await postgres.halt('SIGQUIT');
    await postgres.boot();
  },
  'PostgreSQL down for 20 s': async ({ world: { postgres } }) => {
    await postgres.halt('SIGINT');
    await seconds(20);
    await postgres.boot();
  },
  'a backend killed': async ({ world: { postgres } }) => {
    const { rows } = await postgres.sql.query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'trunkline%' LIMIT 1",
    );
    if (rows[0] !== undefined) process.kill(rows[0].pid, 'SIGKILL'); // the server restarts all of its processes
    await seconds(5);
  },
  'PostgreSQL frozen for 6 s': async ({ world: { postgres } }) => {
    const pid = await postgres.pid();
    const all = [pid, ...backendsOf(pid)];
    for (const one of all) process.kill(one, 'SIGSTOP');
    await seconds(6);
    for (const one of all) process.kill(one, 'SIGCONT');
  },
  'max_connections reached': async ({ world: { postgres, nodes } }) => {
    const clients: pg.Client[] = [];
    for (let n = 0; n < 200; n++) {
      const client = new pg.Client({ connectionString: postgres.url, application_name: 'chaos' });
      client.on('error', () => undefined);
      try {
        await client.connect();
      } catch {
        break;
      }
      clients.push(client);
    }
    for (const { database, listen } of nodes) {
      database.cut();
      listen.cut();
    }
    await seconds(4);
    await Promise.all(clients.map((client) => client.end()));
  },
  'row locks held': (scene) =>
    inSession(scene, async (client) => {
      for (let n = 0; n < 3; n++) {
        await client.query('BEGIN');
        await client.query('SELECT id FROM rooms WHERE id = ANY ($1::uuid[]) FOR UPDATE', [scene.rooms]);
        await seconds(2);
        await client.query('COMMIT');
        await seconds(0.3);
      }
    }),
  deadlocks: async (scene) => {
    const rooms = scene.rooms.toSorted().toReversed(); // against the writer's order
    const until = Date.now() + 8_000;
    await inSession(scene, async (client) => {
      while (Date.now() < until) {
        await client.query('BEGIN');
        try {
          for (const room of rooms) {
            await client.query('SELECT id FROM rooms WHERE id = $1 FOR UPDATE', [room]);
            await seconds(0.05);
          }
          await client.query('COMMIT');
        } catch {
          await client.query('ROLLBACK');
        }
      }
    });
  },
  'lock_timeout of 20 ms': (scene) => withDatabaseSetting(scene, 'lock_timeout', '20ms', 6),
  'statement_timeout of 20 ms': (scene) => withDatabaseSetting(scene, 'statement_timeout', '20ms', 6),
  'serializable by default': (scene) => withDatabaseSetting(scene, 'default_transaction_isolation', 'serializable', 6),
  'NOTIFY queue full': (scene) =>
    inSession(scene, async (client) => {
      await client.query('LISTEN trunkline_chaos');
      await client.query('BEGIN');
      await client.query('SELECT 1'); // a listener in a transaction holds the queue's tail
      await seconds(12);
      await client.query('COMMIT');
    }),
  'notifications forged and doubled': (scene) =>
    inSession(scene, async (client) => {
      const heard: string[] = [];
      client.on('notification', ({ payload }) => heard.push(payload ?? ''));
      await client.query('LISTEN trunkline');
      for (let n = 0; n < 300; n++) {
        await seconds(0.02);
        const again = heard[scene.dice.below(Math.max(1, heard.length))] ?? '';
        const forged = `${again.slice(0, 40)}${'{'.repeat(scene.dice.below(20))}${again.slice(41)}`;
        await client.query("SELECT pg_notify('trunkline', $1), pg_notify('trunkline', $2)", [again, forged.slice(0, 7_900)]);
        if (heard.length > 500) heard.splice(0, 250);
      }
    }),

  'clients cut': async ({ world: { nodes } }) => {
    for (let n = 0; n < 6; n++) {
      for (const { front } of nodes) front.cut();
      await seconds(1.2);
    }
  },
  'answers to clients lost': ({ world: { nodes }, dice }) =>
    losing(
      nodes.map(({ front }) => front),
      dice,
      8,
    ),
  'clients half-open': async (scene) => {
    const { front } = oneNode(scene);
    front.swallow();
    await seconds(14);
    front.heal();
  },
  'clients that do not read': async ({ clients }) => {
    const slow = clients.filter((_, n) => n % 3 === 0);
    for (const client of slow) client.pauseReading(true);
    await seconds(8);
    for (const client of slow) client.pauseReading(false);
  },
} as const satisfies Record<string, Fault>;

export type FaultName = keyof typeof faults;
