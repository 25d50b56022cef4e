import { place, type Event, type History, type Violation } from '../history.js';
import { membershipAt, membershipsOf, type Membership } from './memberships.js';

/**
 * I7: a stream belongs to the membership that its user had at the seq at which it began, and brings nothing above that membership's end;
 * nor, where the room's history is `joined`, what was before its start.
 */
export function membersOnly({ events, tables }: History): Violation[] {
  const memberships = membershipsOf(tables);
  const shared = new Set(tables.rooms.filter(({ history }) => history === 'shared').map(({ room }) => room));
  const streams = new Map<string, { interval: Membership | undefined; from: Event }>();
  return events.flatMap((event): Violation[] => {
    // Of an epoch that is over, the tables no longer tell who was a member.
    if (!('epoch' in event) || event.epoch !== tables.epoch) return [];
    if (event.type === 'joined' || event.type === 'resync') {
      const interval = membershipAt(memberships, event);
      streams.set(place(event.conn, event.room), { interval, from: event });
      return [];
    }
    if (event.type !== 'receive') return [];
    const stream = streams.get(place(event.conn, event.room));
    const { interval } = stream ?? {};
    const from = interval !== undefined && shared.has(event.room) && event.via === 'history' ? 0 : interval?.from;
    if (interval !== undefined && from !== undefined && from <= event.seq && event.seq <= interval.to) return [];
    const held = interval === undefined ? 'no membership' : `the membership ${interval.from} to ${interval.to}`;
    return [
      {
        invariant: 'I7',
        what: `seq ${event.seq} came by ${event.via} on a stream of ${held}`,
        witness: [...(stream === undefined ? [] : [stream.from]), event],
      },
    ];
  });
}
