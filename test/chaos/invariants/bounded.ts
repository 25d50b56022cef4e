import type { History, Resources, Rest, Violation } from '../history.js';

/** How much more than before a node may hold when it is at rest again. */
const tolerance: Readonly<Record<keyof Resources, number>> = {
  connections: 0,
  followedRooms: 0,
  queuedSends: 0,
  busyPoolClients: 0,
  poolWaiters: 0,
  descriptors: 2,
  timers: 4,
  memoryMiB: 16,
};

/** I11: what a node held of anything before, it holds again when its clients are gone and it had its rest. */
export function bounded({ events }: Pick<History, 'events'>): Violation[] {
  const before = new Map<string, Rest>();
  return events.flatMap((event): Violation[] => {
    if (event.type !== 'rest') return [];
    const { node, phase, resources } = event;
    if (phase === 'before') before.set(node, event);
    const start = before.get(node);
    if (phase === 'before' || start === undefined) return [];
    const more = (Object.keys(tolerance) as (keyof Resources)[]).filter((of) => resources[of] > start.resources[of] + tolerance[of]);
    return more.map((of) => ({
      invariant: 'I11',
      what: `${node} held ${start.resources[of]} ${of} before, and ${resources[of]} after its rest`,
      witness: [start, event],
    }));
  });
}
