import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { pino } from 'pino';
// Jest loads this file without transforming it: it takes the built code.
import { startEmbeddedPostgres } from '../../dist/database/embedded-postgres.js';
import { migrate } from '../../dist/database/migrations.js';

/**
 * One PostgreSQL for the whole run, the embedded one or DATABASE_URL's, with one migrated database that each test clones.
 * The server's URL and the template's name reach the workers through the environment.
 */
export default async function globalSetup() {
  let serverUrl = process.env['DATABASE_URL'];
  let embedded;
  let dataDir;
  if (!serverUrl) {
    dataDir = await mkdtemp(join(tmpdir(), 'trunkline-test-'));
    await chmod(dataDir, 0o755);
    embedded = await startEmbeddedPostgres(dataDir, { max_connections: '400', shared_buffers: '256MB' });
    serverUrl = embedded.connectionString;
  }
  const template = `trunkline_template_${process.pid}`;
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${template}`);
  await admin.end();
  const templateUrl = new URL(serverUrl);
  templateUrl.pathname = `/${template}`;
  await migrate(templateUrl.href, pino({ level: 'warn' }));
  process.env['TEST_SERVER_URL'] = serverUrl;
  process.env['TEST_TEMPLATE'] = template;
  process.env['TEST_RUN'] = String(process.pid);
  globalThis.testCluster = { embedded, dataDir, template, serverUrl };
}
