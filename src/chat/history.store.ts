import type { Queryable } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';
import type { Membership } from '../rooms/room.store.js';

/** Where in the log a page is: the newest messages below `before`, the oldest above `after`, or half a page on each side of `around`. */
export type Place = { readonly before: number } | { readonly after: number } | { readonly around: number };

export const newest: Place = { before: Number.MAX_SAFE_INTEGER };

export interface HistoryPage {
  /** Newest first, each the JSON text that PostgreSQL made of it: the same text that sockets receive. */
  messages: string[];
  /** The `before` of the next older page; null when there is nothing older. */
  nextCursor: number | null;
  /** The `after` of the next newer page; null when there is nothing newer. Not asked for, and undefined, on the way from new to old. */
  newerCursor?: number | null;
}

/**
 * Of the JSON of a page: 100 messages of 65,536 control characters, each escaped by 6 bytes, are 39 MB. A page has at least one message, which
 * has less.
 */
const historyPageMaxBytes = 1_048_576;
/** What a message has at most beside its name and its content. */
const entryBytes = 320;
/** A control character of one byte is \u0001 in JSON. */
const escapedBytes = 6;

/**
 * How many seqs a page looks through for messages of one author. There is no index by author, which would cost every insert: the primary key carries
 * the author, so that this takes some ms, and the next page goes on from there.
 */
const lookedThrough = 50_000;

/**
 * A page of a room's messages, newest first. It ends where the room's log is hidden from the member. A page of large messages has fewer than `limit`:
 * the cursors tell whether there is more.
 * @param authorId only messages of this user; then a page may have none, and a cursor to go on by
 */
export async function readHistory(
  db: Queryable,
  roomId: string,
  { hiddenTo, lastSeq }: Pick<Membership, 'hiddenTo' | 'lastSeq'>,
  limit: number,
  place: Place,
  authorId?: string,
): Promise<HistoryPage> {
  const read = (count: number, maxBytes: number, { from, to, isUp }: { from: number; to: number; isUp?: true }): Promise<Stretch> =>
    readStretch(db, { roomId, authorId, limit: count, maxBytes, ...lookThrough({ from, to }, isUp === true, authorId !== undefined) });
  // Not above the seq at which the user was a member: what came since may be above the end of the membership.
  const older = (before: number, count: number, maxBytes: number): Promise<Stretch> =>
    read(count, maxBytes, { from: hiddenTo + 1, to: Math.min(before - 1, lastSeq) });
  const newer = (from: number, count: number, maxBytes: number): Promise<Stretch> =>
    read(count, maxBytes, { from, to: lastSeq, isUp: true });

  if ('before' in place) {
    const { messages, goOn } = await older(place.before, limit, historyPageMaxBytes);
    return { messages, nextCursor: goOn };
  }
  const from = 'after' in place ? place.after + 1 : place.around;
  const olderLimit = 'after' in place ? 0 : Math.floor(limit / 2);
  const share = olderLimit === 0 ? historyPageMaxBytes : historyPageMaxBytes / 2;
  const [below, above] = await Promise.all([
    older(from, olderLimit, share),
    newer(Math.max(from, hiddenTo + 1), limit - olderLimit, share),
  ]);
  return { messages: [...above.messages.toReversed(), ...below.messages], nextCursor: below.goOn, newerCursor: above.goOn };
}

/** Messages in the order of the reading. */
interface Stretch {
  messages: string[];
  /** The exclusive seq from which to read on; null at the end. */
  goOn: number | null;
}

/** The seqs that are read, both inclusive. */
interface Range {
  readonly from: number;
  readonly to: number;
}

interface Reading extends Range {
  readonly roomId: string;
  readonly authorId: string | undefined;
  readonly isUp: boolean;
  readonly limit: number;
  readonly maxBytes: number;
  /** The exclusive seq from which to read on where the range has no more messages; null where the log has no more. */
  readonly lookedTo: number | null;
}

/** The part of a range that one page reads. */
function lookThrough({ from, to }: Range, isUp: boolean, isByAuthor: boolean): Range & Pick<Reading, 'isUp' | 'lookedTo'> {
  const isPart = isByAuthor && to - from >= lookedThrough;
  if (!isPart) return { from, to, isUp, lookedTo: null };
  return isUp
    ? { from, to: from + lookedThrough - 1, isUp, lookedTo: from + lookedThrough - 1 }
    : { from: to - lookedThrough + 1, to, isUp, lookedTo: to - lookedThrough + 1 };
}

