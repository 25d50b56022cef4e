/** What the bus reads from the tables: the heads, and what notifications did not bring. */
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { eventEntry, type LogEntry } from './payload.js';

/** Of one page, which is what a socket or a repair takes at a time. A page has at least one entry. */
export const pageMaxEntries = 500;
export const pageMaxBytes = 1_048_576;
/** Of all pages that one statement reads, so that a node never holds a large backlog at once. */
const readMaxBytes = 4_194_304;
/** What an entry counts beside its content. */
const entryBytes = 300;

/** A part of a room's log: after seq `after`, up to and with `upTo`, as much of it as one page of `maxBytes` holds. */
export interface LogRange {
  readonly roomId: string;
  readonly after: number;
  readonly upTo: number;
  readonly maxBytes: number;
}

/**
 * A page of each range, ascending, messages and events merged by seq. The ranges share what one statement may read in equal parts; where single
 * entries are larger than such a part and the sum is reached, the later ranges are undefined: to be asked for again. The first range never is.
 */
export async function readLogs(db: Queryable, ranges: readonly LogRange[]): Promise<(LogEntry[] | undefined)[]> {
  const share = Math.min(pageMaxBytes, Math.ceil(readMaxBytes / ranges.length));
  const maxBytes = ranges.map((range) => Math.min(range.maxBytes, share));
  const { rows } = await db.query<{ n: number; seq: number; is_event: boolean; json: string | null }>({
    name: 'read_logs',
    // The sizes first, which stand in the rows' headers, so that no JSON is made of what is on no page. LATERAL with a LIMIT keeps the planner on
    // the primary keys. Not ordered: what is sorted here would be the whole JSON.
    text: `
      WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::int[])
          WITH ORDINALITY AS w (bucket, room_id, after, up_to, max_bytes, n)
      ), size AS (
        SELECT w.n, w.max_bytes, s.seq, s.bytes, sum(s.bytes) OVER log - s.bytes AS bytes_before, row_number() OVER log AS place
        FROM wanted AS w CROSS JOIN LATERAL (
          (SELECT m.seq, octet_length(m.content) + ${entryBytes} AS bytes FROM messages AS m
           WHERE m.bucket = w.bucket AND m.room_id = w.room_id AND m.seq > w.after AND m.seq <= w.up_to ORDER BY m.seq LIMIT $6)
          UNION ALL
          (SELECT e.seq, ${entryBytes} FROM room_events AS e
           WHERE e.bucket = w.bucket AND e.room_id = w.room_id AND e.seq > w.after AND e.seq <= w.up_to ORDER BY e.seq LIMIT $6)
        ) AS s
        WINDOW log AS (PARTITION BY w.n ORDER BY s.seq)
      ), page AS (
        SELECT n, max(seq) AS last, sum(bytes) AS bytes FROM size WHERE bytes_before < max_bytes AND place <= $6 GROUP BY n
      ), due AS MATERIALIZED (
        SELECT n, last, sum(bytes) OVER (ORDER BY n) - bytes::numeric < $7 AS fits FROM page
      )
      SELECT d.n::int, l.seq, l.is_event, l.json
      FROM due AS d JOIN wanted AS w ON w.n = d.n CROSS JOIN LATERAL (
        (SELECT m.seq, false AS is_event,
           message_json(m.room_id, m.seq, m.id, m.user_id, m.username, m.content, m.client_msg_id, m.created_at) AS json
         FROM messages AS m
         WHERE m.bucket = w.bucket AND m.room_id = w.room_id AND m.seq > w.after AND m.seq <= d.last ORDER BY m.seq LIMIT $6)
        UNION ALL
        (SELECT e.seq, true, room_event_json(e.room_id, e.seq, e.kind, e.actor_id, e.user_id, e.username, e.created_at, e.data)
         FROM room_events AS e
         WHERE e.bucket = w.bucket AND e.room_id = w.room_id AND e.seq > w.after AND e.seq <= d.last ORDER BY e.seq LIMIT $6)
      ) AS l
      WHERE d.fits
      UNION ALL
      SELECT n::int, 0, false, NULL FROM due WHERE NOT fits`,
    values: [
      ranges.map(({ roomId }) => roomBucket(roomId)),
      ranges.map(({ roomId }) => roomId),
      ranges.map(({ after }) => after),
      ranges.map(({ upTo }) => upTo),
      maxBytes,
      Math.min(pageMaxEntries, Math.ceil(Math.max(...maxBytes) / entryBytes)),
      readMaxBytes,
    ],
  });
  const pages: (LogEntry[] | undefined)[] = ranges.map(() => []);
  for (const { n, seq, is_event, json } of rows) {
    if (json === null) pages[n - 1] = undefined;
    else pages[n - 1]?.push(is_event ? eventEntry(seq, json) : { seq, json });
  }
  for (const page of pages) page?.sort((a, b) => a.seq - b.seq);
  return pages;
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
