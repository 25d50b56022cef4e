/** The one place that inserts messages. The statement is a function in the database: migrations/0004_circle.sql says why. */
import type { Database } from '../database/database.js';
import { roomBucket } from '../database/bucket.js';

export interface NewMessage {
  readonly roomId: string;
  readonly userId: string;
  readonly content: string;
  readonly clientMsgId?: string | undefined;
}

/** What became of one item of a batch. `at` is in ms since 1970. */
export type Outcome =
  | { readonly status: 'stored' | 'duplicate'; readonly seq: number; readonly id: number; readonly at: number }
  | { readonly status: 'conflict'; readonly seq: number }
  | { readonly status: 'not_a_member' | 'no_such_room' };

interface AppendRow {
  status: ('s' | 'd' | 'c' | 'm' | 'r')[];
  seq: (number | null)[];
  id: (number | null)[];
  created_at_ms: number[];
}

/**
 * Stores a batch in one transaction and one round trip; resolves after the commit with one outcome for each message, in order. Messages of one
 * room get their seqs in the order of the batch. No two may have the same room, sender and client_msg_id.
 * @throws the raw error of pg: the whole batch is then not stored, or (no answer came) unknown.
 */
export async function appendMessages(db: Database, batch: readonly NewMessage[]): Promise<Outcome[]> {
  const places = new Map<string, number>();
  const itemRooms = batch.map(({ roomId }) => {
    const place = places.get(roomId) ?? places.size + 1;
    places.set(roomId, place);
    return place;
  });
  const { rows } = await db.write<AppendRow>({
    name: 'append_messages',
    text: 'SELECT status, seq, id, created_at_ms FROM append_messages($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::uuid[])',
    values: [
      [...places.keys()],
      itemRooms,
      batch.map(({ userId }) => userId),
      batch.map(({ content }) => content),
      batch.map(({ clientMsgId }) => clientMsgId ?? null),
    ],
  });
  const [row] = rows;
  if (row === undefined) throw new Error('append_messages returned no row');
  return batch.map((_, n) => outcome(row, n));
}

function outcome(row: AppendRow, n: number): Outcome {
  const status = row.status[n];
  const seq = row.seq[n] ?? 0;
  switch (status) {
    case 's':
    case 'd':
      return { status: status === 's' ? 'stored' : 'duplicate', seq, id: row.id[n] ?? 0, at: row.created_at_ms[n] ?? 0 };
    case 'c':
      return { status: 'conflict', seq };
    case 'm':
      return { status: 'not_a_member' };
    case 'r':
      return { status: 'no_such_room' };
    default:
      throw new Error(`append_messages returned ${status} for item ${n}`);
  }
}

/** Lane of a room: rooms of one bucket share a lane, so that a lane can one day belong to the server of its buckets. */
export const laneOf = (roomId: string, lanes: number): number => roomBucket(roomId) % lanes;
