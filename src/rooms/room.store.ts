import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import { time, uuid } from '../protocol/fields.js';

const historySchema = Type.Enum(['shared', 'joined'], {
  description: 'whether members may read what is older than their own join; a change to shared shows nothing that was said before it',
});
export type History = Static<typeof historySchema>;
export const roleSchema = Type.Enum(['owner', 'admin', 'member']);
export type Role = Static<typeof roleSchema>;

/** A room as it stands in the table and on the wire. */
export const roomSchema = Type.Object(
  {
    id: uuid('UUID v7'),
    name: Type.String(),
    description: Type.String(),
    history: historySchema,
    private: Type.Boolean({ description: 'seen by its members alone, and joined by invitation' }),
    created_by: uuid('id of the user who made it'),
    created_at: time('when it was made'),
    last_seq: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'the newest seq, 0 where nothing happened yet' }),
  },
  { title: 'Room' },
);
export type Room = Static<typeof roomSchema>;

const roomColumns = 'r.id, r.name, r.description, r.history, r.private, r.created_by, r.created_at, r.last_seq';

export interface Membership {
  /** The newest seq of the room, 0 in one where nothing happened yet. */
  lastSeq: number;
  /** The seq of the join: what is above it was said in the member's presence. 0 for the user who made the room. */
  joinedSeq: number;
  /** The member may read what is above this seq, which is at most `joinedSeq`. */
  hiddenTo: number;
  role: Role;
}

interface MembershipRow {
  last_seq: number;
  joined_seq: number;
  hidden_to: number;
  role: Role;
}

const membershipOf = ({ last_seq: lastSeq, joined_seq: joinedSeq, hidden_to: hiddenTo, role }: MembershipRow): Membership => ({
  lastSeq,
  joinedSeq,
  hiddenTo,
  role,
});

/** I7: what was said since the join is the member's; older entries only where the room shares them, and from where it does. */
const hiddenTo = `CASE r.history WHEN 'joined' THEN m.joined_seq ELSE least(m.joined_seq, r.shared_from) END AS hidden_to`;

/**
 * What a user may do in a room, by primary keys alone. One path for 'no such room' and 'not a member': who has no access can't tell them apart.
 * @returns undefined when there is no such room or the user is no member of it
 * @throws ClientError `unavailable`
 */
export async function findMembership(db: Queryable, roomId: string, userId: string): Promise<Membership | undefined> {
  const { rows } = await db.query<MembershipRow>({
    name: 'find-membership',
    text: `SELECT r.last_seq, m.joined_seq, ${hiddenTo}, m.role
      FROM rooms AS r
      JOIN room_members AS m ON m.bucket = r.bucket AND m.room_id = r.id
      WHERE r.bucket = $1 AND r.id = $2 AND m.user_id = $3`,
    values: [roomBucket(roomId), roomId, userId],
  });
  const [row] = rows;
  return row && membershipOf(row);
}

export interface MembershipKey {
  readonly roomId: string;
  readonly userId: string;
}

/**
 * The same for many at once, in the order of the keys.
 * @throws ClientError `unavailable`
 */
export async function findMemberships(db: Queryable, keys: readonly MembershipKey[]): Promise<(Membership | undefined)[]> {
  const { rows } = await db.query<MembershipRow & { n: number }>({
    name: 'find-memberships',
    // LATERAL with a LIMIT keeps the planner on the primary keys, whatever it knows of the tables.
    text: `SELECT w.n::int, r.last_seq, m.joined_seq, ${hiddenTo}, m.role
      FROM unnest($1::smallint[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS w (bucket, room_id, user_id, n)
      CROSS JOIN LATERAL (
        SELECT rooms.last_seq, rooms.history, rooms.shared_from FROM rooms WHERE rooms.bucket = w.bucket AND rooms.id = w.room_id LIMIT 1
      ) AS r
      CROSS JOIN LATERAL (
        SELECT rm.joined_seq, rm.role FROM room_members AS rm
        WHERE rm.bucket = w.bucket AND rm.room_id = w.room_id AND rm.user_id = w.user_id LIMIT 1
      ) AS m`,
    values: [keys.map(({ roomId }) => roomBucket(roomId)), keys.map(({ roomId }) => roomId), keys.map(({ userId }) => userId)],
  });
  const found: (Membership | undefined)[] = keys.map(() => undefined);
  for (const row of rows) found[row.n - 1] = membershipOf(row);
  return found;
}

export async function findRoom(db: Queryable, roomId: string): Promise<Room | undefined> {
  const { rows } = await db.query<Room>(
    `SELECT ${roomColumns} FROM rooms AS r WHERE r.bucket = $1 AND r.id = $2 AND r.deleted_at IS NULL`,
    [roomBucket(roomId), roomId],
  );
  return rows[0];
}

/** A private room is visible to its members. */
export async function findVisibleRoom(db: Queryable, roomId: string, userId: string): Promise<Room | undefined> {
  const { rows } = await db.query<Room>(
    `SELECT ${roomColumns} FROM rooms AS r WHERE r.bucket = $1 AND r.id = $2 AND r.deleted_at IS NULL
      AND (NOT r.private OR EXISTS (SELECT FROM room_members AS m WHERE m.bucket = $1 AND m.room_id = $2 AND m.user_id = $3))`,
    [roomBucket(roomId), roomId, userId],
  );
  return rows[0];
}

