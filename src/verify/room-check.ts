/**
 * Whether a room's tables are as the write path leaves them, whoever wrote to them since: asked of one snapshot, so that a room in use is judged like one
 * at rest. Reads by the primary keys alone, so that a damaged index of client_msg_id hides nothing.
 */
import type pg from 'pg';
import { roomBucket } from '../database/bucket.js';

export interface RoomRow {
  readonly id: string;
  readonly lastSeq: number;
  readonly createdBy: string;
  readonly isDeleted: boolean;
}

export interface RoomReport {
  /** Messages and events. */
  readonly entries: number;
  /** A sentence for each thing that is wrong. */
  readonly problems: string[];
}

/** From the seq of a join to the seq of its end. */
interface Interval {
  readonly from: number;
  readonly to: number;
}

interface EventRow {
  readonly seq: number;
  readonly kind: string;
  readonly userId: string | null;
}

/** A page of rooms in the order of their keys, after the given one. */
export async function roomsAfter(db: pg.ClientBase, after: string | undefined, limit: number): Promise<RoomRow[]> {
  const { rows } = await db.query<RoomRow>(
    `SELECT id, last_seq AS "lastSeq", created_by AS "createdBy", deleted_at IS NOT NULL AS "isDeleted" FROM rooms
     WHERE $1::uuid IS NULL OR (bucket, id) > ($2, $1) ORDER BY bucket, id LIMIT $3`,
    [after ?? null, after === undefined ? null : roomBucket(after), limit],
  );
  return rows;
}

export async function findRoom(db: pg.ClientBase, id: string): Promise<RoomRow | undefined> {
  const { rows } = await db.query<RoomRow>(
    'SELECT id, last_seq AS "lastSeq", created_by AS "createdBy", deleted_at IS NOT NULL AS "isDeleted" FROM rooms WHERE bucket = $1 AND id = $2',
    [roomBucket(id), id],
  );
  return rows[0];
}

/** The room has to be of the same snapshot as the rest: call it within a transaction that is REPEATABLE READ. */
export async function checkRoom(db: pg.ClientBase, room: RoomRow): Promise<RoomReport> {
  const key = [roomBucket(room.id), room.id];
  const log = await db.query<{ entries: number; seq: number | null; place: number | null }>(
    `WITH log AS (
       SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM (
         SELECT seq FROM messages WHERE bucket = $1 AND room_id = $2
         UNION ALL SELECT seq FROM room_events WHERE bucket = $1 AND room_id = $2
       ) AS s
     )
     SELECT n.entries::int, wrong.seq, wrong.place FROM (SELECT count(*) AS entries FROM log) AS n
     LEFT JOIN LATERAL (SELECT seq, place FROM log WHERE seq <> place ORDER BY place LIMIT 1) AS wrong ON true`,
    key,
  );
  const doubled = await db.query<{ userId: string; clientMsgId: string; seqs: number[] }>(
    `SELECT user_id AS "userId", client_msg_id AS "clientMsgId", array_agg(seq ORDER BY seq)::int[] AS seqs FROM messages
     WHERE bucket = $1 AND room_id = $2 AND client_msg_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`,
    key,
  );
  const { rows: events } = await db.query<EventRow>(
    'SELECT seq, kind, user_id AS "userId" FROM room_events WHERE bucket = $1 AND room_id = $2 ORDER BY seq',
    key,
  );
  const { rows: members } = await db.query<{ userId: string; role: string; joinedSeq: number }>(
    'SELECT user_id AS "userId", role, joined_seq AS "joinedSeq" FROM room_members WHERE bucket = $1 AND room_id = $2',
    key,
  );
  const { rows: senders } = await db.query<{ userId: string }>(
    'SELECT DISTINCT user_id AS "userId" FROM messages WHERE bucket = $1 AND room_id = $2',
    key,
  );

  const { intervals, problems } = membershipsOf(room, events);
  const entries = log.rows[0]?.entries ?? 0;
  const { seq, place } = log.rows[0] ?? {};
  if (typeof seq === 'number') problems.push(`the log has seq ${seq} where ${place} should be`);
  if (entries !== room.lastSeq) problems.push(`last_seq is ${room.lastSeq}, and the log has ${entries} entries`);
  for (const { userId, clientMsgId, seqs } of doubled.rows)
    problems.push(`client_msg_id ${clientMsgId} of user ${userId} stands at seq ${seqs.join(' and ')}`);
  problems.push(...membersProblems(room, intervals, members));
  problems.push(...(await strangersProblems(db, key, room, intervals, senders)));
  return { entries, problems };
}

