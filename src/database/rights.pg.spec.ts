import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { pino } from 'pino';
import { runCommand } from '../../test/support/command.js';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { migrate } from './migrations.js';
import { functionNames, grantable, readRights } from './rights.js';

let db: TestDatabase;
const roles: string[] = [];
let warnings: string[];
const log = pino(
  { level: 'warn' },
  { write: (line: string) => void warnings.push((JSON.parse(line) as { statement?: string }).statement ?? line) },
);

beforeEach(async () => {
  db = await createTestDatabase();
  warnings = [];
});
afterEach(async () => {
  await db.sql.query(`ALTER DATABASE ${db.name} OWNER TO CURRENT_USER`);
  for (const role of roles.toReversed()) await db.sql.query(`DROP OWNED BY ${role} CASCADE`);
  for (const role of roles.splice(0).toReversed()) await db.sql.query(`DROP ROLE ${role}`);
  await db.drop();
});

async function newRole(name: string, more = ''): Promise<string> {
  const role = `${name}_${randomUUID().slice(0, 8)}`;
  await db.sql.query(`CREATE ROLE ${role} LOGIN PASSWORD 'of-the-tests' ${more}`);
  roles.push(role);
  return role;
}

const as = (role: string): string => {
  const url = new URL(db.url);
  url.username = role;
  url.password = 'of-the-tests';
  return url.href;
};

async function rights(url = db.url): Promise<{ statements: string[]; granted: readonly string[] }> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { findings, granted } = await readRights(client);
    return { statements: findings.map(({ statement }) => statement), granted };
  } finally {
    await client.end();
  }
}

/** The database, with all that is ours in it. */
async function giveAllTo(owner: string): Promise<void> {
  await db.sql.query(`ALTER DATABASE ${db.name} OWNER TO ${owner}`);
  for (const statement of (await rights(as(owner))).statements) await db.sql.query(statement);
  expect((await rights(as(owner))).statements).toEqual([]);
}

const errorOf = (doing: Promise<unknown>): Promise<string> =>
  doing.then(
    () => '',
    (error: Error) => error.message,
  );

/** The statements that the start prints, with which it would go on. */
const statementsIn = (message: string): string[] =>
  [...message.matchAll(/((?:REVOKE|ALTER|DROP) [^;]+);/g)].map(([, statement = '']) => statement);

