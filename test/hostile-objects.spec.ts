/**
 * Another role could create objects in public, and has planted operators and functions that fit names and argument
 * types of our statements better than those of pg_catalog do. None may run with the rights of our owner.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Answer } from './support/any-call.js';
import { TestClient } from './support/client.js';
import { eventually } from './support/eventually.js';
import { startNode, type TestNode } from './support/node.js';
import { call, registerUser, testPassword, type TestUser } from './support/rest.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const scalars = [
  'text',
  'uuid',
  'bigint',
  'integer',
  'smallint',
  'bytea',
  'boolean',
  'timestamptz',
  'json',
  'jsonb',
  'double precision',
  'numeric',
  'interval',
];
const types = [...scalars, 'uuid[]', 'text[]', 'bigint[]', 'integer[]', 'smallint[]'];
const operators = ['=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '*', '&', '~~', '->>'];

interface Creation {
  /** Of a function, which is what runs. */
  readonly signature: string;
  readonly returns: string;
  /** CREATE OPERATOR with that function. */
  readonly operator?: string;
}

/** Creates what can be created, each noting its number in a sequence, which keeps it through a ROLLBACK. */
const plantFunction = `
  CREATE TABLE public.hostile_objects (n serial PRIMARY KEY, name text NOT NULL);
  CREATE SEQUENCE public.hostile_run MINVALUE 0 START 0;
  GRANT ALL ON SEQUENCE public.hostile_run TO PUBLIC;
  GRANT SELECT ON public.hostile_objects TO PUBLIC;
  CREATE FUNCTION public.plant(creations jsonb) RETURNS int LANGUAGE plpgsql AS $plant$
  DECLARE
    one record;
    object int;
    planted int := 0;
  BEGIN
    FOR one IN SELECT * FROM jsonb_to_recordset(creations) AS r (signature text, returns text, operator text) LOOP
      BEGIN
        INSERT INTO public.hostile_objects (name) VALUES (coalesce(one.operator, one.signature)) RETURNING n INTO object;
        EXECUTE format($f$CREATE FUNCTION public.%s RETURNS %s LANGUAGE plpgsql AS $$ BEGIN
          IF current_user <> %L THEN PERFORM pg_catalog.setval('public.hostile_run'::pg_catalog.regclass, %s::bigint); END IF;
          RETURN NULL;
        END $$ $f$, one.signature, one.returns, current_user, object);
        IF one.operator IS NOT NULL THEN EXECUTE one.operator; END IF;
        planted := planted + 1;
      EXCEPTION WHEN duplicate_function OR invalid_function_definition OR datatype_mismatch THEN NULL;
      END;
    END LOOP;
    RETURN planted;
  END $plant$`;

let db: TestDatabase;
let node: TestNode;
let mallory: string;
let hostile: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  mallory = `mallory_${randomUUID().slice(0, 8)}`;
  await db.sql.query(`CREATE ROLE ${mallory} LOGIN PASSWORD 'of-the-tests'; GRANT CREATE ON SCHEMA public TO ${mallory}`);
  await db.sql.query(`GRANT INSERT ON messages TO ${mallory}; GRANT USAGE ON SEQUENCE message_id_blocks TO ${mallory}`);
  const url = new URL(db.url);
  url.username = mallory;
  url.password = 'of-the-tests';
  hostile = new pg.Client({ connectionString: url.href });
  await hostile.connect();
  await hostile.query('SET search_path = pg_catalog, pg_temp');
  await hostile.query(plantFunction);
  await plantFunctions();
  await plantOperators();
  await hostile.query('RESET search_path');
  node = await startNode(db.url, { RATE_LIMITS: 'on' });
}, 60_000);
afterAll(async () => {
  await node.close();
  await hostile.end();
  await db.sql.query(`DROP OWNED BY ${mallory}; DROP ROLE ${mallory}`);
  await db.drop();
});

async function plant(creations: readonly Creation[]): Promise<number> {
  const { rows } = await hostile.query<{ planted: number }>('SELECT public.plant($1::jsonb) AS planted', [JSON.stringify(creations)]);
  return rows[0]?.planted ?? 0;
}

