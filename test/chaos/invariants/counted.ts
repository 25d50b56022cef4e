import type { Alarms, Counted, Fault, History, Invariant, Violation } from '../history.js';

const meanings: Readonly<Record<keyof Alarms, { invariant: Invariant; what: string; isRight?: (fault: Fault) => boolean }>> = {
  streamFaults: { invariant: 'I5', what: 'streams out of order' },
  logHoles: { invariant: 'I3', what: 'holes in logs', isRight: ({ makesHoles }) => makesHoles === true },
  unknownSends: { invariant: 'I12', what: 'sends of unknown end', isRight: ({ leavesDoubt }) => leavesDoubt === true },
};

/** What a node counts because it must never happen, did not happen but where the fault was just that; though no client may have noticed. */
export function counted({ events }: Pick<History, 'events'>): Violation[] {
  const faults = events.filter((event): event is Fault => event.type === 'fault');
  const before = new Map<string, Counted>();
  return events.flatMap((event): Violation[] => {
    if (event.type !== 'counted') return [];
    const { node, phase, alarms } = event;
    if (phase === 'before') before.set(node, event);
    const start = before.get(node);
    if (phase === 'before' || start === undefined) return [];
    return (Object.keys(meanings) as (keyof Alarms)[]).flatMap((of) => {
      const { invariant, what, isRight } = meanings[of];
      const more = alarms[of] - start.alarms[of];
      if (more === 0 || (isRight !== undefined && faults.some(isRight))) return [];
      return [{ invariant, what: `${node} counted ${more} ${what}`, witness: [start, event] }];
    });
  });
}
