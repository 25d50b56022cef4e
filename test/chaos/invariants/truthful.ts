import { maybeLost, place, sendsOf, type History, type Receive, type Violation } from '../history.js';

/** I6: what was delivered is in the table at that seq, unless a fault lost it with its epoch; what was refused at every try is nowhere. */
export function truthful(history: History): Violation[] {
  const { tables, events } = history;
  const isMaybeLost = maybeLost(history);
  const stored = new Map<string, string>();
  for (const { room, seq, digest } of tables.messages) stored.set(place(room, seq), digest);
  for (const { room, seq, kind } of tables.events) stored.set(place(room, seq), `[${kind}]`);

  const received = events.filter((event): event is Receive => event.type === 'receive');
  const untrue = received
    .filter(({ room, seq, digest, epoch }) => !isMaybeLost(epoch) && stored.get(place(room, seq)) !== digest)
    .map((event): Violation => ({ invariant: 'I6', what: `what was delivered as seq ${event.seq} is not stored there`, witness: [event] }));

  const refused = new Map(sendsOf(history).flatMap((send) => (send.outcome?.type === 'fail' ? [[send.invoke.digest, send] as const] : [])));
  for (const { invoke, outcome } of sendsOf(history)) if (outcome?.type !== 'fail') refused.delete(invoke.digest);
  const seen = new Map(received.map((event) => [event.digest, event]));
  const inTable = new Map(tables.messages.map((row) => [row.digest, row]));
  const unkept = [...refused].flatMap(([digest, { invoke, outcome }]): Violation[] => {
    const row = inTable.get(digest);
    const event = seen.get(digest);
    if (outcome === undefined || (row === undefined && event === undefined)) return [];
    const what = `was refused, and ${row === undefined ? 'was delivered' : `is stored as seq ${row.seq}`}`;
    return [{ invariant: 'I6', what, witness: [invoke, outcome, ...(event === undefined ? [] : [event])] }];
  });
  return [...untrue, ...unkept];
}