/** Every operator that pg_catalog lacks for two of the types. */
async function plantOperators(): Promise<void> {
  const { rows } = await hostile.query<{ key: string }>(
    "SELECT concat_ws(' ', oprname, format_type(oprleft, NULL), format_type(oprright, NULL)) AS key FROM pg_operator",
  );
  const taken = new Set(rows.map(({ key }) => key.replaceAll('timestamp with time zone', 'timestamptz')));
  const pairs = types.flatMap((left) => types.map((right) => [left, right] as const));
  const creations = operators.flatMap((operator, n) =>
    pairs
      .filter(([left, right]) => !taken.has(`${operator} ${left} ${right}`))
      .map(([left, right]) => ({
        signature: `hostile_operator_${n}(${left}, ${right})`,
        returns: operator === '||' ? 'text' : /^[<>=~]/.test(operator) ? 'boolean' : left,
        operator: `CREATE OPERATOR public.${operator} (LEFTARG = ${left}, RIGHTARG = ${right}, FUNCTION = public.hostile_operator_${n})`,
      })),
  );
  expect(await plant(creations)).toBe(creations.length);
}

/** The functions of pg_catalog that ours call, for the types with which they are polymorphic, or take a conversion. */
async function plantFunctions(): Promise<void> {
  const { rows } = await hostile.query<{ name: string; args: string[]; returns: string }>(
    `WITH ours AS (SELECT string_agg(pg_get_functiondef(oid), ' ') AS text FROM pg_proc
       WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND prolang IN (SELECT oid FROM pg_language WHERE lanname IN ('sql', 'plpgsql')))
     SELECT DISTINCT proname AS name, ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n) AS args,
       format_type(prorettype, NULL) AS returns
     FROM pg_proc JOIN ours ON ours.text ~ ('\\m' || proname || '\\(') WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs BETWEEN 1 AND 4`,
  );
  const creations = new Map<string, Creation>();
  for (const { name, args, returns } of rows) {
    for (const type of types) {
      const isAny = (arg: string) => /^"?any/.test(arg);
      const fit = (arg: string) => (isAny(arg) ? (arg.endsWith('array') ? `${type}[]` : type) : arg);
      for (const variant of [args.map(fit), args.map((arg) => (isAny(arg) ? fit(arg) : 'text')), args.map(() => type)]) {
        const signature = `"${name}"(${variant.join(', ')})`;
        creations.set(signature, { signature, returns: /any|internal|trigger|record/.test(returns) ? type : returns });
      }
    }
  }
  const wide = ['text, json, text, json, text, json, text, json', 'text, text, text'].flatMap((args) =>
    ['json_build_object', 'concat_ws'].map((name) => ({ signature: `${name}(${args})`, returns: 'text' })),
  );
  expect(await plant([...creations.values(), ...wide])).toBeGreaterThan(500);
}

/** The planted object that ran last with the rights of another role than Mallory's. */
async function lastRun(): Promise<string | undefined> {
  const { rows } = await db.sql.query<{ name: string }>(
    'SELECT name FROM public.hostile_objects JOIN public.hostile_run ON hostile_run.last_value = hostile_objects.n::bigint',
  );
  return rows[0]?.name;
}

const canary = 'SELECT pg_catalog.gen_random_uuid() || $1::text';

/** What does what it should, and runs nothing of Mallory's. */
async function harmless<T>(name: string, doing: Promise<T>): Promise<T> {
  const done = await doing;
  expect([name, await lastRun()]).toEqual([name, undefined]);
  return done;
}

async function as(user: TestUser, method: string, path: string, body?: unknown): Promise<Answer> {
  const name = `${method} ${path.replaceAll(/[0-9a-f-]{36}/g, ':id')}`;
  const answer = await harmless(name, call(node.url, path, { method, token: user.token, body }));
  expect([name, answer.status < 400 ? 'done' : answer]).toEqual([name, 'done']);
  return answer;
}

