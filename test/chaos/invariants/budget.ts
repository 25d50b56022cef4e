import type { History, Violation } from '../history.js';

/** What may wait for one socket: its budget, and one flush of a room that was begun below it. */
const perSocketMaxBytes = 3 * 2 ** 20;

/** I11, of buffers: what waits for the sockets of a node is bounded, whatever they take. */
export const withinBudget = ({ events }: History): Violation[] =>
  events.flatMap((event): Violation[] => {
    if (event.type !== 'unsent' || event.bytes <= event.sockets * perSocketMaxBytes) return [];
    return [{ invariant: 'I11', what: `${event.node} held ${event.bytes} bytes for ${event.sockets} sockets`, witness: [event] }];
  });
