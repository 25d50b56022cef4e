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