/** Who was a member when, by the events alone. */
function membershipsOf(room: RoomRow, events: readonly EventRow[]): { intervals: Map<string, Interval[]>; problems: string[] } {
  const intervals = new Map<string, Interval[]>();
  const open = new Map<string, number>([[room.createdBy, 0]]);
  const problems: string[] = [];
  const end = (userId: string, seq: number) => {
    intervals.set(userId, [...(intervals.get(userId) ?? []), { from: open.get(userId) ?? 0, to: seq }]);
    open.delete(userId);
  };
  for (const { seq, kind, userId } of events) {
    if (kind === 'deleted') for (const member of open.keys()) end(member, seq);
    if (userId === null) continue;
    if (kind === 'joined') {
      if (open.has(userId)) problems.push(`user ${userId} joined at seq ${seq}, and was a member since ${open.get(userId)}`);
      else open.set(userId, seq);
    } else if (open.has(userId) && (kind === 'left' || kind === 'kicked' || kind === 'banned')) end(userId, seq);
    else if (kind === 'left' || kind === 'kicked')
      problems.push(`user ${userId} ${kind === 'left' ? 'left' : 'was kicked'} at seq ${seq}, and was no member`);
  }
  for (const userId of open.keys()) end(userId, Number.POSITIVE_INFINITY);
  return { intervals, problems };
}

function membersProblems(
  room: RoomRow,
  intervals: ReadonlyMap<string, readonly Interval[]>,
  members: readonly { userId: string; role: string; joinedSeq: number }[],
): string[] {
  const problems: string[] = [];
  const current = new Map(
    [...intervals].flatMap(([userId, list]) => list.filter(({ to }) => to === Number.POSITIVE_INFINITY).map(({ from }) => [userId, from])),
  );
  for (const { userId, joinedSeq } of members) {
    const from = current.get(userId);
    if (from === undefined) problems.push(`user ${userId} is a member, and by the events it is none`);
    else if (from !== joinedSeq) problems.push(`user ${userId} is a member since seq ${joinedSeq}, and by the events since ${from}`);
    current.delete(userId);
  }
  for (const userId of current.keys()) problems.push(`user ${userId} is no member, and by the events it is one`);
  const owners = members.filter(({ role }) => role === 'owner').length;
  if (members.length > 0 && owners !== 1) problems.push(`the room has ${owners} owners`);
  if (room.isDeleted && members.length > 0) problems.push(`the room is deleted and has ${members.length} members`);
  return problems;
}

/** Messages of users who were no members at their seq. */
async function strangersProblems(
  db: pg.ClientBase,
  key: readonly unknown[],
  { lastSeq }: RoomRow,
  intervals: ReadonlyMap<string, readonly Interval[]>,
  senders: readonly { userId: string }[],
): Promise<string[]> {
  const gaps = senders.flatMap(({ userId }) => {
    const ends = [{ from: 0, to: -1 }, ...(intervals.get(userId) ?? []), { from: lastSeq + 1, to: 0 }];
    return ends
      .slice(1)
      .map(({ from }, n) => ({ userId, after: ends[n]?.to ?? 0, before: from }))
      .filter(({ after, before }) => before - after > 1);
  });
  if (gaps.length === 0) return [];
  const { rows } = await db.query<{ userId: string; seq: number; count: number }>(
    `SELECT g.user_id AS "userId", min(m.seq) AS seq, count(*)::int FROM unnest($3::uuid[], $4::float8[], $5::float8[]) AS g (user_id, after, before)
     JOIN messages AS m ON m.bucket = $1 AND m.room_id = $2 AND m.user_id = g.user_id AND m.seq > g.after AND m.seq < g.before GROUP BY 1`,
    [...key, gaps.map(({ userId }) => userId), gaps.map(({ after }) => after), gaps.map(({ before }) => before)],
  );
  return rows.map(
    ({ userId, seq, count }) => `user ${userId} was no member when it sent seq ${seq}${count > 1 ? ` and ${count - 1} more` : ''}`,
  );
}
