/** Whatever a database says of its sessions, a node reads and writes what it does on one that says nothing. */
import { randomUUID } from 'node:crypto';
import { serverProblems } from '../src/database/migrations.js';
import { TestClient } from './support/client.js';
import { runCommand } from './support/command.js';
import { eventually } from './support/eventually.js';
import { startNode } from './support/node.js';
import { call, registerUser, testPassword } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const hostile = [
  `DateStyle = 'German'`,
  `TimeZone = 'Asia/Kathmandu'`,
  `IntervalStyle = 'sql_standard'`,
  `client_encoding = 'LATIN1'`,
  `bytea_output = 'escape'`,
  'extra_float_digits = -15',
  'array_nulls = off',
  'transform_null_equals = on',
  'standard_conforming_strings = off',
  `search_path = 'pg_catalog'`,
  `default_transaction_isolation = 'serializable'`,
  'default_transaction_deferrable = on',
  'synchronous_commit = off',
  'idle_session_timeout = 300',
  'gin_fuzzy_search_limit = 1',
  'exit_on_error = on',
  'quote_all_identifiers = on',
  'row_security = off',
  `plan_cache_mode = 'force_custom_plan'`,
  `plpgsql.extra_errors = 'all'`,
  'statement_timeout = 1',
  'lock_timeout = 1',
];

/** What a story shows to those in it, without what differs each time; times become whether they are of now. */
async function story(db: TestDatabase): Promise<unknown> {
  const startedAt = Date.now();
  const node = await startNode(db.url);
  const seen: unknown[] = [];
  const see = (value: unknown): void => void seen.push(JSON.parse(JSON.stringify(value, plain(startedAt))));
  const rest = async (path: string, token?: string, body?: object) => {
    const { status, body: answer } = await call(node.url, path, { ...(token !== undefined && { token }), ...(body && { body }) });
    see({ path: path.replaceAll(/[0-9a-f-]{36}/g, '(id)'), status, answer });
    return answer as Record<string, unknown>;
  };
  try {
    const ann = await registerUser(node.url, 'ann');
    const bob = await registerUser(node.url, 'bob');
    await rest('/auth/login', undefined, { username: 'ann', password: testPassword });
    await rest('/auth/refresh', undefined, { refreshToken: ann.refreshToken });
    await rest('/auth/sessions', bob.token);
    const room = (await rest('/rooms', ann.token, { name: 'Grüße 👋' }))['id'] as string;
    await rest(`/rooms/${room}/join`, bob.token, {});
    await rest('/rooms', bob.token);
    await rest('/rooms?q=gr%C3%BC', bob.token);
    const [first, second] = [await TestClient.connect(node.url, ann.token), await TestClient.connect(node.url, bob.token)];
    await first.join(room);
    await second.join(room);
    await first.send(room, 'schöne Grüße 👋', randomUUID());
    await Promise.all(['a', 'b', 'c'].map((content) => first.send(room, content)));
    await rest(`/rooms/${room}/messages`, bob.token, { content: '¿por REST?' });
    await second.reaches(room, 6);
    see({ first: first.contents(room), second: second.contents(room) });
    await second.close();
    await first.send(room, 'meanwhile');
    const again = await TestClient.connect(node.url, bob.token, second);
    await again.join(room, true);
    await again.reaches(room, 7);
    see({ resumed: again.contents(room), violations: again.violations });
    await rest(`/rooms/${room}/messages?limit=50`, bob.token);
    await eventually(async () => {
      const { body } = await call(node.url, `/rooms/${room}/members`, { token: bob.token });
      return (body as { online: boolean }[]).every(({ online }) => online);
    }, 'both to be online');
    await rest(`/rooms/${room}/members`, bob.token);
    await first.close();
    await again.close();
    for (const [name, args] of [
      ['verify', ['--all']],
      ['epoch', []],
      ['epoch', ['raise']],
    ] as const) {
      const { code, stderr, stdout } = await runCommand(name, args, { DATABASE_URL: db.url });
      see({ name, code, stderr, ...(name === 'verify' && { stdout }) });
    }
    return seen;
  } finally {
    await node.close();
  }
}

const plain =
  (startedAt: number) =>
  (key: string, value: unknown): unknown => {
    if (typeof value !== 'string') return /token|cursor/i.test(key) ? typeof value : value;
    if (/token|cursor|_id$|^id$/i.test(key)) return 'a text';
    if (!/_at$|At$/.test(key)) return value.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '(id)');
    const at = Date.parse(value);
    const isOfNow = at >= startedAt - 2_000 && at <= Date.now() + 2_000;
    return /^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z$/.test(value) ? (isOfNow ? 'now' : at > Date.now() ? 'later' : 'before') : value;
  };

it('a story is the same on a database whose sessions are set against us as on one that sets nothing', async () => {
  const [clean, hostileOne] = [await createTestDatabase(), await createTestDatabase()];
  for (const setting of hostile) await hostileOne.sql.query(`ALTER DATABASE ${hostileOne.name} SET ${setting}`);
  expect(await story(hostileOne)).toEqual(await story(clean));
  await clean.drop();
  await hostileOne.drop();
}, 120_000);

it.each([
  ['session_replication_role = replica', /^session_replication_role is replica: triggers/],
  ['default_transaction_read_only = on', /^default_transaction_read_only is on: nothing can be stored/],
  ['zero_damaged_pages = on', /^zero_damaged_pages is on: /],
])('a node does not start on a database with %s, which it can or may not set itself', async (setting, sentence) => {
  const db = await createTestDatabase();
  await db.sql.query(`ALTER DATABASE ${db.name} SET ${setting}`);
  expect(await serverProblems(db.url)).toEqual([expect.stringMatching(sentence)]);
  await db.drop();
});
