/** Failover, in the steps of docs/operations.md: the old primary is down, promote, raise the epoch, let the nodes' address lead there. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { eventually } from '../../support/eventually.js';
import { testSecret } from '../../support/node.js';
import { startProxy } from '../../support/proxy.js';
import type { PostgresServer } from '../postgres-server.js';
import { seconds, type World } from '../world.js';
import type { Fault } from './scene.js';

const run = promisify(execFile);

async function failOver({ postgres, nodes }: World, standby: PostgresServer): Promise<void> {
  await postgres.failOverTo(standby);
  const env = { ...process.env, DATABASE_URL: postgres.url, JWT_ACCESS_SECRET: testSecret };
  const { stdout } = await run(process.execPath, ['dist/epoch.js', 'raise'], { env });
  if (!stdout.includes('The epoch was')) throw new Error(`npm run epoch -- raise said: ${stdout}`);
  for (const { database, listen } of nodes) {
    for (const proxy of [database, listen]) {
      proxy.lead(postgres.url);
      proxy.cut();
    }
  }
}

export const failoverFaults = {
  'failover to a synchronous standby': async ({ world }) => {
    const { sql, url } = world.postgres;
    const standby = await world.postgres.createStandby(url);
    await sql.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    await sql.query('SELECT pg_reload_conf()');
    const isSynchronous = async () => (await sql.query("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'")).rowCount === 1;
    await eventually(isSynchronous, 'the standby to be synchronous');
    await seconds(3);
    await failOver(world, standby);
    await seconds(3);
  },
  'failover to a lagging standby': async ({ world }) => {
    const replication = await startProxy(world.postgres.url);
    try {
      const standby = await world.postgres.createStandby(replication.through(world.postgres.url));
      await seconds(2);
      replication.swallow();
      await seconds(1.5); // what is committed now is lost
      await failOver(world, standby);
    } finally {
      await replication.close();
    }
    await seconds(3);
  },
} as const satisfies Record<string, Fault>;
