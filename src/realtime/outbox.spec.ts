import type { Socket } from 'node:net';
import fc from 'fast-check';
import { textFrame } from './frame.js';
import { Outbox } from './outbox.js';

function harness() {
  const written: Buffer[] = [];
  const socket = { writable: true, writableLength: 0, write: (data: Buffer) => written.push(data), cork() {}, uncork() {}, on() {} };
  const counters = { framesOut: 0, bytesOut: 0 };
  return { outbox: new Outbox(socket as unknown as Socket, 1_048_576, () => undefined, counters), written, counters };
}

describe('what one socket gets in one turn', () => {
  it('is frames and texts in the order in which they were put in, whatever their size', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.constantFrom(125, 126, 65_535, 65_536).map((chars) => 'x'.repeat(chars)),
    );
    fc.assert(
      fc.property(fc.array(fc.record({ text, isFramed: fc.boolean() }), { minLength: 1, maxLength: 8 }), (items) => {
        const { outbox, written, counters } = harness();
        const frames = items.map((item) => textFrame(item.text));
        for (const [n, item] of items.entries()) outbox.put(item.isFramed ? (frames[n] ?? '') : item.text);
        const expected = Buffer.concat(frames);
        expect(outbox.waitingBytes).toBe(expected.length);
        outbox.flush();
        expect(Buffer.concat(written).equals(expected)).toBe(true);
        expect(counters).toEqual({ framesOut: items.length, bytesOut: expected.length });
      }),
    );
  });

  it('is one write while it is small', () => {
    const { outbox, written } = harness();
    const shared = textFrame('to all');
    outbox.put(shared);
    outbox.flush();
    expect(written).toEqual([shared]);
    for (const item of ['one', shared, 'two']) outbox.put(item);
    outbox.flush();
    expect(written).toHaveLength(2);
  });
});
