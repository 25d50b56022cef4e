import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { createPerson, createRoom, roomLog } from '../../test/support/people.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';

const run = promisify(execFile);

const ours = `
  SELECT p.*, p.oid::regprocedure::text AS signature FROM pg_proc AS p
  WHERE pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')`;

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

it('no name in a function of ours is resolved by the search_path of the session', async () => {
  const { rows } = await db.sql.query<{ signature: string }>(
    `SELECT signature FROM (${ours}) AS f
     WHERE NOT coalesce(proconfig && ARRAY['search_path=pg_catalog, pg_temp', 'search_path=pg_catalog, public, pg_temp'], false)
       AND (prosqlbody IS NULL OR prosecdef)
     ORDER BY 1`,
  );
  expect(rows.map(({ signature }) => signature)).toEqual([]);
});

it('each function can be made where search_path is empty, as a restore does', async () => {
  const client = await db.sql.connect();
  try {
    await client.query("BEGIN; SET LOCAL search_path = ''");
    const { rows } = await client.query<{ definition: string }>(`SELECT pg_get_functiondef(oid) AS definition FROM (${ours}) AS f`);
    expect(rows.length).toBeGreaterThan(15);
    for (const { definition } of rows) await client.query(definition);
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
});

/** pg_dump refuses a server that is newer than itself, and the embedded PostgreSQL brings none. */
const dumps = await run('pg_dump', ['--schema-only', process.env['TEST_SERVER_URL'] ?? '']).then(
  () => true,
  () => false,
);
const describeWithDump = dumps ? describe : describe.skip;
describeWithDump('with a pg_dump of the server’s version', () => {
  it('a dump is restored by another role, and all works in the copy', async () => {
    const ann = await createPerson(db.sql);
    const bob = await createPerson(db.sql);
    const room = await createRoom(db.sql, [ann, bob]);
    const insert = 'INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)';
    await db.sql.query(insert, [room, ann.id, 'before the dump']);
    const copy = await createTestDatabase('empty');
    try {
      const { stdout } = await run('pg_dump', ['--no-owner', '--no-acl', db.url], { maxBuffer: 100_000_000 });
      const restored = run('psql', ['--quiet', '--set=ON_ERROR_STOP=1', '--single-transaction', copy.url]);
      restored.child.stdin?.end(stdout);
      await restored;
      await copy.sql.query(insert, [room, ann.id, 'after it']);
      await copy.sql.query("SELECT leave_room($1, $2, $2, 'left')", [room, bob.id]);
      expect(await roomLog(copy.sql, room)).toMatchObject({
        contiguous: true,
        contents: ['[joined]', 'before the dump', 'after it', '[left]'],
      });
    } finally {
      await copy.drop();
    }
  });
});
