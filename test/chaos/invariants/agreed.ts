import { place, type History, type Receive, type Violation } from '../history.js';

/** I4: within an epoch, all who saw a seq of a room saw the same there. */
export function agreed({ events }: History): Violation[] {
  const first = new Map<string, Receive>();
  return events.flatMap((event): Violation[] => {
    if (event.type !== 'receive') return [];
    const at = place(event.room, event.seq, event.epoch);
    const earlier = first.get(at);
    if (earlier === undefined) first.set(at, event);
    if (earlier === undefined || earlier.digest === event.digest) return [];
    return [{ invariant: 'I4', what: `seq ${event.seq} has two bodies`, witness: [earlier, event] }];
  });
}
