import { place, type Event, type Head, type History, type Violation } from '../history.js';
import { membershipAt, membershipsOf } from './memberships.js';

interface Stream {
  readonly conn: number;
  readonly room: string;
  /** The seq at which its membership ended. */
  readonly end: number;
  readonly epoch: string;
  seq: number;
  last: Event;
}

const deadlineMs = 2_000;

/**
 * I8: once all is healed, every stream that is open reaches the room's last seq, or the end of its membership, within 2 s. I13: by then it is of the
 * tables' epoch: where that changed, the stream was begun anew.
 */
export function live({ events, tables }: History): Violation[] {
  const memberships = membershipsOf(tables);
  const streams = new Map<string, Stream>();
  const due: { head: Head; stream: Stream; key: string }[] = [];
  const violations: Violation[] = [];
  let firstDue = 0;

  /** Those whose time is over by `now` must have got there. */
  const judge = (now: number) => {
    for (let next = due[firstDue]; next !== undefined && next.head.at + deadlineMs < now; next = due[++firstDue]) {
      const { head, stream, key } = next;
      if (streams.get(key) !== stream) continue; // closed or begun anew: not this stream's to reach
      if (stream.epoch !== tables.epoch && stream.seq < stream.end) {
        const what = `a stream was of epoch ${stream.epoch} when ${deadlineMs} ms were over, and the database of ${tables.epoch}`;
        violations.push({ invariant: 'I13', what, witness: [stream.last, head] });
      }
      if (stream.seq >= Math.min(head.seq, stream.end)) continue;
      violations.push({
        invariant: 'I8',
        what: `a stream was at ${stream.seq} when ${deadlineMs} ms were over, and the room at ${head.seq}`,
        witness: [stream.last, head],
      });
    }
  };

  for (const event of events) {
    judge(event.at);
    switch (event.type) {
      case 'joined':
      case 'resync': {
        const { conn, room, epoch } = event;
        const seq = event.type === 'joined' ? (event.after ?? event.lastSeq) : event.lastSeq;
        const end = membershipAt(memberships, event)?.to ?? Number.POSITIVE_INFINITY;
        streams.set(place(conn, room), { conn, room, end, epoch, seq, last: event });
        break;
      }
      case 'receive': {
        const stream = streams.get(place(event.conn, event.room));
        if (stream !== undefined) {
          stream.seq = event.seq;
          stream.last = event;
        }
        break;
      }
      case 'left':
        streams.delete(place(event.conn, event.room));
        break;
      case 'close':
        for (const [key, { conn }] of streams) if (conn === event.conn) streams.delete(key);
        break;
      case 'head':
        for (const [key, stream] of streams) if (stream.room === event.room) due.push({ head: event, stream, key });
        break;
      default:
    }
  }
  judge(Number.POSITIVE_INFINITY);
  return violations;
}
