import { readdirSync } from 'node:fs';
import { pino } from 'pino';
import { runCommand } from '../../test/support/command.js';
import { startProcessNode } from '../../test/support/process-node.js';
import { createPerson, createRoom } from '../../test/support/people.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { migrate, serverProblems } from './migrations.js';

const log = pino({ level: 'silent' });
const migrations = readdirSync(new URL('../../migrations', import.meta.url)).length;

let test: TestDatabase;

beforeEach(async () => {
  test = await createTestDatabase('empty');
});
afterEach(() => test.drop());

/** Everything that a migration can make, each with its definition as PostgreSQL would write it. */
async function schema(): Promise<string[]> {
  const { rows } = await test.sql.query<{ line: string }>(`
    WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^migrations')
    SELECT concat_ws(' | ', relkind, relname, reloptions::text, relacl::text, relpersistence, relrowsecurity) AS line FROM ours
    UNION ALL
    SELECT concat_ws(' | ', 'column', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid))
      FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT concat_ws(' | ', 'constraint', relname, conname, pg_get_constraintdef(pg_constraint.oid)) FROM ours JOIN pg_constraint ON conrelid = ours.oid
    UNION ALL
    SELECT concat_ws(' | ', 'index', pg_get_indexdef(ours.oid)) FROM ours WHERE relkind = 'i'
    UNION ALL
    SELECT concat_ws(' | ', 'trigger', tgenabled, pg_get_triggerdef(pg_trigger.oid)) FROM ours JOIN pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' | ', 'sequence', sequencename, data_type, start_value, min_value, max_value, increment_by, cycle, cache_size)
      FROM pg_sequences WHERE schemaname = 'public' AND sequencename !~ '^migrations'
    UNION ALL
    SELECT concat_ws(' | ', 'function', proacl::text, pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' | ', 'type', typname) FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typrelid = 0 AND typelem = 0
    ORDER BY 1`);
  return rows.map(({ line }) => line);
}

it('go by the direct address where there is one: a pooler of transactions would give their lock to somebody else', async () => {
  const { code } = await runCommand('migrate', [], { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none', DATABASE_LISTEN_URL: test.url });
  expect(code).toBe(0);
  expect(await migrate(test.url, log)).toBe(0);
});

it('up, down to nothing and up again gives the same schema, and down leaves nothing behind', async () => {
  expect(await migrate(test.url, log)).toBe(migrations);
  const first = await schema();
  for (const part of ['r | messages', 'function', 'trigger', 'index', 'constraint', 'sequence', 'column']) {
    expect(first.some((line) => line.startsWith(part))).toBe(true);
  }
  // Down is for a schema in use.
  const ann = await createPerson(test.sql);
  const room = await createRoom(test.sql, [ann, await createPerson(test.sql)]);
  await test.sql.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [room, ann.id, 'hello']);

  expect(await migrate(test.url, log, 'down', migrations)).toBe(migrations);
  expect(await schema()).toEqual([]);
  expect(await migrate(test.url, log)).toBe(migrations);
  expect(await schema()).toEqual(first);
  expect(await migrate(test.url, log)).toBe(0);
});

it('each migration can be taken back and made again by itself', async () => {
  const schemas: string[][] = [];
  for (let n = 0; n < migrations; n++) {
    schemas.push(await schema());
    expect(await migrate(test.url, log, 'up', 1)).toBe(1);
  }
  for (const expected of schemas.toReversed()) {
    await migrate(test.url, log, 'down', 1);
    expect(await schema()).toEqual(expected);
  }
});

it('five that migrate an empty database at once all succeed, whatever limits the role has, and each migration is made once', async () => {
  await test.sql.query(`ALTER DATABASE ${test.name} SET lock_timeout = '10ms'`);
  const made = await Promise.all(Array.from({ length: 5 }, () => migrate(test.url, log)));
  expect(made.toSorted((a, b) => b - a)).toEqual([migrations, 0, 0, 0, 0]);
});

it('five nodes that start at once on an empty database all come up', async () => {
  const nodes = await Promise.allSettled(Array.from({ length: 5 }, () => startProcessNode({ DATABASE_URL: test.url, LOG_LEVEL: 'warn' })));
  const codes = await Promise.all(nodes.map(async (node) => (node.status === 'fulfilled' ? node.value.stop() : undefined)));
  expect(nodes.filter(({ status }) => status === 'rejected')).toEqual([]);
  expect(codes).toEqual([0, 0, 0, 0, 0]);
}, 120_000);

it('a node that starts while the schema is there changes nothing', async () => {
  await migrate(test.url, log);
  const before = await test.sql.query('SELECT key FROM bus_key');
  await migrate(test.url, log);
  expect((await test.sql.query('SELECT key FROM bus_key')).rows).toEqual(before.rows);
});

describe('a server that can’t keep the promises', () => {
  it('is told from one that can', async () => {
    expect(await serverProblems(test.url)).toEqual([]);
  });

  it('has synchronous_commit off', async () => {
    await test.sql.query(`ALTER DATABASE ${test.name} SET synchronous_commit = off`);
    expect(await serverProblems(test.url)).toEqual([
      'synchronous_commit is off: after a crash, seqs that clients have seen would be given to other messages. Set synchronous_commit = on.',
    ]);
  });

  it('has a database in another encoding than UTF8', async () => {
    const name = `${test.name}_ascii`;
    await test.sql.query(`CREATE DATABASE ${name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0`);
    const url = new URL(test.url);
    url.pathname = `/${name}`;
    try {
      expect(await serverProblems(url.href)).toEqual(['The database must have the encoding UTF8.']);
    } finally {
      await test.sql.query(`DROP DATABASE ${name}`);
    }
  });
});
