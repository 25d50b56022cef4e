/** Protections that are in the database: taken out of its functions, and put back. */
import type pg from 'pg';

type Edit = readonly [pattern: RegExp, by: string];

/** @returns what puts the function back */
async function rewrite(sql: pg.Pool, name: string, edits: readonly Edit[]): Promise<() => Promise<unknown>> {
  const { rows } = await sql.query<{ text: string }>('SELECT pg_get_functiondef($1::regproc) AS text', [name]);
  const text = rows[0]?.text ?? '';
  const edited = edits.reduce((before, [pattern, by]) => {
    const after = before.replace(pattern, () => by);
    if (after === before) throw new Error(`${name} has nothing like ${pattern} any more`);
    return after;
  }, text);
  await sql.query(edited);
  return () => sql.query(text);
}

const beforeTheLock = (declaration: string, statement: string): Edit[] => [
  [/\bDECLARE\s/, `DECLARE ${declaration};\n`],
  [/\bBEGIN\s/, `BEGIN ${statement};\n`],
];
const items = 'unnest(item_rooms, user_ids, client_msg_ids) WITH ORDINALITY AS u (place, user_id, client_msg_id, n)';
const members = 'unnest(member_rooms, member_ids) WITH ORDINALITY AS u (place, user_id, n)';
const earlierFrom = /FROM public\.messages AS em\s+WHERE\s/;

/** No send is recognised as one that was stored before. */
export const withoutIdempotency = (sql: pg.Pool): Promise<() => Promise<unknown>> =>
  rewrite(sql, 'append_messages', [[earlierFrom, 'FROM public.messages AS em WHERE false AND ']]);

/** Whether a send was stored before is read first, and then the room is locked. */
export const readingBeforeLock = (sql: pg.Pool): Promise<() => Promise<unknown>> =>
  rewrite(sql, 'append_messages', [
    ...beforeTheLock(
      'was_there boolean[]',
      `SELECT array_agg(EXISTS (SELECT FROM public.messages AS m WHERE m.bucket = public.room_bucket(room_ids[u.place]) AND m.room_id = room_ids[u.place]
         AND m.user_id = u.user_id AND m.client_msg_id = u.client_msg_id) ORDER BY u.n) INTO was_there FROM ${items}`,
    ),
    [earlierFrom, 'FROM public.messages AS em WHERE was_there[i.n] AND '],
  ]);

/** Who is a member is read first, and then the room is locked. Each batch is stored first, also after retries, when it would be judged at once. */
export async function membersBeforeLock(sql: pg.Pool): Promise<() => Promise<unknown>> {
  const judgeAtOnce = await rewrite(sql, 'append_batch', [[/NOT retries_likely/, 'true']]);
  const lockFirst = await rewrite(sql, 'append_new', [
    ...beforeTheLock(
      'old_names text[]',
      `SELECT array_agg((SELECT m.username FROM public.room_members AS m WHERE m.bucket = public.room_bucket(room_ids[u.place]) AND m.room_id = room_ids[u.place]
         AND m.user_id = u.user_id) ORDER BY u.n) INTO old_names FROM ${members}`,
    ),
    [/SELECT rm\.username FROM public\.room_members AS rm\s+WHERE [^)]*(?=\))/, 'SELECT old_names[u.n]'],
  ]);
  const loneLocksFirst = await rewrite(sql, 'append_lone', [
    ...beforeTheLock(
      'old_name text',
      `SELECT m.username INTO old_name FROM public.room_members AS m WHERE m.bucket = public.room_bucket(to_room) AND m.room_id = to_room AND m.user_id = sender`,
    ),
    [/SELECT rm\.username INTO name [^;]*/, 'name := old_name'],
  ]);
  return async () => {
    await loneLocksFirst();
    await lockFirst();
    await judgeAtOnce();
  };
}

/**
 * The index that would refuse a second row of a key, whoever tries; and so each batch is judged at once. It is put back on empty tables: what was
 * stored meanwhile may not fit it.
 */
export async function withoutKeyIndex(sql: pg.Pool): Promise<() => Promise<unknown>> {
  const storeFirst = await rewrite(sql, 'append_batch', [[/NOT retries_likely/, 'false']]);
  // Before it has locked the room itself.
  const loneFirst = await rewrite(sql, 'append_lone', [
    [
      /\bBEGIN\s/,
      `BEGIN
       SELECT json_build_object('status', a.status, 'seq', a.seq, 'id', a.id, 'created_at_ms', a.created_at_ms) INTO judged
       FROM public.append_messages(ARRAY[to_room], ARRAY[1], ARRAY[sender], ARRAY[body], ARRAY[key]) AS a;
       RETURN;
`,
    ],
  ]);
  const { rows } = await sql.query<{ text: string }>("SELECT pg_get_indexdef('messages_client_msg_id_key'::regclass) AS text");
  await sql.query('DROP INDEX messages_client_msg_id_key');
  return async () => {
    await sql.query(`BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM messages; COMMIT; ${rows[0]?.text}`);
    await loneFirst();
    await storeFirst();
  };
}
