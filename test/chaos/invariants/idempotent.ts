import { acksOf, place, type History, type Invoke, type Ok, type Violation } from '../history.js';

/** I2: one row at most for a sender's key in a room, and every answer to the key is that row's. */
export function idempotent(history: History): Violation[] {
  const violations: Violation[] = [];
  const rows = new Map<string, number>();
  for (const { room, user, key, seq } of history.tables.messages) {
    if (key === null) continue;
    const at = place(room, user, key);
    const earlier = rows.get(at);
    if (earlier !== undefined) violations.push({ invariant: 'I2', what: `key ${key} stands at seq ${earlier} and ${seq}`, witness: [] });
    rows.set(at, seq);
  }
  const answers = new Map<string, { invoke: Invoke; ok: Ok }>();
  for (const { invoke, ok } of acksOf(history)) {
    const at = place(invoke.room, invoke.user, invoke.key, ok.epoch);
    const first = answers.get(at);
    if (first === undefined) answers.set(at, { invoke, ok });
    else if (first.ok.seq !== ok.seq || first.ok.id !== ok.id) {
      violations.push({
        invariant: 'I2',
        what: `key ${invoke.key} was answered with seq ${first.ok.seq} and ${ok.seq}`,
        witness: [first.invoke, first.ok, invoke, ok],
      });
    }
  }
  return violations;
}
