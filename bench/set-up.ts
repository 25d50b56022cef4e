/**
 * People and rooms, made in the database: hundreds of registrations would be hundreds of password hashes. Joins go through the database's own
 * function, so that they have their seqs; tokens are signed with the nodes' key.
 */
import { createHmac, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { contentsOf } from './content.js';
import type { Newcomer, Person } from './plan.js';
import type { Arrivals, Scenario } from './scenarios.js';

const tokenLifeS = 86_400;
const buckets = 16;

export interface Crowd {
  readonly roomIds: readonly string[];
  readonly senders: readonly Person[];
  readonly receivers: readonly Person[];
  readonly newcomers: readonly Newcomer[];
}

/** As much of a scenario as there are people and rooms. */
type CrowdSize = Pick<Scenario, 'rooms' | 'senders' | 'receivers' | 'arrivals'>;

/** @param nodeUrls the people of each room are spread over the nodes in turn */
export async function makeCrowd(db: pg.Client, scenario: CrowdSize, nodeUrls: readonly string[], secret: string): Promise<Crowd> {
  const { roomIds, members, people } = castCrowd(scenario, nodeUrls, (user) => accessToken(user, secret));
  await db.query('BEGIN');
  await insertUsers(db, members);
  await insertRooms(db, roomIds, members[0]?.userId);
  await db.query(
    'SELECT join_room(room_id, user_id, username) FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS j (room_id, user_id, username)',
    [members.map(({ roomId }) => roomId), members.map(({ userId }) => userId), members.map(({ username }) => username)],
  );
  await db.query('COMMIT');
  const newcomers = scenario.arrivals === undefined ? [] : await makeNewcomers(db, scenario.arrivals, nodeUrls, secret);
  return { roomIds, ...people, newcomers };
}

interface Cast {
  readonly roomIds: readonly string[];
  readonly members: readonly (NewUser & { readonly roomId: string })[];
  readonly people: Pick<Crowd, 'senders' | 'receivers'>;
}

/** Who is in which room, on which node; of the same scenario always the same, but for the ids. */
export function castCrowd({ rooms, senders, receivers }: CrowdSize, nodeUrls: readonly string[], tokenOf: (user: NewUser) => string): Cast {
  const roomIds = newRoomIds(rooms);
  const crowd = (count: number) =>
    Array.from({ length: count }, (_, place) => ({
      ...newUser(),
      roomId: roomIds[place % rooms] ?? '',
      nodeUrl: nodeUrls[(Math.floor(place / rooms) + (place % rooms)) % nodeUrls.length] ?? '',
    }));
  const sending = crowd(senders);
  const receiving = crowd(receivers);
  const person = (member: (typeof sending)[number]): Person => ({ token: tokenOf(member), roomId: member.roomId, nodeUrl: member.nodeUrl });
  return { roomIds, members: [...sending, ...receiving], people: { senders: sending.map(person), receivers: receiving.map(person) } };
}

/** Members from the beginning, so that no room has an event yet: what is measured is their coming online alone. */
export async function makeNewcomers(
  db: pg.Client,
  { users, rooms, roomsEach }: Pick<Arrivals, 'users' | 'rooms' | 'roomsEach'>,
  nodeUrls: readonly string[],
  secret: string,
): Promise<Newcomer[]> {
  const roomIds = newRoomIds(rooms);
  const stepMax = Math.max(1, Math.floor((rooms - 1) / roomsEach));
  const people = Array.from({ length: users }, (_, n) => ({
    ...newUser(),
    // Each time other neighbours, and in each room as many.
    roomIds: Array.from({ length: roomsEach }, (_each, k) => roomIds[(n + k * (1 + (Math.floor(n / rooms) % stepMax))) % rooms] ?? ''),
    nodeUrl: nodeUrls[(Math.floor(n / rooms) + (n % rooms)) % nodeUrls.length] ?? '',
  }));
  const memberships = people.flatMap((person) => person.roomIds.map((roomId) => ({ ...person, roomId })));
  await db.query('BEGIN');
  await insertUsers(db, people);
  await insertRooms(db, roomIds, people[0]?.userId);
  await db.query(
    `INSERT INTO room_members (bucket, room_id, user_id, username, joined_seq)
     SELECT room_bucket(room_id), room_id, user_id, username, 0 FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS m (room_id, user_id, username)`,
    [memberships.map(({ roomId }) => roomId), memberships.map(({ userId }) => userId), memberships.map(({ username }) => username)],
  );
  await db.query('COMMIT');
  await db.query('ANALYZE room_members');
  return people.map((person) => ({ roomIds: person.roomIds, nodeUrl: person.nodeUrl, token: accessToken(person, secret) }));
}

/** So many messages to each room, of one of its members, by no connection of a client. */
export async function insertMessages(db: pg.Client, roomIds: readonly string[], count: number, contentChars: number): Promise<void> {
  await db.query(
    `INSERT INTO messages (room_id, user_id, content)
     SELECT r.id, m.user_id, $3 FROM unnest($1::uuid[]) AS r (id),
       LATERAL (SELECT user_id FROM room_members WHERE bucket = room_bucket(r.id) AND room_id = r.id LIMIT 1) AS m, generate_series(1, $2)`,
    [roomIds, count, contentsOf(contentChars)(0)],
  );
}

export interface NewUser {
  readonly userId: string;
  readonly sessionId: string;
  readonly username: string;
}

const newUser = (): NewUser => ({ userId: uuidv7(), sessionId: uuidv7(), username: `bench-${randomUUID().slice(0, 13)}` });

/** Each bucket in turn, so that all runs share the writer's lanes out in the same way. */
const newRoomIds = (count: number): string[] => Array.from({ length: count }, (_, n) => uuidv7().slice(0, -1) + (n % buckets).toString(16));

async function insertUsers(db: pg.Client, users: readonly NewUser[]): Promise<void> {
  const userIds = users.map(({ userId }) => userId);
  await db.query(
    `INSERT INTO users (id, username, username_key, email, email_key, password_hash)
     SELECT id, name, name, name || '@bench.test', name || '@bench.test', 'none' FROM unnest($1::uuid[], $2::text[]) AS u (id, name)`,
    [userIds, users.map(({ username }) => username)],
  );
  await db.query(
    `INSERT INTO sessions (id, user_id, refresh_token_hash, expires_at)
     SELECT id, user_id, sha256(uuid_send(id)), now() + interval '1 day' FROM unnest($1::uuid[], $2::uuid[]) AS s (id, user_id)`,
    [users.map(({ sessionId }) => sessionId), userIds],
  );
}

async function insertRooms(db: pg.Client, roomIds: readonly string[], ownerId: string | undefined): Promise<void> {
  await db.query(
    `INSERT INTO rooms (bucket, id, name, created_by) SELECT room_bucket(id), id, 'bench ' || id, $2 FROM unnest($1::uuid[]) AS r (id)`,
    [roomIds, ownerId],
  );
}

/** An access token as the nodes sign theirs: JWT, HS256 (RFC 7519). */
function accessToken({ userId, sessionId, username }: NewUser, secret: string): string {
  const now = Math.floor(Date.now() / 1_000);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'at+jwt' })}.${part({ sub: userId, name: username, sid: sessionId, iat: now, exp: now + tokenLifeS, iss: 'trunkline', aud: 'trunkline' })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

export interface Stored {
  readonly heads: Record<string, number>;
  readonly messages: Record<string, number>;
  /** What the tables say that can't be, in words. */
  readonly problems: readonly string[];
}

/** What the tables have of the rooms: each seq from 1 to last_seq must be there once. */
export async function readStored(db: pg.Client, roomIds: readonly string[]): Promise<Stored> {
  const { rows } = await db.query<{ id: string; head: string; messages: string; events: string; highest: string }>(
    `SELECT r.id, r.last_seq AS head, m.n AS messages, e.n AS events, greatest(m.highest, e.highest, 0) AS highest
     FROM rooms AS r,
       LATERAL (SELECT count(*) AS n, max(seq) AS highest FROM messages WHERE bucket = r.bucket AND room_id = r.id) AS m,
       LATERAL (SELECT count(*) AS n, max(seq) AS highest FROM room_events WHERE bucket = r.bucket AND room_id = r.id) AS e
     WHERE r.id = ANY ($1::uuid[])`,
    [roomIds],
  );
  const heads: Record<string, number> = {};
  const messages: Record<string, number> = {};
  const problems: string[] = [];
  for (const row of rows) {
    heads[row.id] = Number(row.head);
    messages[row.id] = Number(row.messages);
    if (row.head !== row.highest) problems.push(`room ${row.id}: last_seq is ${row.head}, the highest seq ${row.highest}`);
    if (Number(row.messages) + Number(row.events) !== Number(row.head)) {
      problems.push(`room ${row.id}: ${row.messages} messages and ${row.events} events do not make ${row.head} seqs`);
    }
  }
  return { heads, messages, problems };
}

/** Rooms in which not just what was acked is stored, in words. */
export const unlikeAcked = (acked: Readonly<Record<string, number>>, messages: Stored['messages']): string[] =>
  Object.entries(messages)
    .filter(([roomId, stored]) => stored !== (acked[roomId] ?? 0))
    .map(([roomId, stored]) => `room ${roomId}: ${acked[roomId] ?? 0} acked, ${stored} stored`);
