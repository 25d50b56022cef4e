import { acksOf, place, type History, type Invoke, type Ok, type Violation } from '../history.js';

/** I13: within an epoch a seq of a room is given once: to one key, whatever became of the row. */
export function givenOnce(history: History): Violation[] {
  const first = new Map<string, { invoke: Invoke; ok: Ok }>();
  return acksOf(history).flatMap(({ invoke, ok }): Violation[] => {
    const at = place(invoke.room, ok.seq, ok.epoch);
    const earlier = first.get(at);
    if (earlier === undefined) first.set(at, { invoke, ok });
    if (earlier === undefined || (earlier.invoke.key === invoke.key && earlier.invoke.user === invoke.user)) return [];
    return [{ invariant: 'I13', what: `seq ${ok.seq} was given twice`, witness: [earlier.invoke, earlier.ok, invoke, ok] }];
  });
}
