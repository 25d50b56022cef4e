import type { Socket } from 'node:net';
import fc from 'fast-check';
import { textFrame } from './frame.js';
import { Outbox } from './outbox.js';

/** @param takes whether the kernel takes the next write at once; what it does not, the socket keeps, and reads later */
function harness(takes: () => boolean = () => true) {
  const written: Buffer[] = [];
  const write = (data: Buffer) => {
    const isTaken = socket.writableLength === 0 && takes();
    written.push(isTaken ? Buffer.from(data) : data);
    if (!isTaken) socket.writableLength += data.length;
  };
  const socket = { writable: true, writableLength: 0, write, cork() {}, uncork() {}, on() {} };
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

  it('stays as it is until the socket has written it, whatever others get meanwhile', () => {
    const turn = fc.record({ of: fc.nat(2), texts: fc.array(fc.string(), { minLength: 1, maxLength: 3 }), isTaken: fc.boolean() });
    fc.assert(
      fc.property(fc.array(turn), (turns) => {
        let isTaken = true;
        const sockets = [0, 1, 2].map(() => ({ ...harness(() => isTaken), expected: [] as Buffer[] }));
        for (const { of, texts, ...next } of turns) {
          isTaken = next.isTaken;
          for (const text of texts) {
            sockets[of]?.outbox.put(text);
            sockets[of]?.expected.push(textFrame(text));
          }
          sockets[of]?.outbox.flush();
        }
        for (const { written, expected } of sockets) expect(Buffer.concat(written).equals(Buffer.concat(expected))).toBe(true);
      }),
    );
  });

  it('takes hardly more memory than its bytes while slow sockets keep it, whatever fast ones take meanwhile', () => {
    const fast = harness();
    const slow = Array.from({ length: 1_000 }, () => harness(() => false));
    for (const { outbox } of slow) {
      for (const text of ['a few', 'bytes']) outbox.put(text);
      outbox.flush();
      for (const text of ['many', 'x'.repeat(65_000)]) fast.outbox.put(text);
      fast.outbox.flush();
    }
    const slabs = new Set(slow.flatMap(({ written }) => written.map(({ buffer }) => buffer)));
    expect([...slabs].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(1_048_576);
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
