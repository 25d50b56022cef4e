import fc from 'fast-check';
import type { LogEntry } from './payload.js';
import { RoomLog } from './room-log.js';

const entry = (seq: number): LogEntry => ({ seq, json: `{"seq":${seq}}` });
const entries = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => entry(from + n));

describe('the log of a room', () => {
  it('passes entries on in order, each once, whatever is doubled, lost or reordered on the way, when what is missing is read', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 50 }), fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 200 }), (head, arrivals) => {
        const room = new RoomLog('room');
        const passedOn: number[] = [];
        for (const seq of arrivals.slice(0, 3)) room.take(entry(head + seq)); // before the head is known: noted, not passed on
        expect(room.lastSeq).toBe(0);
        room.open(head);
        for (const offset of arrivals) {
          if (room.take(entry(head + offset))) passedOn.push(head + offset);
          // What a repair does, at any moment at which it may come.
          if (offset % 3 === 0)
            for (const missing of entries(room.lastSeq + 1, room.knownSeq)) if (room.take(missing)) passedOn.push(missing.seq);
        }
        for (const missing of entries(room.lastSeq + 1, room.knownSeq)) if (room.take(missing)) passedOn.push(missing.seq);
        const known = Math.max(0, ...arrivals);
        expect(passedOn).toEqual(entries(head + 1, head + known).map(({ seq }) => seq));
        expect(room.isBehind).toBe(false);
      }),
    );
  });

  it('gives what is after a seq from memory, all or nothing', () => {
    const room = new RoomLog('room');
    room.open(10);
    for (const one of entries(11, 20)) room.take(one);
    expect(room.since(20)).toEqual([]);
    expect(room.since(99)).toEqual([]);
    expect(room.since(10)).toEqual(entries(11, 20));
    expect(room.since(15)).toEqual(entries(16, 20));
    expect(room.since(9)).toBeUndefined();
  });

  it('remembers a bounded number of entries and of characters', () => {
    const room = new RoomLog('room');
    room.open(0);
    for (const one of entries(1, 10_000)) room.take(one);
    expect(room.since(9_500)).toHaveLength(500);
    expect(room.since(7_000)).toBeUndefined();
    for (let seq = 10_001; seq < 10_050; seq++) room.take({ seq, json: 'x'.repeat(100_000) });
    expect(room.since(10_047)).toHaveLength(2);
    expect(room.since(10_030)).toBeUndefined();
  });

  it('remembers what was read from the table where it goes before the rest without a gap, and never more than it may', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 1_500 }),
        fc.integer({ min: 0, max: 60 }),
        fc.array(fc.record({ from: fc.integer({ min: 1, max: 1_500 }), length: fc.integer({ min: 0, max: 700 }), hole: fc.nat() }), {
          maxLength: 8,
        }),
        fc.constantFrom(10, 300, 2_000),
        (head, live, pages, chars) => {
          const room = new RoomLog('room');
          const padded = (from: number, to: number) => entries(from, to).map(({ seq }) => ({ seq, json: `${seq}`.padEnd(chars) }));
          room.open(head);
          for (const one of padded(head + 1, head + live)) room.take(one);
          for (const { from, length, hole } of pages) {
            const page = padded(from, from + length - 1);
            room.remember(hole % 3 === 0 ? page.filter((_, n) => n !== hole % length) : page);
          }
          const first = padded(0, room.lastSeq).findIndex(({ seq }) => room.since(seq) !== undefined);
          const known = room.since(first) ?? [];
          expect(known).toEqual(padded(first + 1, room.lastSeq));
          expect(known.length).toBeLessThanOrEqual(1_000);
          expect(known.length * chars).toBeLessThanOrEqual(262_144);
        },
      ),
    );
    const room = new RoomLog('room');
    room.remember(entries(1, 5)); // of a log whose head is not known
    room.open(10);
    expect(room.since(0)).toBeUndefined();
    room.remember(entries(3, 9));
    expect(room.since(8)).toBeUndefined();
    room.remember(entries(8, 12));
    expect(room.since(7)).toEqual(entries(8, 10));
    room.remember(entries(2, 9));
    expect(room.since(1)).toEqual(entries(2, 10));
  });

  it('says by its generation that it was begun', () => {
    const room = new RoomLog('room');
    const { generation } = room;
    room.exists(7);
    expect(room.generation).toBe(generation);
    room.open(5);
    expect(room.generation).not.toBe(generation);
    const begun = room.generation;
    room.open(9);
    expect(room.generation).toBe(begun);
  });

  it('forgets everything with a reset, and says so by its generation', () => {
    const room = new RoomLog('room');
    room.open(5);
    room.take(entry(6));
    const { generation } = room;
    room.reset(3);
    expect(room.generation).not.toBe(generation);
    expect([room.lastSeq, room.knownSeq, room.since(2)]).toEqual([3, 3, undefined]);
  });
});
