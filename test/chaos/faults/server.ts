/** What befalls PostgreSQL as a server, and the way to it. */
import { execFileSync } from 'node:child_process';
import pg from 'pg';
import { seconds } from '../world.js';
import { losing, oneNode, type Fault } from './scene.js';

function backendsOf(postmaster: number): number[] {
  const children = execFileSync('ps', ['--ppid', String(postmaster), '-o', 'pid='], { encoding: 'utf8' });
  return children.trim().split(/\s+/).map(Number);
}

export const serverFaults = {
  'node cut off from PostgreSQL for 8 s': async (scene) => {
    const { database, listen } = oneNode(scene);
    for (const proxy of [database, listen]) proxy.swallow();
    await seconds(8);
    for (const proxy of [database, listen]) {
      proxy.heal();
      proxy.cut();
    }
  },
  'PostgreSQL 50 ms away': async ({ world: { nodes } }) => {
    const proxies = nodes.flatMap(({ database, listen }) => [database, listen]);
    for (const proxy of proxies) {
      proxy.onServerData = (chunk, link) => {
        setTimeout(() => link.toClient(chunk), 50);
        return Buffer.alloc(0);
      };
    }
    await seconds(8);
    for (const proxy of proxies) {
      proxy.onServerData = undefined;
      proxy.cut(); // what comes now would overtake what is on its way
    }
  },
  'PostgreSQL a byte at a time': async (scene) => {
    const { database, listen } = oneNode(scene);
    for (const proxy of [database, listen]) proxy.trickleMs = 0;
    await seconds(8);
    for (const proxy of [database, listen]) proxy.trickleMs = undefined;
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
  'PostgreSQL down for 60 s': async ({ world: { postgres } }) => {
    await postgres.halt('SIGINT');
    await seconds(60);
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
} as const satisfies Record<string, Fault>;
