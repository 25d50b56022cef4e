import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { testSecret } from './node.js';

/** A user as the tests need one: made by SQL, for what costs a hundred milliseconds in argon2 is tested elsewhere. */
export interface Person {
  readonly id: string;
  readonly name: string;
  /** Of a login that lives for a day; `token` and what tokenFor makes are of it. */
  readonly sessionId: string;
  readonly token: string;
}

/** @param ttlS seconds until the token expires */
export async function createPerson(sql: pg.Pool, name = `user-${randomUUID().slice(0, 8)}`, ttlS = 3_600): Promise<Person> {
  const id = uuidv7();
  await sql.query('INSERT INTO users (id, username, username_key, email, email_key, password_hash) VALUES ($1, $2, $2, $3, $3, $4)', [
    id,
    name,
    `${name}@example.org`,
    'none',
  ]);
  const sessionId = uuidv7();
  await sql.query("INSERT INTO sessions (id, user_id, refresh_token_hash, expires_at) VALUES ($1, $2, $3, now() + interval '1 day')", [
    sessionId,
    id,
    randomBytes(32),
  ]);
  return { id, name, sessionId, token: tokenFor({ id, name, sessionId }, ttlS) };
}

export const tokenFor = (person: Omit<Person, 'token'>, ttlS: number): string => {
  const now = Math.floor(Date.now() / 1_000);
  return signedToken(person, { iat: now, exp: now + ttlS });
};

/** An access token as a node issues it, but for these claims and header parameters; `undefined` takes one away. */
export function signedToken({ id, name, sessionId }: Omit<Person, 'token'>, claims: object = {}, header: object = {}): string {
  const now = Math.floor(Date.now() / 1_000);
  const issued = { iss: 'trunkline', aud: 'trunkline', sub: id, name, sid: sessionId, iat: now, exp: now + 600 };
  return signed(JSON.stringify({ alg: 'HS256', typ: 'at+jwt', ...header }), JSON.stringify({ ...issued, ...claims }));
}

/** Any two texts, signed with the key of the nodes. */
export function signed(header: string, payload: string, key = testSecret): string {
  const body = [header, payload].map((text) => Buffer.from(text).toString('base64url')).join('.');
  return `${body}.${createHmac('sha256', key).update(body).digest('base64url')}`;
}

/** A room with its first member as owner; the others join, so that each takes a seq. */
export async function createRoom(sql: pg.Pool, members: readonly Person[], history: 'shared' | 'joined' = 'shared'): Promise<string> {
  const [owner, ...others] = members;
  const id = uuidv7();
  await sql.query('INSERT INTO rooms (bucket, id, name, history, created_by) VALUES (room_bucket($1), $1, $2, $3, $4)', [
    id,
    `room ${id}`,
    history,
    owner?.id,
  ]);
  if (owner !== undefined) {
    await sql.query(
      "INSERT INTO room_members (bucket, room_id, user_id, username, role, joined_seq) VALUES (room_bucket($1), $1, $2, $3, 'owner', 0)",
      [id, owner.id, owner.name],
    );
  }
  for (const person of others) await sql.query('SELECT join_room($1, $2, $3)', [id, person.id, person.name]);
  return id;
}

/** Last seq of a room, and whether messages and events together are 1..last_seq, each once. */
export async function roomLog(sql: pg.Pool, roomId: string): Promise<{ lastSeq: number; contiguous: boolean; contents: string[] }> {
  const { rows } = await sql.query<{ last_seq: string; seqs: string[] | null; contents: string[] | null }>(
    `WITH log AS (
       SELECT seq, content FROM messages WHERE room_id = $1 UNION ALL SELECT seq, '[' || kind || ']' FROM room_events WHERE room_id = $1
     ) SELECT last_seq, (SELECT array_agg(seq ORDER BY seq) FROM log) AS seqs, (SELECT array_agg(content ORDER BY seq) FROM log) AS contents
     FROM rooms WHERE id = $1`,
    [roomId],
  );
  const row = rows[0];
  const lastSeq = Number(row?.last_seq ?? 0);
  const seqs = (row?.seqs ?? []).map(Number);
  return { lastSeq, contiguous: seqs.length === lastSeq && seqs.every((seq, n) => seq === n + 1), contents: row?.contents ?? [] };
}
