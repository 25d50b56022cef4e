import fc from 'fast-check';
import { HistoryPages } from '../../bench/history-pages.js';
import { SeqCheck } from '../../bench/seq-check.js';

const roomId = '0193a5c0-0000-7000-8000-000000000004';

describe('what the bench checks at each of its clients', () => {
  it('finds nothing wrong with seqs that come once and in order, however they are cut into frames', () => {
    fc.assert(
      fc.property(fc.nat(1_000), fc.array(fc.integer({ min: 1, max: 50 })), (after, sizes) => {
        const faults = { doubled: 0, reordered: 0 };
        const check = new SeqCheck(faults);
        check.begin(after);
        for (const size of sizes) check.take(check.cursor + 1, check.cursor + size);
        const head = sizes.reduce((sum, size) => sum + size, after);
        expect([check.lost(head), check.lost(head + 1), faults]).toEqual([0, 1, { doubled: 0, reordered: 0 }]);
      }),
    );
  });

  it('counts what is lost, doubled and out of order, in whatever order seqs come', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30 })), (seqs) => {
        const faults = { doubled: 0, reordered: 0 };
        const check = new SeqCheck(faults);
        for (const seq of seqs) check.take(seq, seq);
        const distinct = new Set(seqs);
        const late = [...distinct].filter((seq) => seqs.slice(0, seqs.indexOf(seq)).some((before) => before > seq));
        expect([check.lost(30), faults]).toEqual([30 - distinct.size, { doubled: seqs.length - distinct.size, reordered: late.length }]);
      }),
    );
  });

  it('takes a page of history without a hole, and the same again, and no other', () => {
    const pages = new HistoryPages(roomId);
    const page = (messages: readonly number[], events: readonly number[], hasMore: boolean) => {
      const entries = (seqs: readonly number[]) => seqs.map((seq) => ({ room_id: roomId, seq }));
      const data = { room_id: roomId, messages: entries(messages), events: entries(events), next_cursor: 0, has_more: hasMore };
      const bytes = Buffer.from(JSON.stringify({ event: 'history', data }));
      return pages.of(2, bytes, 0, bytes.length);
    };
    const whole = { first: 3, last: 6, isLast: false };
    expect(page([3, 5, 6], [4], true)).toEqual(whole);
    expect(page([3, 5, 6], [4], true)).toMatchObject(whole);
    expect(page([3, 6], [4], true)).toMatchObject({ fault: 'a page of history with a hole' });
    expect(page([], [], false)).toEqual({ first: 0, last: 0, isLast: true });
  });
});
