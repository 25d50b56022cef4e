import { place, type History } from '../history.js';

/** From the seq of the join to the seq of its end. */
export interface Membership {
  readonly from: number;
  to: number;
}

type Memberships = ReadonlyMap<string, readonly Membership[]>;

const ends = new Set(['left', 'kicked', 'banned']);

/** By room and user, ascending. */
export function membershipsOf({ rooms, events }: History['tables']): Memberships {
  const memberships = new Map<string, Membership[]>();
  for (const { room, owner } of rooms) memberships.set(place(room, owner), [{ from: 0, to: Number.POSITIVE_INFINITY }]);
  for (const { room, user, kind, seq } of events.toSorted((a, b) => a.seq - b.seq)) {
    if (user === null) continue;
    const intervals = memberships.get(place(room, user)) ?? [];
    memberships.set(place(room, user), intervals);
    const last = intervals.at(-1);
    if (kind === 'joined') intervals.push({ from: seq, to: Number.POSITIVE_INFINITY });
    else if (ends.has(kind) && last !== undefined && last.to === Number.POSITIVE_INFINITY) last.to = seq;
  }
  return memberships;
}

/** The membership that a stream is of: the one that its user had at the seq at which it began. */
export const membershipAt = (
  memberships: Memberships,
  { room, user, lastSeq }: { room: string; user: string; lastSeq: number },
): Membership | undefined => memberships.get(place(room, user))?.find(({ from, to }) => from <= lastSeq && lastSeq < to);
