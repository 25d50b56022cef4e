/**
 * Reads of rooms' logs from the table, for whoever resumes, falls behind or repairs: few statements, however many ask.
 *
 * What is asked while a statement is under way is asked for together by the next one, each range with a fair share of what that may read. Ranges of
 * one room that overlap are one range, read once: a thousand clients that come back to a room cost a page, not a thousand. Bounded: two statements
 * of 4 MiB at a time; what waits is one small object for each stream that is behind.
 *
 * It is safe to share: an entry never changes, a reader gets only what is within its own bounds, and no reader is given what was read before it
 * asked (BatchedReads), so that nobody whose log was begun anew gets entries of the log before.
 */
import { BatchedReads } from '../database/batched-reads.js';
import type { Queryable } from '../database/database.js';
import { pageMaxBytes, pageMaxEntries, readLogs, type LogRange } from './bus.store.js';
import type { LogEntry } from './payload.js';

const rangesMax = 200;

export interface LogRead extends LogRange {
  /** The range that it was part of was cut before it: it begins one itself. */
  readonly alone?: boolean;
}

interface SharedRange extends LogRange {
  /** Which reads it answers, as places in their list; the first one begins where the range does. */
  readonly reads: number[];
}

/** A page, or why there is none: the read has to be put again. */
type Answer = readonly LogEntry[] | 'left over' | 'not reached';

export class LogReads {
  private readonly reads: BatchedReads<LogRead, Answer>;

  constructor(db: Queryable) {
    this.reads = new BatchedReads({ ask: (reads) => readShared(db, reads), questionsMax: 2_000, readsMax: 2, apartMs: 0 });
  }

  /**
   * One page: at least one entry where there is one, and more than `maxBytes` only where others share it.
   * @throws ClientError unavailable
   */
  async read(range: LogRange): Promise<readonly LogEntry[]> {
    for (let read: LogRead = range; ;) {
      const answer = await this.reads.ask(read);
      if (typeof answer !== 'string') return answer;
      if (answer === 'not reached') read = { ...range, alone: true };
    }
  }
}

async function readShared(db: Queryable, reads: readonly LogRead[]): Promise<Answer[]> {
  const ranges = sharedRanges(reads).slice(0, rangesMax);
  const pages = await readLogs(db, ranges);
  const answers = reads.map((): Answer => 'left over');
  for (const [n, range] of ranges.entries()) {
    const page = pages[n];
    if (page === undefined) continue;
    const last = page.at(-1)?.seq ?? range.after;
    for (const at of range.reads) {
      const { after, upTo } = reads[at] ?? range;
      const isCutBefore = after > range.after && last <= after;
      answers[at] = isCutBefore ? 'not reached' : page.filter(({ seq }) => seq > after && seq <= upTo);
    }
  }
  return answers;
}

/**
 * The ranges that answer all reads, in the order of the oldest read in each. Reads of one room are one range where the later one begins within the
 * first half of a page after the earlier one, so that the page brings something to each.
 */
export function sharedRanges(reads: readonly LogRead[]): SharedRange[] {
  const ranges: SharedRange[] = [];
  const places = [...reads.keys()].toSorted((a, b) => compare(reads[a], reads[b]));
  for (const n of places) {
    const read = reads[n];
    const range = ranges.at(-1);
    if (read === undefined) continue;
    const { roomId, after, upTo, maxBytes } = read;
    const isEqual = range?.roomId === roomId && range.after === after;
    const isWithin = range?.roomId === roomId && read.alone !== true && after < Math.min(range.upTo, range.after + pageMaxEntries / 2);
    if (range === undefined || !(isEqual || isWithin)) {
      ranges.push({ roomId, after, upTo, maxBytes, reads: [n] });
      continue;
    }
    const shared = { upTo: Math.max(range.upTo, upTo), maxBytes: isEqual ? Math.max(range.maxBytes, maxBytes) : pageMaxBytes };
    ranges[ranges.length - 1] = { ...range, ...shared };
    range.reads.push(n);
  }
  return ranges.toSorted((a, b) => oldest(a) - oldest(b));
}

function compare(a: LogRead | undefined, b: LogRead | undefined): number {
  if (a === undefined || b === undefined) return 0;
  return a.roomId === b.roomId ? a.after - b.after : a.roomId < b.roomId ? -1 : 1;
}

const oldest = ({ reads }: SharedRange): number => reads.reduce((least, n) => Math.min(least, n));