it('every table, sequence and function that the migrations make is known, and nobody else may do anything with them', async () => {
  const notOfExtension = "NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = o.oid AND d.deptype = 'e')";
  const { rows: relations } = await db.sql.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class AS o WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND ${notOfExtension}`,
  );
  expect(relations.map(({ name }) => name).toSorted()).toEqual(Object.keys(grantable).toSorted());
  const { rows: functions } = await db.sql.query<{ name: string }>(
    `SELECT DISTINCT proname AS name FROM pg_proc AS o WHERE pronamespace = 'public'::regnamespace AND ${notOfExtension}`,
  );
  expect(functions.map(({ name }) => name).toSorted()).toEqual(functionNames.toSorted());
  expect(await rights()).toEqual({ statements: [], granted: [] });
});

it('after a restore without ACLs the start takes EXECUTE from PUBLIC', async () => {
  await db.sql.query("UPDATE pg_proc SET proacl = NULL WHERE pronamespace = 'public'::regnamespace AND prosecdef");
  const stranger = await newRole('stranger');
  const { rows } = await db.sql.query<{ may: boolean }>("SELECT has_function_privilege($1, 'bus_notify(text)', 'EXECUTE') AS may", [
    stranger,
  ]);
  expect(rows).toEqual([{ may: true }]);
  const { statements } = await rights();
  expect(statements).toContain('REVOKE EXECUTE ON FUNCTION public.bus_notify(text) FROM PUBLIC CASCADE');
  await migrate(db.url, log);
  expect(warnings.toSorted()).toEqual(statements.toSorted());
  expect(await rights()).toEqual({ statements: [], granted: [] });
  await migrate(db.url, log);
  expect(warnings).toHaveLength(statements.length);
  const client = new pg.Client({ connectionString: as(stranger) });
  await client.connect();
  expect(await errorOf(client.query("SELECT bus_notify('x')"))).toContain('permission denied for function bus_notify');
  await client.end();
});

it('what default privileges of a host give to a role is taken back at the start that makes the tables', async () => {
  const owner = await newRole('chat');
  const reader = await newRole('analytics');
  const empty = await createTestDatabase('empty');
  try {
    await empty.sql.query(`ALTER DATABASE ${empty.name} OWNER TO ${owner}`);
    for (const kind of ['TABLES', 'SEQUENCES', 'FUNCTIONS'])
      await empty.sql.query(`ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} GRANT ALL ON ${kind} TO ${reader} WITH GRANT OPTION`);
    const url = new URL(as(owner));
    url.pathname = `/${empty.name}`;
    await migrate(url.href, log);
    const { rows } = await empty.sql.query<{ may: string }>(
      `SELECT relname || ' ' || p AS may FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
       WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND has_table_privilege($1, oid, p) ORDER BY 1`,
      [reader],
    );
    expect(rows.map(({ may }) => may)).toEqual([
      'messages INSERT',
      'messages SELECT',
      'room_events SELECT',
      'room_members SELECT',
      'rooms SELECT',
    ]);
    expect(await rights(url.href)).toEqual({
      statements: [],
      granted: [
        `${reader}: SELECT, USAGE on SEQUENCE public.message_id_blocks`,
        `${reader}: INSERT, SELECT on TABLE public.messages`,
        `${reader}: SELECT on TABLE public.room_events`,
        `${reader}: SELECT on TABLE public.room_members`,
        `${reader}: SELECT on TABLE public.rooms`,
      ],
    });
    expect(warnings).toContain(`REVOKE GRANT OPTION FOR INSERT, SELECT ON TABLE public.messages FROM ${reader} CASCADE`);
  } finally {
    await empty.sql.query(`ALTER DATABASE ${empty.name} OWNER TO CURRENT_USER; DROP OWNED BY ${owner} CASCADE`);
    await empty.sql.query(`DROP OWNED BY ${reader} CASCADE`);
    await empty.drop();
  }
});

it('a single column, and what a role with a grant option passed on, is taken back too', async () => {
  const [a, b] = [await newRole('a'), await newRole('b')];
  await db.sql.query(`GRANT SELECT (id, password_hash) ON users TO ${a}; GRANT UPDATE (content), SELECT (content) ON messages TO ${a}`);
  await db.sql.query(`GRANT SELECT ON messages TO ${a} WITH GRANT OPTION; GRANT SELECT ON sessions TO ${a} WITH GRANT OPTION`);
  const client = new pg.Client({ connectionString: as(a) });
  await client.connect();
  await client.query(`GRANT SELECT ON messages TO PUBLIC; GRANT SELECT ON sessions TO ${b}`);
  await client.end();
  await migrate(db.url, log);
  expect(await rights()).toEqual({
    statements: [],
    granted: [`${a}: SELECT, SELECT (content) on TABLE public.messages`],
  });
  expect(warnings).toContain(`REVOKE SELECT (id), SELECT (password_hash) ON TABLE public.users FROM ${a} CASCADE`);
});

it('what an operator granted for programs that post and read stays, as do members of the owner', async () => {
  const owner = await newRole('chat');
  await giveAllTo(owner);
  const member = await newRole('member', `IN ROLE ${owner}`);
  const poster = await newRole('poster');
  await db.sql.query(`GRANT SELECT ON users, bus_key TO ${member}`);
  await db.sql.query(`GRANT INSERT ON messages TO ${poster}; GRANT USAGE ON SEQUENCE message_id_blocks TO ${poster}`);
  expect((await rights(as(owner))).statements).toEqual([]);
  await migrate(as(owner), log);
  expect(warnings).toEqual([]);
  expect((await rights(as(owner))).granted).toEqual([
    `${poster}: USAGE on SEQUENCE public.message_id_blocks`,
    `${poster}: INSERT on TABLE public.messages`,
  ]);
});

describe('what is not for the nodes’ role to take back, the start says with the statements and does not go on:', () => {
  let owner: string;
  let mallory: string;
  beforeEach(async () => {
    [owner, mallory] = [await newRole('chat'), await newRole('mallory')];
    await db.sql.query(`ALTER DATABASE ${db.name} OWNER TO ${owner}`);
  });

  /** Once the statements are run, it does. */
  async function refusedUntil(statements: readonly string[]): Promise<void> {
    expect(statementsIn(await errorOf(migrate(as(owner), log)))).toEqual(statements);
    const { code, stderr } = await runCommand('migrate', [], { DATABASE_URL: as(owner) });
    expect([code, statementsIn(stderr)]).toEqual([1, statements]);
    for (const statement of statements) await db.sql.query(statement);
    await migrate(as(owner), log);
    expect((await rights(as(owner))).statements).toEqual([]);
  }

  it('objects that a restore gave to somebody else', async () => {
    const { statements } = await rights(as(owner));
    expect(statements).toContain(`ALTER TABLE public.users OWNER TO ${owner}`);
    expect(statements).toContain(`ALTER FUNCTION public.bus_notify(text) OWNER TO ${owner}`);
    await refusedUntil(statements);
  });

  it('CREATE on a schema public of before PostgreSQL 15', async () => {
    await giveAllTo(owner);
    await db.sql.query(`ALTER SCHEMA public OWNER TO CURRENT_USER; GRANT CREATE ON SCHEMA public TO PUBLIC, ${mallory}, ${owner}`);
    await refusedUntil([`REVOKE CREATE ON SCHEMA public FROM PUBLIC CASCADE`, `REVOKE CREATE ON SCHEMA public FROM ${mallory} CASCADE`]);
    const { rows } = await db.sql.query("SELECT has_schema_privilege($1, 'public', 'CREATE') AS may", [mallory]);
    expect(rows).toEqual([{ may: false }]);
    await db.sql.query('ALTER SCHEMA public OWNER TO pg_database_owner');
  });

  it('operators, functions and triggers that another role has planted', async () => {
    await giveAllTo(owner);
    await db.sql.query(`GRANT CREATE ON SCHEMA public TO ${mallory}; GRANT TRIGGER ON messages TO ${mallory}`);
    const client = new pg.Client({ connectionString: as(mallory) });
    await client.connect();
    await client.query(`
      CREATE FUNCTION add_up(text, uuid) RETURNS text LANGUAGE sql AS 'SELECT $1';
      CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = uuid, FUNCTION = add_up);
      CREATE FUNCTION public.unnest(uuid[]) RETURNS uuid LANGUAGE sql AS 'SELECT $1[1]';
      CREATE FUNCTION bus_notify(lines varchar) RETURNS void LANGUAGE sql AS 'SELECT';
      CREATE FUNCTION listen_in() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER listen_in BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION listen_in()`);
    await client.end();
    await refusedUntil([
      'DROP FUNCTION public.bus_notify(character varying)',
      'DROP FUNCTION public.unnest(uuid[])',
      'DROP OPERATOR public.||(text,uuid)',
      'DROP TRIGGER listen_in ON public.messages',
    ]);
    expect(warnings).toContain(`REVOKE CREATE ON SCHEMA public FROM ${mallory} CASCADE`);
  });
});
