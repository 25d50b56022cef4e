import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import argon2 from 'argon2';
import { eventually } from '../../test/support/eventually.js';
import { startNode, type TestNode } from '../../test/support/node.js';
import { call, registerUser, testPassword as password } from '../../test/support/rest.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { runChecks } from '../doctor/check.js';
import { schemaChecks } from '../doctor/schema-checks.js';
import { openServer } from '../doctor/server.js';
import { migrate } from './migrations.js';

let db: TestDatabase;
let node: TestNode | undefined;
let warnings: Record<string, unknown>[];
const log = pino({ level: 'warn' }, { write: (line) => warnings.push(JSON.parse(line) as Record<string, unknown>) });
let passwordHash: string;

beforeAll(async () => {
  passwordHash = await argon2.hash(password, { memoryCost: 8_192, timeCost: 1 });
});
beforeEach(async () => {
  warnings = [];
  db = await createTestDatabase();
});
afterEach(async () => {
  await node?.close();
  node = undefined;
  await db.drop();
});

/** As versions before migration 0017 compare. */
const formerKey = (name: string): string => name.normalize('NFKC').toLowerCase();

/** An account as nodes of the version before make it. */
async function formerUser(username: string, email = `${uuidv7()}@test.local`): Promise<string> {
  const id = uuidv7();
  await db.sql.query('INSERT INTO users (id, username, username_key, email, email_key, password_hash) VALUES ($1, $2, $3, $4, $5, $6)', [
    id,
    username,
    formerKey(username),
    email,
    formerKey(email),
    passwordHash,
  ]);
  return id;
}

/** A room as nodes of the version before make it. */
async function formerRoom(name: string, ownerId: string): Promise<string> {
  const id = uuidv7();
  await db.sql.query('INSERT INTO room_names (name_key, room_id) VALUES ($1, $2)', [formerKey(name), id]);
  await db.sql.query('INSERT INTO rooms (bucket, id, name, created_by) VALUES (room_bucket($1), $1, $2, $3)', [id, name, ownerId]);
  await db.sql.query(
    "INSERT INTO room_members (bucket, room_id, user_id, username, role, joined_seq) VALUES (room_bucket($1), $1, $2, 'x', 'owner', 0)",
    [id, ownerId],
  );
  return id;
}

async function idOf(name: { username: string } | { email: string }): Promise<string | number> {
  const { status, body } = await call(node?.url ?? '', '/auth/login', { body: { ...name, password } });
  return status === 200 ? (body as { user: { id: string } }).user.id : status;
}

async function doctor(): Promise<string[]> {
  const server = await openServer(loadConfig({ DATABASE_URL: db.url, JWT_ACCESS_SECRET: 'x'.repeat(32) }), undefined);
  const lines: string[] = [];
  const names = schemaChecks.filter(({ name }) => name === 'names');
  await runChecks(names, server, (name, { verdict, text }) => lines.push(`${verdict} ${name}: ${text}`));
  await server.close();
  return lines;
}

it('every account that could log in before the migration can after it, each by its own name, and so it can while its keys are not made', async () => {
  const names = ['ann', 'ann\ufe0f', 'a\u034fnn', 'ΝΙΚΟΣ.Π', 'νικος.π', 'straße', 'STRASSE', '\u3164', '\u115f', 'сосо', 'coco', 'ꮳꮃꭹ'];
  const ids = new Map<string, string>();
  for (const name of names) ids.set(name, await formerUser(name));
  const emails = ['a@bücher.example', 'a@xn--bcher-kva.example', 'a\u200b@bücher.example'];
  for (const [n, email] of emails.entries()) ids.set(email, await formerUser(`user${n}`, email));
  node = await startNode(db.url);
  const whoIsWho = async (): Promise<void> => {
    for (const name of names) expect([name, await idOf({ username: name })]).toEqual([name, ids.get(name)]);
    for (const email of emails) expect([email, await idOf({ email })]).toEqual([email, ids.get(email)]);
  };
  await whoIsWho();
  await migrate(db.url, log);
  await whoIsWho();
  // By any way to write it, an account is found whose name no other shares; else the older one.
  expect(await idOf({ username: 'ANN\u00ad' })).toBe(ids.get('ann'));
  expect(await idOf({ username: 'ᏣᎳᎩ' })).toBe(ids.get('ꮳꮃꭹ'));
  expect(await idOf({ username: 'Straẞe' })).toBe(ids.get('straße'));
  expect(await idOf({ email: 'A@BU\u0308CHER。example' })).toBe(ids.get('a@bücher.example'));
  // What nodes of the version before look for is as it was.
  const { rows } = await db.sql.query<{ username: string; username_key: string }>('SELECT username, username_key FROM users');
  for (const { username, username_key: key } of rows) expect(key).toBe(formerKey(username));
});

