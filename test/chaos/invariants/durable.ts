import { acksOf, maybeLost, place, type History, type StoredMessage, type Violation } from '../history.js';

/** I1: a send that was acked is in the table exactly once, with that seq, id and body. What a fault may have lost, with its epoch, is not missed. */
export function durable(history: History): Violation[] {
  const { tables } = history;
  const isMaybeLost = maybeLost(history);
  const byBody = new Map<string, StoredMessage[]>();
  for (const row of tables.messages) byBody.set(row.digest, [...(byBody.get(row.digest) ?? []), row]);

  return acksOf(history).flatMap(({ invoke, ok }): Violation[] => {
    const rows = (byBody.get(invoke.digest) ?? []).filter(({ room }) => room === invoke.room);
    const found = rows.map(({ seq, id }) => place(seq, id)).join(', ');
    if (rows.length === 1 && found === place(ok.seq, ok.id)) return [];
    if (rows.length === 0 && isMaybeLost(ok.epoch)) return [];
    return [{ invariant: 'I1', what: `acked as ${place(ok.seq, ok.id)}, stored as ${found || 'nothing'}`, witness: [invoke, ok] }];
  });
}
