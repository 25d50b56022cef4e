import { hash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import type pg from 'pg';
import type { Event, Tables } from './history.js';

/** Of an event as its recorder gets it: the time is added. */
type Untimed<T> = T extends Event ? Omit<T, 'at'> : never;

const linesPerWrite = 500;

/** Keeps what happens, in its order; with a path also as JSON lines in that file, so that a run that dies leaves its record. */
export class Recorder {
  readonly events: Event[] = [];
  private readonly file: WriteStream | undefined;
  private readonly lines: string[] = [];
  private ops = 0;
  private conns = 0;

  constructor(path?: string) {
    if (path !== undefined) this.file = createWriteStream(path);
  }

  record(untimed: Untimed<Event>): void {
    const event = { at: Math.round(performance.now()), ...untimed } as Event;
    this.events.push(event);
    if (this.file === undefined) return;
    this.lines.push(JSON.stringify(event));
    if (this.lines.length >= linesPerWrite) this.flush(this.file);
  }

  nextOp(): number {
    return ++this.ops;
  }

  nextConn(): number {
    return ++this.conns;
  }

  async close(): Promise<void> {
    const { file } = this;
    if (file === undefined) return;
    this.flush(file);
    await new Promise<void>((closed) => file.end(closed));
  }

  private flush(file: WriteStream): void {
    file.write(`${this.lines.splice(0).join('\n')}\n`);
  }
}

export const digestOf = (content: string): string => hash('sha1', content, 'base64url').slice(0, 16);

export const eventDigest = (kind: string): string => `[${kind}]`;

/** What the database holds of these rooms when all is over. */
export async function dumpTables(sql: pg.Pool, ids: readonly string[]): Promise<Tables> {
  const rooms = await sql.query<{ room: string; lastSeq: number; owner: string; history: 'shared' | 'joined' }>(
    'SELECT id AS room, last_seq::int AS "lastSeq", created_by AS owner, history FROM rooms WHERE id = ANY ($1)',
    [ids],
  );
  const messages = await sql.query<{ room: string; seq: number; id: number; user: string; key: string | null; content: string }>(
    'SELECT room_id AS room, seq::int, id::float8, user_id AS user, client_msg_id AS key, content FROM messages WHERE room_id = ANY ($1)',
    [ids],
  );
  const events = await sql.query<{ room: string; seq: number; kind: string; user: string | null }>(
    'SELECT room_id AS room, seq::int, kind, user_id AS user FROM room_events WHERE room_id = ANY ($1)',
    [ids],
  );
  const epoch = await sql.query<{ epoch: string }>('SELECT current_epoch() AS epoch');
  return {
    epoch: epoch.rows[0]?.epoch ?? '',
    rooms: rooms.rows,
    messages: messages.rows.map(({ content, ...row }) => ({ ...row, digest: digestOf(content) })),
    events: events.rows,
  };
}
