/** What the bus reads from the tables: the heads, and what notifications did not bring. */
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { eventEntry, type LogEntry } from './payload.js';

/** Entries and bytes of one read, so that a node never holds a large backlog at once. A page has at least one entry. */
const pageMaxEntries = 500;
const pageMaxBytes = 1_048_576;

/** A room's log after seq `after`, up to and with `upTo`, ascending, cut to one page. Messages and events merged by seq. */
export async function readLog(db: Queryable, roomId: string, after: number, upTo: number): Promise<LogEntry[]> {
  const { rows } = await db.query<{ seq: number; is_event: boolean; json: string }>({
    name: 'read_log',
    // The sizes first, which stand in the rows' headers, so that no JSON is made of what is not on the page.
    text: `
      WITH size AS (
        (SELECT seq, octet_length(content) + 300 AS bytes FROM messages
         WHERE bucket = $1 AND room_id = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5)
        UNION ALL
        (SELECT seq, 300 FROM room_events WHERE bucket = $1 AND room_id = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5)
      ), page AS MATERIALIZED (
        SELECT max(seq) AS last FROM (
          SELECT seq, sum(bytes) OVER (ORDER BY seq) - bytes AS bytes_before, row_number() OVER (ORDER BY seq) AS n FROM size
        ) AS s WHERE bytes_before < $6 AND n <= $5
      )
      SELECT seq, false AS is_event, message_json(room_id, seq, id, user_id, username, content, client_msg_id, created_at) AS json
      FROM messages WHERE bucket = $1 AND room_id = $2 AND seq > $3 AND seq <= (SELECT last FROM page)
      UNION ALL
      SELECT seq, true, room_event_json(room_id, seq, kind, actor_id, user_id, username, created_at, data)
      FROM room_events WHERE bucket = $1 AND room_id = $2 AND seq > $3 AND seq <= (SELECT last FROM page)
      ORDER BY seq`,
    values: [roomBucket(roomId), roomId, after, upTo, pageMaxEntries, pageMaxBytes],
  });
  return rows.map(({ seq, is_event, json }) => (is_event ? eventEntry(seq, json) : { seq, json }));
}

/** The last seq of each room that exists. */
export async function readHeads(db: Queryable, roomIds: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await db.query<{ id: string; last_seq: number }>({
    name: 'read_heads',
    text: `SELECT rooms.id, rooms.last_seq FROM unnest($1::smallint[], $2::uuid[]) AS wanted (bucket, id)
           JOIN rooms ON rooms.bucket = wanted.bucket AND rooms.id = wanted.id`,
    values: [roomIds.map(roomBucket), roomIds],
  });
  return new Map(rows.map(({ id, last_seq }) => [id, last_seq]));
}

export interface ServerState {
  readonly epoch: string;
  /** Share of the notification queue that is in use, 0 to 1. Asking for it also lets a full queue be freed after a stuck listener is gone. */
  readonly queueUsage: number;
}

export async function readServerState(db: Queryable): Promise<ServerState> {
  const { rows } = await db.query<{ epoch: string; usage: number }>({
    name: 'read_server_state',
    text: 'SELECT current_epoch() AS epoch, pg_notification_queue_usage() AS usage',
  });
  return { epoch: rows[0]?.epoch ?? '', queueUsage: rows[0]?.usage ?? 0 };
}

export async function readBusKey(db: Queryable): Promise<Buffer> {
  const { rows } = await db.query<{ key: Buffer }>('SELECT key FROM bus_key');
  if (rows[0] === undefined) throw new Error('the table bus_key is empty: run the migrations');
  return rows[0].key;
}

/** Sends a beat on the bus, to come back to whoever listens. */
export async function sendHeartbeat(db: Queryable, beat: string): Promise<void> {
  await db.query({ name: 'send_heartbeat', text: `SELECT bus_notify(E'\\nh' || $1::text)`, values: [beat] });
}