async function readStretch(db: Queryable, { roomId, authorId, isUp, from, to, limit, maxBytes, lookedTo }: Reading): Promise<Stretch> {
  const { rows } = await db.query<{ seq: number; json: string | null }>({
    name: `read-history${isUp ? '-newer' : ''}${authorId === undefined ? '' : '-by'}`,
    text: historyText(isUp ? 'ASC' : 'DESC', authorId !== undefined),
    values: [roomBucket(roomId), roomId, from, to, limit + 1, maxBytes, ...(authorId === undefined ? [] : [authorId])],
  });
  const messages: { seq: number; json: string }[] = [];
  let found = 0;
  for (const { seq, json } of rows) {
    if (json === null) found = seq;
    else messages.push({ seq, json });
  }
  messages.sort((a, b) => (isUp ? a.seq - b.seq : b.seq - a.seq));
  const goOn = found > messages.length ? (messages.at(-1)?.seq ?? (isUp ? from - 1 : to + 1)) : lookedTo;
  return { messages: messages.map(({ json }) => json), goOn };
}

/**
 * A page ends by its size too. The length of a text stands in its header: messages that fit however they are written are taken at once (`sure`). Of
 * the others, each is written out and counted (`more`) until one does not fit: no more than that one is read from its place in vain.
 * One more message than the page may have is looked for; a last row without JSON has the number of those found, as its seq.
 */
const historyText = (order: 'ASC' | 'DESC', isByAuthor: boolean): string => `
  WITH RECURSIVE found AS MATERIALIZED (
    SELECT f.*, row_number() OVER log AS n,
      sum(${escapedBytes} * (octet_length(f.content) + octet_length(f.username)) + ${entryBytes}) OVER log AS bytes_at_most
    FROM (${isByAuthor ? foundBy(order) : foundOfAll(order)}) AS f
    WINDOW log AS (ORDER BY f.seq ${order} ROWS UNBOUNDED PRECEDING)
  ), sure AS MATERIALIZED (
    SELECT f.n, f.seq, ${jsonOf('f')} AS json FROM found AS f WHERE (f.n = 1 OR f.bytes_at_most <= $6) AND f.n < $5
  ), more AS (
    SELECT max(n) AS n, sum(octet_length(json)) AS bytes, NULL::bigint AS seq, NULL::text AS json FROM sure
    UNION ALL
    SELECT f.n, m.bytes + octet_length(one.json), f.seq, one.json
    FROM more AS m JOIN found AS f ON f.n = m.n + 1 CROSS JOIN LATERAL (SELECT ${jsonOf('f')} AS json OFFSET 0) AS one
    WHERE f.n < $5 AND m.bytes + octet_length(one.json) <= $6
  )
  SELECT seq, json FROM sure
  UNION ALL
  SELECT seq, json FROM more WHERE json IS NOT NULL
  UNION ALL
  SELECT count(*), NULL FROM found`;

const jsonOf = (row: string): string =>
  `message_json($2, ${row}.seq, ${row}.id, ${row}.user_id, ${row}.username, ${row}.content, ${row}.client_msg_id, ${row}.created_at)`;

const columns = 'seq, id, user_id, username, content, client_msg_id, created_at';

const foundOfAll = (order: 'ASC' | 'DESC'): string =>
  `SELECT ${columns} FROM messages WHERE bucket = $1 AND room_id = $2 AND seq BETWEEN $3 AND $4 ORDER BY seq ${order} LIMIT $5`;

/** Found in the index alone, and only what was found is read from the table. */
const foundBy = (order: 'ASC' | 'DESC'): string =>
  `SELECT m.* FROM (
      SELECT seq FROM messages WHERE bucket = $1 AND room_id = $2 AND user_id = $7 AND seq BETWEEN $3 AND $4 ORDER BY seq ${order} LIMIT $5
    ) AS found
    CROSS JOIN LATERAL (SELECT ${columns} FROM messages WHERE bucket = $1 AND room_id = $2 AND seq = found.seq LIMIT 1) AS m`;
