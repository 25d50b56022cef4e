/** Faults by SQL: sessions of the test's own, and settings of the nodes' sessions. */
import pg from 'pg';
import { seconds } from '../world.js';
import type { Scene } from './scene.js';

/** Ends sessions of the nodes. */
export const terminate = (scene: Scene, which = ''): Promise<unknown> =>
  scene.world.postgres.sql.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name NOT LIKE 'chaos%' AND pid <> pg_backend_pid() AND query ILIKE $1 || '%'`,
    [which],
  );

/** For new connections of the nodes: the old ones are ended. */
export async function withDatabaseSetting(scene: Scene, name: string, value: string, lastsS: number): Promise<void> {
  const { sql } = scene.world.postgres;
  await sql.query(`ALTER DATABASE trunkline SET ${name} = '${value}'`);
  await terminate(scene);
  await seconds(lastsS);
  await sql.query(`ALTER DATABASE trunkline RESET ${name}`);
  await terminate(scene);
}

/** In a session of its own, as a program of the user's would. */
export async function inSession<T>({ world }: Scene, act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: world.postgres.url, application_name: 'chaos' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end();
  }
}
