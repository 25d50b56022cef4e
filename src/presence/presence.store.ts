/** Leases and rows of presence: migrations/0005_presence.sql says why they are as they are. */
import { roomBucket } from '../database/bucket.js';
import type { Queryable } from '../database/database.js';
import type { Change } from './signals.js';

export interface OtherLease {
  readonly nodeId: string;
  /** Until it expires; negative since it did. */
  readonly remainingMs: number;
}

export async function takeLease(db: Queryable, nodeId: string, leaseMs: number): Promise<void> {
  await db.query(
    `INSERT INTO presence_nodes (node_id, expires_at) VALUES ($1, now() + $2::float8 * interval '1 ms')
      ON CONFLICT (node_id) DO UPDATE SET expires_at = excluded.expires_at`,
    [nodeId, leaseMs],
  );
}

/** Prolongs a lease, and reads those of all other nodes. `held` is false when it is gone; then it was not made anew. */
export async function renewLease(db: Queryable, nodeId: string, leaseMs: number): Promise<{ held: boolean; others: OtherLease[] }> {
  const { rows } = await db.query<{ node_id: string; remaining_ms: number }>({
    name: 'renew_lease',
    text: `WITH renewed AS (
        UPDATE presence_nodes SET expires_at = now() + $2::float8 * interval '1 ms' WHERE node_id = $1 RETURNING node_id
      )
      SELECT node_id, $2::float8 AS remaining_ms FROM renewed
      UNION ALL
      SELECT node_id, extract(epoch FROM expires_at - now())::float8 * 1000 FROM presence_nodes WHERE node_id <> $1`,
    values: [nodeId, leaseMs],
  });
  return {
    held: rows.some(({ node_id }) => node_id === nodeId),
    others: rows
      .filter(({ node_id }) => node_id !== nodeId)
      .map(({ node_id, remaining_ms }) => ({ nodeId: node_id, remainingMs: remaining_ms })),
  };
}

/** Takes away nodes whose lease has expired. Returns those that are gone now, whoever did it. */
export async function sweepPresence(db: Queryable, nodeIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ gone: string[] }>('SELECT sweep_presence($1::uuid[]) AS gone', [nodeIds]);
  return rows[0]?.gone ?? [];
}

/** Writes changes and sends payloads, in one transaction. Returns false, and does neither, when the node's lease is gone. */
export async function writePresence(
  db: Queryable,
  nodeId: string,
  changes: readonly Change[],
  payloads: readonly string[],
): Promise<boolean> {
  const on = changes.filter(({ isOn }) => isOn);
  const off = changes.filter(({ isOn }) => !isOn);
  const { rows } = await db.query<{ written: boolean }>({
    name: 'write_presence',
    text: 'SELECT write_presence($1, $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::text[]) AS written',
    values: [
      nodeId,
      on.map(({ roomId }) => roomId),
      on.map(({ userId }) => userId),
      on.map(({ username }) => username),
      off.map(({ roomId }) => roomId),
      off.map(({ userId }) => userId),
      payloads,
    ],
  });
  return rows[0]?.written ?? false;
}

/** Sends payloads, in one transaction, and writes nothing. */
export async function sendSignals(db: Queryable, payloads: readonly string[]): Promise<void> {
  await db.query({
    name: 'send_signals',
    text: 'SELECT bus_notify(payload) FROM pg_catalog.unnest($1::text[]) AS payload',
    values: [payloads],
  });
}

/** Who is online in a room through one node. */
export interface PresenceRow {
  readonly nodeId: string;
  readonly users: readonly { readonly userId: string; readonly username: string }[];
}

/** Who is online in each of the rooms, and the nodes whose lease is there: of these it is all, of others it says nothing. */
export async function readPresence(
  db: Queryable,
  roomIds: readonly string[],
): Promise<{ nodeIds: string[]; rooms: Map<string, PresenceRow[]> }> {
  // One statement, so that both are of the same moment. Without a name: it is planned for the table as it is now, which grows and shrinks fast.
  const { rows } = await db.query<{ room_id: string | null; node_id: string; user_ids: string[]; usernames: string[] }>({
    text: `SELECT wanted.room_id, online.node_id, online.user_ids, online.usernames
      FROM unnest($1::smallint[], $2::uuid[]) AS wanted (bucket, room_id)
      CROSS JOIN LATERAL (
        SELECT p.node_id, pg_catalog.array_agg(p.user_id) AS user_ids, pg_catalog.array_agg(p.username) AS usernames FROM room_presence AS p
        WHERE p.bucket = wanted.bucket AND p.room_id = wanted.room_id GROUP BY p.node_id
      ) AS online
      UNION ALL
      SELECT NULL, node_id, '{}', '{}' FROM presence_nodes`,
    values: [roomIds.map(roomBucket), roomIds],
  });
  const rooms = new Map<string, PresenceRow[]>(roomIds.map((roomId) => [roomId, []]));
  const nodeIds: string[] = [];
  for (const { room_id, node_id, user_ids, usernames } of rows) {
    if (room_id === null) nodeIds.push(node_id);
    else rooms.get(room_id)?.push({ nodeId: node_id, users: user_ids.map((userId, n) => ({ userId, username: usernames[n] ?? '' })) });
  }
  return { nodeIds, rooms };
}
