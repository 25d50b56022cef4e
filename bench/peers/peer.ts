/** The peers, as the suite starts them: a database of their own with their tables, two nodes, and their people. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type pg from 'pg';
import type { DialectName } from '../dialect.js';
import type { Run } from '../suite.js';
import type { Scenario } from '../scenarios.js';
import { castCrowd, type Crowd, type Stored } from '../set-up.js';
import { tokenOf, type FromPeer, type ToPeer } from './peer-process.js';
import { attachments, tables, triggers } from './tables.js';

export interface Peer {
  readonly name: string;
  readonly entry: URL;
  readonly dialect: DialectName;
  /** SQL that makes its tables. */
  readonly tables: string;
}

export const peers: readonly Peer[] = [
  {
    name: 'one-transaction',
    entry: new URL('./one-transaction.ts', import.meta.url),
    dialect: 'trunkline',
    tables: tables + triggers,
  },
  {
    name: 'socket.io',
    entry: new URL('./socket-io.ts', import.meta.url),
    dialect: 'socket.io',
    tables: tables + attachments,
  },
];

export async function startPeerNodes(run: Run, { name, entry }: Peer, databaseUrl: string) {
  run.status(`starting ${name}`);
  const children = [1, 2].map((n) => run.fork(entry, `${name}-${n}`));
  const nodes = await Promise.all(children.map(async (child) => ({ process: child, url: await urlOf(child, databaseUrl) })));
  const stop = () => children.forEach((child) => child.disconnect());
  return { nodes, stop };
}

async function urlOf(child: ChildProcess, databaseUrl: string): Promise<string> {
  child.send({ databaseUrl } satisfies ToPeer);
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`a node of a peer ended with code ${code}`);
  });
  const [{ url }] = (await Promise.race([once(child, 'message'), ended])) as [FromPeer];
  return url;
}

export async function makePeerCrowd(db: pg.Client, scenario: Scenario, nodeUrls: readonly string[]): Promise<Crowd> {
  const { roomIds, members, people } = castCrowd(scenario, nodeUrls, ({ userId, username }) => tokenOf({ user_id: userId, username }));
  await db.query('INSERT INTO rooms (id) SELECT unnest($1::uuid[])', [roomIds]);
  await db.query('INSERT INTO room_members (room_id, user_id, username) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])', [
    members.map(({ roomId }) => roomId),
    members.map(({ userId }) => userId),
    members.map(({ username }) => username),
  ]);
  await db.query('ANALYZE');
  return { roomIds, ...people, newcomers: [] };
}

/** As readStored of Trunkline's tables. */
export async function readPeerStored(db: pg.Client, roomIds: readonly string[]): Promise<Stored> {
  const { rows } = await db.query<{ id: string; head: string; messages: string; highest: string }>(
    `SELECT r.id, r.last_seq AS head, m.n AS messages, coalesce(m.highest, 0) AS highest
     FROM rooms AS r, LATERAL (SELECT count(*) AS n, max(seq) AS highest FROM messages WHERE room_id = r.id) AS m WHERE r.id = ANY ($1::uuid[])`,
    [roomIds],
  );
  return {
    heads: Object.fromEntries(rows.map(({ id, head }) => [id, Number(head)])),
    messages: Object.fromEntries(rows.map(({ id, messages }) => [id, Number(messages)])),
    problems: rows
      .filter(({ head, messages, highest }) => head !== messages || head !== highest)
      .map(({ id, head, messages, highest }) => `room ${id}: last_seq is ${head}, of ${messages} messages the highest seq ${highest}`),
  };
}