/** Also of a room that was deleted, or that the user does not see. */
export async function findCreationTime(db: Queryable, roomId: string): Promise<string | undefined> {
  const { rows } = await db.query<Pick<Room, 'created_at'>>('SELECT created_at FROM rooms WHERE bucket = $1 AND id = $2', [
    roomBucket(roomId),
    roomId,
  ]);
  return rows[0]?.created_at;
}

/** What may be changed of a room. */
export type RoomChanges = Partial<Pick<Room, 'name' | 'description' | 'history' | 'private'>>;

/**
 * The events that tell it, and the lock of the room, are the caller's. What the room did not show until now stays hidden (I7): where it begins to share
 * its history, or is opened to people who were not invited, it shares what comes after its last seq.
 * @param before ISO 8601; arriving later than this, by the server's clock, the statement changes nothing
 * @returns false when it was too late
 */
export async function updateRoom(
  db: Queryable,
  roomId: string,
  { name, description, history, private: isPrivate }: RoomChanges,
  before?: string,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `UPDATE rooms SET name = coalesce($3, name), description = coalesce($4, description), history = coalesce($5, history),
        private = coalesce($6, private),
        shared_from = CASE WHEN history = 'joined' AND $5 = 'shared' OR private AND NOT $6 THEN last_seq ELSE shared_from END
      WHERE bucket = $1 AND id = $2 AND ($7::timestamptz IS NULL OR clock_timestamp() < $7)`,
    [roomBucket(roomId), roomId, name, description, history, isPrivate, before],
  );
  return rowCount === 1;
}

/** Takes a room from everybody: its members, bans and invitations are gone. Its log stays. The last event, and the lock, are the caller's. */
export async function deleteRoom(db: Queryable, roomId: string): Promise<void> {
  await db.query('SELECT forget_room($1)', [roomId]);
}

export interface NewRoom {
  id: string;
  name: string;
  description: string;
  history: History;
  isPrivate: boolean;
  owner: { userId: string; username: string };
}

/**
 * Makes a room with its owner as its only member; no seq is taken. One statement: both or nothing.
 * @param before ISO 8601; arriving later than this, by the server's clock, the statement makes nothing
 * @returns undefined when it was too late
 */
export async function insertRoom(
  db: Queryable,
  { id, name, description, history, isPrivate, owner }: NewRoom,
  before: string,
): Promise<Room | undefined> {
  const { rows } = await db.query<Room>(
    `WITH room AS (
        INSERT INTO rooms (bucket, id, name, description, history, created_by, private)
        SELECT $1, $2, $3, $4, $5, $6, $9 WHERE now() < $8::timestamptz
        RETURNING *
      ), owner AS (
        INSERT INTO room_members (bucket, room_id, user_id, username, role, joined_seq)
        SELECT bucket, id, created_by, $7, 'owner', 0 FROM room
      )
      SELECT ${roomColumns} FROM room AS r`,
    [roomBucket(id), id, name, description, history, owner.userId, owner.username, before, isPrivate],
  );
  return rows[0];
}

/** A room in a list. One schema for both lists of rooms: a union of two leaves generated clients without a type. */
export const listedRoomSchema = Type.Object(
  {
    ...roomSchema.properties,
    role: Type.Optional(Type.Enum(roleSchema.enum, { description: 'the role of the caller; only in the list with member=me' })),
  },
  { title: 'ListedRoom' },
);
export type OwnRoom = Room & { role: Role };

export interface RoomFilter {
  limit: number;
  /** Only rooms that are older than this one. */
  before?: Pick<Room, 'id' | 'created_at'>;
  /** Only rooms with this in their name, in whatever case. */
  nameContains?: string;
}

const page = `($1::timestamptz IS NULL OR (r.created_at, r.id) < ($1, $2::uuid)) AND ($3::text IS NULL OR r.name ILIKE $3)
      ORDER BY r.created_at DESC, r.id DESC LIMIT $4`;

const pageValues = ({ limit, before, nameContains }: RoomFilter): unknown[] => [
  before?.created_at,
  before?.id,
  nameContains === undefined ? undefined : `%${nameContains.replace(/[\\%_]/g, '\\$&')}%`,
  limit,
];

/** The rooms that a user sees, newest first, over all buckets: a page of the open ones and a page of the user's private ones, merged. */
export async function listRooms(db: Queryable, userId: string, filter: RoomFilter): Promise<Room[]> {
  const { rows } = await db.query<Room>(
    `SELECT * FROM (
        (SELECT ${roomColumns} FROM rooms AS r WHERE NOT r.private AND r.deleted_at IS NULL AND ${page})
        UNION ALL
        (SELECT ${roomColumns} FROM room_members AS m JOIN rooms AS r ON r.bucket = m.bucket AND r.id = m.room_id
         WHERE m.user_id = $5 AND r.private AND ${page})
      ) AS r ORDER BY created_at DESC, id DESC LIMIT $4`,
    [...pageValues(filter), userId],
  );
  return rows;
}

/** The rooms of a user, newest first. */
export async function listOwnRooms(db: Queryable, userId: string, filter: RoomFilter): Promise<OwnRoom[]> {
  const { rows } = await db.query<OwnRoom>(
    `SELECT ${roomColumns}, m.role FROM room_members AS m JOIN rooms AS r ON r.bucket = m.bucket AND r.id = m.room_id
      WHERE m.user_id = $5 AND ${page}`,
    [...pageValues(filter), userId],
  );
  return rows;
}