it('names that are the same are reported, the older one has the key, and nothing fails', async () => {
  const ann = await formerUser('ann');
  await formerUser('ann1');
  const shadow = await formerUser('ann\ufe0f');
  const nothing = await formerUser('\u3164');
  await formerUser('anni', 'x@bücher.example');
  const mailer = await formerUser('mailer', 'x@xn--bcher-kva.example');
  await formerUser('annl');
  const lobby = await formerRoom('Lobby', ann);
  const other = await formerRoom('lobby\u200b', ann);
  const same = await formerRoom('lоbby', ann);
  expect(await doctor()).toEqual([expect.stringMatching(/^warn names: nodes of the version before have added names .* npm run migrate$/)]);
  await migrate(db.url, log);
  expect(warnings).toMatchObject([
    { account: shadow, fields: ['username'] },
    { account: nothing, fields: ['username'] },
    { account: mailer, fields: ['email'] },
    { room: other, fields: ['name'] },
    { room: same, fields: ['name'] },
  ]);
  const report = [
    expect.stringContaining(
      `3 accounts can't be told by name or address from older ones: "ann\\u{fe0f}" (${shadow}), "\\u{3164}" (${nothing}), "x@xn--`,
    ),
    expect.stringContaining(`2 rooms can't be told from older ones: "lobby\\u{200b}" (${other}), "lоbby" (${same}). PATCH`),
  ];
  expect(await doctor()).toEqual(report);
  // Once: what was reported is not gone through again.
  warnings = [];
  await migrate(db.url, log);
  expect([warnings, await doctor()]).toEqual([[], report]);
  const { rows } = await db.sql.query('SELECT room_id FROM room_names WHERE name_look IS NOT NULL');
  expect(rows).toEqual([{ room_id: lobby }]);
  await db.sql.query('DELETE FROM users WHERE id IN ($1, $2, $3)', [shadow, nothing, mailer]);
  await db.sql.query('DELETE FROM room_names WHERE room_id IN ($1, $2)', [other, same]);
  expect(await doctor()).toEqual([expect.stringMatching(/^ok names: no two are the same; 1 look like an older one$/)]);
});

it('a name that an account of the version before has is taken, whether its keys are made or not, and one that looks the same once they are', async () => {
  await formerUser('straße', 'b@bücher.example');
  await formerUser('ann\ufe0f');
  node = await startNode(db.url);
  const { url } = node;
  const errors = async (username: string, email: string): Promise<unknown> =>
    ((await call(url, '/auth/register', { body: { username, email, password } })).body as { errors?: unknown }).errors;
  const taken = { message: 'is taken' };
  expect(await errors('Straße', 'B@bücher.example')).toMatchObject([
    { field: 'username', ...taken },
    { field: 'email', ...taken },
  ]);
  await migrate(db.url, log);
  expect(await errors('STRASSE', 'b@XN--bcher-kva.example')).toMatchObject([
    { field: 'username', ...taken },
    { field: 'email', ...taken },
  ]);
  expect(await errors('ANN', 'ann@test.local')).toMatchObject([{ field: 'username', ...taken }]);
});

it('what a crash left over is done at the next start, by any number of nodes at once', async () => {
  await db.sql.query(
    `INSERT INTO users (id, username, username_key, email, email_key, password_hash)
     SELECT gen_random_uuid(), name, lower(name), name || '@test.local', lower(name) || '@test.local', 'none'
     FROM (SELECT 'Ünal-' || n || CASE WHEN n % 100 = 0 THEN chr(65039) ELSE '' END AS name FROM generate_series(1, 12000) AS n) AS names`,
  );
  await db.sql.query(
    'UPDATE users SET keys_made = true, username_fold = username_key, username_look = id::text, email_fold = email_key WHERE id < $1',
    ['40000000-0000-0000-0000-000000000000'],
  );
  await Promise.all(Array.from({ length: 4 }, () => migrate(db.url, log)));
  const { rows } = await db.sql.query(
    'SELECT count(*)::int AS n FROM users WHERE NOT keys_made OR username_fold IS NULL OR email_fold IS NULL',
  );
  expect([rows, warnings]).toEqual([[{ n: 0 }], []]);
});

it('a name that is registered while the keys are made stays its owner’s, and the rest goes on', async () => {
  const street = await formerUser('straße');
  const ann = await formerUser('ann');
  const meanwhile = await db.sql.connect();
  try {
    await meanwhile.query('BEGIN');
    await meanwhile.query(
      `INSERT INTO users (id, username, username_key, username_fold, username_look, email, email_key, email_fold, keys_made, password_hash)
       VALUES ($1, 'STRASSE', 'strasse', 'strasse', 'strasse', 'x', 'x', 'x', true, 'none')`,
      [uuidv7()],
    );
    const migrated = migrate(db.url, log);
    await eventually(async () => {
      const { rows } = await db.sql.query(
        "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND application_name = 'trunkline migrate' AND wait_event_type = 'Lock'",
        [db.name],
      );
      return rows.length > 0;
    }, 'the keys to wait for the registration');
    await meanwhile.query('COMMIT');
    await migrated;
  } finally {
    meanwhile.release();
  }
  expect(warnings).toMatchObject([{ account: street, fields: ['username'] }]);
  node = await startNode(db.url);
  expect([await idOf({ username: 'straße' }), await idOf({ username: 'ANN' })]).toEqual([street, ann]);
});

it('a room of the version before keeps its name, is renamed like any other, and its name is free when it is gone', async () => {
  node = await startNode(db.url);
  const { url } = node;
  const { id: ann, token } = await registerUser(url, 'ann');
  const [street, twin] = [await formerRoom('Straße', ann), await formerRoom('straße\u200b', ann)];
  await migrate(db.url, log);
  const rename = async (id: string, name: string): Promise<number> =>
    (await call(url, `/rooms/${id}`, { method: 'PATCH', token, body: { name } })).status;
  const create = async (name: string): Promise<number> => (await call(url, '/rooms', { token, body: { name } })).status;
  expect(await create('STRASSE')).toBe(409);
  // The older one has the name in any form; the other may change its case, but comes no nearer.
  expect([await rename(street, 'STRASSE'), await rename(street, 'ſtraße'), await rename(twin, 'STRAßE\u200b')]).toEqual([200, 200, 200]);
  expect([await rename(twin, 'straße'), await rename(twin, 'strasse')]).toEqual([409, 409]);
  expect([await rename(twin, 'Avenue'), await create('avеnue')]).toEqual([200, 409]);
  expect((await call(url, `/rooms/${street}`, { method: 'DELETE', token })).status).toBe(200);
  expect(await create('straße')).toBe(201);
});
