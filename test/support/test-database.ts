import { randomUUID } from 'node:crypto';
import pg from 'pg';

/** A database of its own for one test file, cloned from the migrated template. */
export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** For looking and meddling, as the owner; ended by `drop`. */
  readonly sql: pg.Pool;
  drop(): Promise<void>;
}

async function onServer(statement: string): Promise<void> {
  const admin = new pg.Client({ connectionString: process.env['TEST_SERVER_URL'] });
  await admin.connect();
  try {
    await admin.query(statement);
  } finally {
    await admin.end();
  }
}

/** @param template `migrated` has the schema, `empty` has nothing. */
export async function createTestDatabase(template: 'migrated' | 'empty' = 'migrated'): Promise<TestDatabase> {
  const name = `trunkline_test_${process.env['TEST_RUN']}_${randomUUID().replaceAll('-', '').slice(0, 12)}`;
  await onServer(`CREATE DATABASE ${name}${template === 'migrated' ? ` TEMPLATE ${process.env['TEST_TEMPLATE']}` : ''}`);
  const url = new URL(process.env['TEST_SERVER_URL'] ?? '');
  url.pathname = `/${name}`;
  const sql = new pg.Pool({ connectionString: url.href, application_name: 'test', max: 4 });
  sql.on('error', () => undefined); // a test may stop the server
  return {
    url: url.href,
    name,
    sql,
    async drop() {
      await sql.end();
      // Not by force: after a few seconds this fails when something that the test started still holds a connection.
      await onServer(`DROP DATABASE ${name}`);
    },
  };
}
