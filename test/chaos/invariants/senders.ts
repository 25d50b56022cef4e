import { place, type History, type Violation } from '../history.js';
import { membershipsOf } from './memberships.js';

/** I7, of the other side: whoever sent the message of a seq was a member at that seq. */
export function sentByMembers({ tables }: History): Violation[] {
  const memberships = membershipsOf(tables);
  return tables.messages.flatMap(({ room, user, seq }): Violation[] => {
    const intervals = memberships.get(place(room, user)) ?? [];
    if (intervals.some(({ from, to }) => from < seq && seq < to)) return [];
    return [{ invariant: 'I7', what: `seq ${seq} of ${room} is of ${user}, who was no member then`, witness: [] }];
  });
}
