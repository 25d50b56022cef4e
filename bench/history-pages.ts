/**
 * Reads the pages of history of one room. As with live frames (room-frames.ts), a page is read in full once; one that is asked for after the same seq
 * and is the same byte for byte is compared with it, so that a thousand clients who resume cost little.
 */

import { textFrame } from '../src/realtime/frame.js';

interface HistoryPage {
  /** The seqs that it has, without a hole; 0 and 0 where it is empty. */
  readonly first: number;
  readonly last: number;
  /** The stream is live after it. */
  readonly isLast: boolean;
  /** Why it is no page that should have come. */
  readonly fault?: string;
}

interface Remembered extends HistoryPage {
  readonly bytes: Buffer;
}

interface HistoryFrame {
  readonly data: {
    readonly room_id: string;
    readonly messages: readonly { readonly room_id: string; readonly seq: number }[];
    readonly events: readonly { readonly room_id: string; readonly seq: number }[];
    readonly next_cursor: number;
    readonly has_more: boolean;
  };
}

/** Where clients resume at many seqs, pages are read anew rather than remembered for ever. */
const rememberedMax = 64;

export class HistoryPages {
  private readonly byAfter = new Map<number, Remembered[]>();
  private count = 0;

  constructor(private readonly roomId: string) {}

  /** @param after the highest seq that the client holds */
  of(after: number, bytes: Buffer, start: number, end: number): HistoryPage {
    const same = this.byAfter.get(after) ?? [];
    for (const known of same) {
      if (known.bytes.length === end - start && known.bytes.compare(bytes, start, end) === 0) return known;
    }
    const page = this.read(JSON.parse(bytes.toString('utf8', start, end)) as HistoryFrame);
    if (page.fault === undefined && this.count < rememberedMax) {
      this.byAfter.set(after, [...same, { ...page, bytes: Buffer.from(bytes.subarray(start, end)) }]);
      this.count++;
    }
    return page;
  }

  /** One client's pages, framed as they came. */
  get frames(): Buffer {
    const frames: Buffer[] = [];
    let after = Math.min(...this.byAfter.keys());
    for (let [page] = this.byAfter.get(after) ?? []; page !== undefined; [page] = this.byAfter.get(after) ?? []) {
      frames.push(textFrame(page.bytes.toString()));
      after = page.last;
    }
    return Buffer.concat(frames);
  }

  private read({ data }: HistoryFrame): HistoryPage {
    const entries = [...data.messages, ...data.events].toSorted((a, b) => a.seq - b.seq);
    const first = entries[0]?.seq ?? 0;
    const isWhole = entries.every(({ room_id, seq }, n) => room_id === this.roomId && seq === first + n);
    if (data.room_id !== this.roomId || !isWhole) return { first: 0, last: 0, isLast: false, fault: 'a page of history with a hole' };
    return { first, last: entries.at(-1)?.seq ?? 0, isLast: !data.has_more };
  }
}
