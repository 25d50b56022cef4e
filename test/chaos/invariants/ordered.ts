import { acksOf, place, sendsOf, type History, type Invoke, type Ok, type Violation } from '../history.js';

type Ack = { readonly invoke: Invoke; readonly ok: Ok };

/** I9: what was acked before a send began has a lower seq in its room. */
export function ordered(history: History): Violation[] {
  const acked = new Map(acksOf(history).map((ack) => [ack.invoke.op, ack]));
  const highest = new Map<string, Ack>();
  /** By key, what was acked before its first try began: a retry began later, but its message may be of the first. */
  const before = new Map<string, Ack | undefined>();
  return history.events.flatMap((event): Violation[] => {
    if (event.type === 'invoke') {
      const key = place(event.room, event.user, event.key);
      if (!before.has(key)) before.set(key, highest.get(event.room));
      return [];
    }
    const ack = event.type === 'ok' ? acked.get(event.op) : undefined;
    if (ack === undefined) return [];
    const { invoke, ok } = ack;
    const top = highest.get(invoke.room);
    if (top === undefined || top.ok.epoch !== ok.epoch || top.ok.seq < ok.seq) highest.set(invoke.room, ack);
    const earlier = before.get(place(invoke.room, invoke.user, invoke.key));
    if (earlier === undefined || earlier.ok.epoch !== ok.epoch || earlier.ok.seq < ok.seq) return [];
    if (earlier.invoke.key === invoke.key && earlier.invoke.user === invoke.user) return [];
    return [
      { invariant: 'I9', what: `seq ${earlier.ok.seq} was acked before the send of ${ok.seq} began`, witness: [earlier.ok, invoke, ok] },
    ];
  });
}

/** I10: what one connection sent to one room and was stored at that try has its seqs in the order of the sends. */
export function fifo(history: History): Violation[] {
  const last = new Map<string, Ack>();
  return sendsOf(history).flatMap(({ invoke, outcome }): Violation[] => {
    if (outcome?.type !== 'ok' || outcome.duplicate) return [];
    const at = place(invoke.conn, invoke.room);
    const earlier = last.get(at);
    last.set(at, { invoke, ok: outcome });
    if (earlier === undefined || earlier.ok.epoch !== outcome.epoch || earlier.ok.seq < outcome.seq) return [];
    return [
      {
        invariant: 'I10',
        what: `sent later and stored as ${outcome.seq}, below ${earlier.ok.seq}`,
        witness: [earlier.invoke, invoke, earlier.ok, outcome],
      },
    ];
  });
}