it('no planted object runs with the rights of the owner, whatever users and other programs do', async () => {
  const name = () => `user-${randomUUID().slice(0, 8)}`;
  const ann = await harmless('register', registerUser(node.url, name()));
  const bob = await harmless('register', registerUser(node.url, name()));
  await as(ann, 'POST', '/auth/login', { username: ann.username, password: testPassword });
  await harmless('a wrong password', call(node.url, '/auth/login', { body: { username: ann.username, password: 'a guess' } }));
  await as(ann, 'POST', '/auth/refresh', { refreshToken: ann.refreshToken });
  await as(ann, 'GET', '/auth/sessions');
  await as(ann, 'GET', '/auth/me');
  const room = ((await as(ann, 'POST', '/rooms', { name: name() })).body as { id: string }).id;
  for (const query of ['', '?q=user', '?member=me', `?before=${room}`]) await as(ann, 'GET', `/rooms${query}`);
  await as(bob, 'POST', `/rooms/${room}/join`);

  const client = await TestClient.connect(node.url, ann.token);
  await harmless('join_room', client.join(room));
  const key = randomUUID();
  for (const id of [key, key, randomUUID()]) await harmless('send', client.send(room, 'by a socket', id));
  await harmless('sends', Promise.all(Array.from({ length: 50 }, (_, n) => client.send(room, `by a socket ${n}`))));
  await harmless('sends again', Promise.all(Array.from({ length: 50 }, () => client.send(room, 'by a socket', key))));
  client.raw(JSON.stringify({ event: 'typing_start', data: { room_id: room } }));
  await as(ann, 'POST', `/rooms/${room}/messages`, { content: 'by REST' });
  for (const query of ['', '?after=1', '?around=3', `?author=${ann.id}`].slice(0, 3))
    await as(ann, 'GET', `/rooms/${room}/messages${query}`);

  const insert = 'INSERT INTO messages (room_id, user_id, content, client_msg_id) VALUES ($1, $2, $3, $4)';
  await harmless('INSERT', hostile.query(insert, [room, ann.id, 'by a plain INSERT', randomUUID()]));
  await harmless('a large INSERT', hostile.query(insert, [room, ann.id, '"'.repeat(9_000), null]));
  await harmless(
    'INSERTs',
    hostile.query(`${insert}, ($1, $2, $3, NULL), ($1, $2, $5, NULL)`, [room, ann.id, 'one', null, 'x'.repeat(9_000)]),
  );
  await harmless(
    'a refused INSERT',
    hostile.query(insert, [randomUUID(), ann.id, 'nowhere', null]).catch(() => undefined),
  );

  await as(ann, 'PATCH', `/rooms/${room}`, { name: name(), description: 'renamed' });
  await as(ann, 'GET', `/rooms/${room}/members`);
  await as(ann, 'PUT', `/rooms/${room}/members/${bob.id}`, { role: 'admin' });
  await as(ann, 'POST', `/rooms/${room}/owner`, { user_id: bob.id });
  await as(bob, 'POST', `/rooms/${room}/owner`, { user_id: ann.id });
  await as(ann, 'DELETE', `/rooms/${room}/members/${bob.id}`);
  await as(ann, 'POST', `/rooms/${room}/members`, { user_id: bob.id });
  await as(ann, 'PUT', `/rooms/${room}/bans/${bob.id}`);
  await as(ann, 'GET', `/rooms/${room}/bans`);
  await as(ann, 'DELETE', `/rooms/${room}/bans/${bob.id}`);
  const invite = await as(ann, 'POST', `/rooms/${room}/invites`, {});
  await as(ann, 'GET', `/rooms/${room}/invites`);
  await as(bob, 'POST', `/invites/${(invite.body as { code: string }).code}/join`);
  await client.frame('room_event', ({ kind, user_id }) => kind === 'joined' && user_id === bob.id);

  const back = await TestClient.connect(node.url, ann.token, client);
  await harmless('a resume', back.command('join_room', { room_id: room, last_seen_seq: 1 }));
  await back.reaches(room, client.lastSeq(room));
  expect([...back.violations, ...client.violations]).toEqual([]);
  await as(bob, 'POST', `/rooms/${room}/leave`);
  await as(ann, 'DELETE', `/rooms/${room}`);
  await as(ann, 'POST', '/auth/password', { current_password: testPassword, new_password: `${testPassword}, changed` });
  await as(ann, 'POST', '/auth/logout');
  await harmless(
    'the watch of sessions',
    eventually(() => client.closed, 'the sockets of the session to be closed'),
  );
  await Promise.all([client.close(), back.close()]);

  await db.sql.query(canary, ['']);
  expect(await lastRun()).toContain('LEFTARG = uuid, RIGHTARG = text');
}, 60_000);
