/**
 * Who else may do what with our objects. Granted is nothing, except what an operator may give to a role by name: reading
 * rooms and messages, and posting by INSERT. Everything else lets another role read secrets, forge messages or run code
 * as the owner, and comes from elsewhere: a restore without ACLs, default privileges of a host, a schema of before
 * PostgreSQL 15. The start takes back what it may (`mendRights`), and refuses where it may not; the doctor lists.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ConfigError } from '../config.js';

/** What a role may be granted by name, for each table and sequence of ours; PUBLIC may be granted nothing. */
export const grantable: Readonly<Record<string, readonly string[]>> = {
  bus_key: [],
  known_networks: [],
  messages: ['SELECT', 'INSERT'],
  migrations: [],
  operator_epoch: [],
  presence_nodes: [],
  rate_limits: [],
  room_bans: [],
  room_events: ['SELECT'],
  room_invites: [],
  room_members: ['SELECT'],
  room_names: [],
  room_presence: [],
  rooms: ['SELECT'],
  sessions: [],
  users: [],
  message_id_blocks: ['USAGE', 'SELECT'],
  migrations_id_seq: [],
};

/** Those that are SECURITY DEFINER are for nobody but the owner; the others act with the rights of their caller. */
export const functionNames: readonly string[] = [
  'add_member',
  'append_batch',
  'append_lone',
  'append_messages',
  'append_new',
  'append_room_event',
  'bus_notify',
  'current_epoch',
  'forget_room',
  'join_room',
  'leave_room',
  'message_json',
  'message_json_at',
  'messages_notify',
  'messages_take_seq',
  'room_bucket',
  'room_event_json',
  'room_events_notify',
  'room_log_is_append_only',
  'rooms_seq_goes_up',
  'sweep_presence',
  'time_text',
  'write_presence',
];

/** Of the advisory lock under which rights are taken back. */
const rightsLock = 7_241_865_325_823_965n;

export interface RightsFinding {
  readonly problem: string;
  /** What mends it, for the owner of the object or a superuser. */
  readonly statement: string;
  /** It is a grant, which the start takes back by itself. */
  readonly isGrant: boolean;
}

export interface Rights {
  readonly findings: readonly RightsFinding[];
  /** What operators may grant, and did: `role: SELECT, INSERT on TABLE public.messages`. */
  readonly granted: readonly string[];
}

const me = `me AS MATERIALIZED (
  SELECT r.oid, d.datdba AS database_owner FROM pg_roles AS r, pg_database AS d WHERE r.rolname = current_user AND d.datname = current_database()
)`;

/** Superusers, the owner of the object, the role of the nodes, the owner of the database, and the members of these can do it all anyway. */
const isTrusted = (role: string, owner = 'me.oid'): string =>
  `(${role} <> 0::oid AND EXISTS (SELECT FROM unnest(ARRAY[me.oid, me.database_owner, ${owner}]) AS trusted (oid) WHERE pg_has_role(${role}, trusted.oid, 'MEMBER')))`;

const isOfExtension = (catalog: string, oid: string): string =>
  `EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = '${catalog}'::regclass AND d.objid = ${oid} AND d.deptype = 'e')`;

/** $1, $2: tables and sequences, and what is grantable on each; $3: functions. */
const grantsSql = `
  WITH ${me}, relations AS (
    SELECT c.oid, format('%s public.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname) AS object, c.relowner AS owner,
      c.relacl AS acl, string_to_array(w.allowed, ' ') AS allowed
    FROM pg_class AS c JOIN unnest($1::text[], $2::text[]) AS w (name, allowed) ON c.relname = w.name::name
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S')
  ), objects AS (
    SELECT object, '' AS in_column, owner, acl, allowed FROM relations
    UNION ALL
    SELECT r.object, format(' (%I)', a.attname), r.owner, a.attacl, r.allowed
    FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid WHERE NOT a.attisdropped
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure::text, '', p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)), '{}'
    FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY ($3::name[]) AND p.prosecdef
    UNION ALL
    SELECT 'SCHEMA public', '', nspowner, nspacl, '{USAGE}' FROM pg_namespace WHERE nspname = 'public'
  )
  SELECT o.object, CASE WHEN g.grantee = 0::oid THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee,
    g.privilege_type || o.in_column AS privilege,
    CASE
      WHEN g.privilege_type <> ALL (o.allowed) OR g.grantee = 0::oid AND o.object <> 'SCHEMA public' THEN 'wrong'
      WHEN g.is_grantable THEN 'grantable'
      ELSE 'allowed'
    END AS verdict
  FROM me, objects AS o, aclexplode(o.acl) AS g
  WHERE NOT ${isTrusted('g.grantee', 'o.owner')}
  ORDER BY 1, 2, 3`;

