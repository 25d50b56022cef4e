/** What a server must be for the promises to hold, in one list: the start refuses by it, and the doctor reports by it. */
import type pg from 'pg';
import { sessionSettings, settleSession } from './session.js';

export const newestSupported = 18;
const oldestSupported = 15;

export interface ServerFacts {
  /** By name, what a new session of this role in this database begins with, in the units of pg_settings. */
  readonly settings: ReadonlyMap<string, string>;
  readonly isStandby: boolean;
  readonly isPooled: boolean;
}

export interface Precondition {
  /** Of the doctor's check; several may share one. */
  readonly name: string;
  /** Why the promises don't hold, and the cure, in a sentence each; empty when they do. */
  problems(facts: ServerFacts): readonly string[];
}

/** A setting that may not have one value, and that no connection can or may set for itself. */
const never = (name: string, value: string, why: string, checkName = name): Precondition => ({
  name: checkName,
  problems: ({ settings }) => (settings.get(name) === value ? [`${name} is ${value}: ${why}`] : []),
});

const lost = 'after a crash, seqs that clients have seen would be given to other messages';

export const preconditions: readonly Precondition[] = [
  {
    name: 'durability',
    problems: ({ isStandby }) =>
      isStandby ? ['The server is a standby, which can neither store nor LISTEN: use the primary, or promote this one.'] : [],
  },
  {
    name: 'durability',
    problems({ settings }) {
      const version = Math.floor(Number(settings.get('server_version_num')) / 10_000);
      return version < oldestSupported
        ? [`PostgreSQL ${version} is too old: Trunkline needs ${oldestSupported} to ${newestSupported}.`]
        : [];
    },
  },
  {
    name: 'durability',
    problems: ({ settings }) => (settings.get('server_encoding') === 'UTF8' ? [] : ['The database must have the encoding UTF8.']),
  },
  never('fsync', 'off', `${lost}. Set fsync = on.`, 'durability'),
  never('synchronous_commit', 'off', `${lost}. Set synchronous_commit = on.`, 'durability'),
  never('zero_damaged_pages', 'on', 'what a damaged disk holds would be erased unseen. Set zero_damaged_pages = off.'),
  never('ignore_checksum_failure', 'on', 'what a damaged disk holds would be read as if it were right. Set ignore_checksum_failure = off.'),
  {
    name: 'session_replication_role',
    problems({ settings }) {
      const role = settings.get('session_replication_role');
      if (role === 'origin') return [];
      const why = 'triggers don’t run, so that messages get no seq and nobody is notified';
      return [`session_replication_role is ${role}: ${why}: ALTER ROLE or DATABASE … RESET session_replication_role`];
    },
  },
  never(
    'default_transaction_read_only',
    'on',
    'nothing can be stored. If the disk is full, make room; then ALTER ROLE or DATABASE … RESET default_transaction_read_only',
  ),
  { name: 'session settings', problems: pooledSessionProblems },
];

/** A connection sets these itself; through a pooler of transactions only what the pooler tracks lasts. */
function pooledSessionProblems({ settings, isPooled }: ServerFacts): readonly string[] {
  if (!isPooled) return [];
  return Object.entries(sessionSettings).flatMap(([name, { value, isTracked }]) => {
    const given = settings.get(name);
    if (isTracked === true || given === undefined || given === value) return [];
    if (name === 'search_path' && /\bpublic\b/.test(given)) return [];
    return [
      `${name} is ${given} in new sessions, and what a node sets does not last through a pooler: ALTER ROLE or DATABASE … SET ${name} = '${value}'`,
    ];
  });
}

export async function readFacts(client: pg.ClientBase): Promise<ServerFacts> {
  const { isPooled } = await settleSession(client);
  const { rows } = await client.query<{ name: string; value: string }>('SELECT name, reset_val AS value FROM pg_settings');
  const { rows: states } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby');
  return { settings: new Map(rows.map(({ name, value }) => [name, value])), isStandby: states[0]?.standby === true, isPooled };
}
