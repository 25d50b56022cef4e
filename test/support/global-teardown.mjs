import { rm } from 'node:fs/promises';
import pg from 'pg';

/** Fails the run when a test left a connection behind: somebody forgot to close what it opened. */
export default async function globalTeardown() {
  const cluster = globalThis.testCluster;
  if (!cluster) return;
  const admin = new pg.Client({ connectionString: cluster.serverUrl });
  await admin.connect();
  const { rows } = await admin.query(
    `SELECT application_name, datname FROM pg_stat_activity WHERE datname LIKE 'trunkline_test_${process.pid}_%'`,
  );
  const left = await admin.query(`SELECT datname FROM pg_database WHERE datname LIKE 'trunkline_test_${process.pid}_%' OR datname = $1`, [
    cluster.template,
  ]);
  for (const { datname } of left.rows) await admin.query(`DROP DATABASE IF EXISTS ${datname} WITH (FORCE)`);
  await admin.end();
  await cluster.embedded?.stop();
  if (cluster.dataDir) await rm(cluster.dataDir, { recursive: true, force: true });
  if (rows.length > 0) throw new Error(`connections were left open: ${JSON.stringify(rows)}`);
}
