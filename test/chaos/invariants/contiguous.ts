import type { History, Violation } from '../history.js';

/** I3: messages and events of a room together are 1..last_seq, each seq once. */
export function contiguous({ tables }: History): Violation[] {
  const seqs = new Map<string, number[]>(tables.rooms.map(({ room }) => [room, []]));
  for (const { room, seq } of [...tables.messages, ...tables.events]) seqs.get(room)?.push(seq);
  return tables.rooms.flatMap(({ room, lastSeq }): Violation[] => {
    const sorted = (seqs.get(room) ?? []).toSorted((a, b) => a - b);
    const at = sorted.findIndex((seq, n) => seq !== n + 1);
    if (at === -1 && sorted.length === lastSeq) return [];
    const what = at === -1 ? `ends at ${sorted.length}, but last_seq is ${lastSeq}` : `has ${sorted[at]} where ${at + 1} should be`;
    return [{ invariant: 'I3', what: `the log of ${room} ${what}`, witness: [] }];
  });
}