/** Objects of ours that belong to somebody else, and what somebody else has put in their way. $1: tables and sequences; $2: functions. */
const ownersSql = `
  WITH ${me}, theirs AS (
    SELECT format('TABLE public.%I', c.relname) AS object, c.relowner AS owner, true AS is_ours FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1::name[]) AND c.relkind <> 'S'
    UNION ALL
    SELECT format('SEQUENCE public.%I', c.relname), c.relowner, true FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1::name[]) AND c.relkind = 'S'
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure::text, p.proowner, coalesce(p.proowner = r.relowner AND p.proname = ANY ($2::name[]), false)
    FROM pg_proc AS p LEFT JOIN pg_class AS r ON r.relnamespace = 'public'::regnamespace AND r.relname = 'rooms'
    WHERE p.pronamespace = 'public'::regnamespace AND NOT ${isOfExtension('pg_proc', 'p.oid')}
      AND (p.proname = ANY ($2::name[]) OR EXISTS (SELECT FROM pg_proc AS c WHERE c.pronamespace = 'pg_catalog'::regnamespace AND c.proname = p.proname))
    UNION ALL
    SELECT 'OPERATOR ' || o.oid::regoperator::text, o.oprowner, false FROM pg_operator AS o
    WHERE o.oprnamespace = 'public'::regnamespace AND NOT ${isOfExtension('pg_operator', 'o.oid')}
    UNION ALL
    SELECT format('TRIGGER %I ON public.%I', t.tgname, c.relname), p.proowner, false
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1::name[])
    UNION ALL
    SELECT 'SCHEMA public', nspowner, false FROM pg_namespace WHERE nspname = 'public' AND nspowner <> 'pg_database_owner'::regrole
  )
  SELECT t.object, quote_ident(pg_get_userbyid(t.owner)) AS owner,
    CASE
      WHEN t.object = 'SCHEMA public' THEN 'ALTER SCHEMA public OWNER TO pg_database_owner'
      WHEN t.is_ours THEN format('ALTER %s OWNER TO %I', t.object, current_user)
      ELSE 'DROP ' || t.object
    END AS statement
  FROM me, theirs AS t
  WHERE NOT pg_has_role(me.oid, t.owner, 'MEMBER') AND (t.is_ours OR NOT ${isTrusted('t.owner')})
  ORDER BY 1`;

/** Resolves names by pg_catalog alone, whatever was planted in public. */
async function inSafeTransaction<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    await client.query('SET LOCAL search_path = pg_catalog, pg_temp');
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

/** What is wrong with the rights on our objects, as far as they are there. */
export const readRights = (client: pg.ClientBase): Promise<Rights> => inSafeTransaction(client, () => examine(client));

async function examine(client: pg.ClientBase): Promise<Rights> {
  const names = Object.keys(grantable);
  const grants = await client.query<{ object: string; grantee: string; privilege: string; verdict: 'wrong' | 'grantable' | 'allowed' }>(
    grantsSql,
    [names, Object.values(grantable).map((privileges) => privileges.join(' ')), functionNames],
  );
  const owners = await client.query<{ object: string; owner: string; statement: string }>(ownersSql, [names, functionNames]);

  const groups = new Map<string, typeof grants.rows>();
  for (const row of grants.rows) {
    const key = [row.object, row.grantee, row.verdict].join(' ');
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const findings: RightsFinding[] = [];
  const granted: string[] = [];
  for (const [{ object, grantee, verdict }, privileges] of [...groups.values()].flatMap((rows) =>
    rows.slice(0, 1).map((row) => [row, rows.map(({ privilege }) => privilege).join(', ')] as const),
  )) {
    if (verdict === 'allowed') {
      if (object !== 'SCHEMA public') granted.push(`${grantee}: ${privileges} on ${object}`);
      continue;
    }
    const isOption = verdict === 'grantable';
    findings.push({
      problem: `${grantee} may ${isOption ? 'pass on ' : ''}${privileges} on ${object}`,
      statement: `REVOKE ${isOption ? 'GRANT OPTION FOR ' : ''}${privileges} ON ${object} FROM ${grantee} CASCADE`,
      isGrant: true,
    });
  }
  for (const { object, owner, statement } of owners.rows)
    findings.push({ problem: `${object} belongs to ${owner}`, statement, isGrant: false });
  return { findings, granted };
}

/**
 * Takes back what others were granted, each with a line in the log.
 * @throws ConfigError with the statements for what is not for this role to take back
 */
export async function mendRights(client: pg.ClientBase, log: Logger): Promise<void> {
  const left = await inSafeTransaction(client, async () => {
    const { findings } = await examine(client);
    if (findings.length === 0) return [];
    await client.query('SELECT pg_advisory_xact_lock($1)', [rightsLock.toString()]); // nodes that start together
    for (const { statement, isGrant } of findings) if (isGrant) await attempt(client, statement);
    const after = await examine(client);
    const statements = new Set(after.findings.map(({ statement }) => statement));
    for (const { problem, statement } of findings)
      if (!statements.has(statement)) log.warn({ problem, statement }, 'rights of another role were taken back');
    return after.findings;
  });
  if (left.length > 0) {
    throw new ConfigError([
      'Other roles have rights that only the owner of the database may have. As a superuser, or as the owner of the object:',
      ...left.map(({ problem, statement }) => `${statement};  -- ${problem}`),
    ]);
  }
}

/** What this role may not take back is seen afterwards. */
async function attempt(client: pg.ClientBase, statement: string): Promise<void> {
  await client.query('SAVEPOINT attempt');
  try {
    await client.query(statement);
  } catch {
    await client.query('ROLLBACK TO attempt');
  }
}
