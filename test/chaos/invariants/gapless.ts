import { place, type Event, type History, type Violation } from '../history.js';

/** I5: what a connection receives of a room goes up by exactly one from where its stream began, and from where it was told to resync. */
export function gapless({ events }: History): Violation[] {
  const streams = new Map<string, { seq: number; from: Event }>();
  return events.flatMap((event): Violation[] => {
    switch (event.type) {
      case 'joined':
        streams.set(place(event.conn, event.room), { seq: event.after ?? event.lastSeq, from: event });
        return [];
      case 'resync':
        streams.set(place(event.conn, event.room), { seq: event.lastSeq, from: event });
        return [];
      case 'receive': {
        const stream = streams.get(place(event.conn, event.room));
        streams.set(place(event.conn, event.room), { seq: event.seq, from: event });
        if (stream === undefined) return [{ invariant: 'I5', what: `seq ${event.seq} came without a stream`, witness: [event] }];
        if (event.seq === stream.seq + 1) return [];
        return [{ invariant: 'I5', what: `seq ${event.seq} came after ${stream.seq}`, witness: [stream.from, event] }];
      }
      default:
        return [];
    }
  });
}
