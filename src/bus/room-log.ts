import type { LogEntry } from './payload.js';

/** Entries and characters that a node remembers of one room, so that clients who come back read memory and not the table. */
const keptMaxEntries = 1_000;
const keptMaxChars = 262_144;
/** Comparisons, a second apart, after which the notification of every seq that the first one found in the table was heard, or LISTEN taken for lost. */
const comparisonsToProof = 4;

/**
 * What a node knows of one room that it follows: how far it passed the room's log on, and the last entries of it. Entries go in only in order
 * and without a gap, whatever order they arrive in.
 */
export class RoomLog {
  /** The last seq that was passed on; undefined until the first head is known. */
  private head: number | undefined;
  /** The highest seq that is known to exist. Above `head`, the room is behind. */
  private target = 0;
  private kept: LogEntry[] = [];
  private keptChars = 0;
  /** Goes up when the log is begun, at whatever head: what is at or below that head is never passed on, and what was read before may be of another log. */
  generation = 0;
  /** Heads of the last comparisons with the table, the oldest first. */
  private compared: number[] = [];

  constructor(readonly roomId: string) {}

  get lastSeq(): number {
    return this.head ?? 0;
  }

  get isOpen(): boolean {
    return this.head !== undefined;
  }

  get isBehind(): boolean {
    return this.head !== undefined && this.target > this.head;
  }

  /** The highest seq known to exist. */
  get knownSeq(): number {
    return Math.max(this.target, this.lastSeq);
  }

  /** Begins to follow at a head that was read from the table. Only the first head counts. */
  open(head: number): void {
    this.target = Math.max(this.target, head);
    if (this.head !== undefined) return;
    this.head = head;
    this.compared = [];
    this.generation++;
  }

  /** Forgets everything, to begin anew: the log is not the one that it was. */
  reset(head: number): void {
    this.head = head;
    this.target = head;
    this.compared = [];
    this.forget();
    this.generation++;
  }

  /** Remembers nothing: what is asked for is read from the table. */
  forget(): void {
    this.kept = [];
    this.keptChars = 0;
  }

  /** What was heard of it, before it was opened, is of another log. */
  forgetHeard(): void {
    if (this.head === undefined) this.target = 0;
  }

  /** Learns that the room has entries up to `seq`. */
  exists(seq: number): void {
    if (seq > this.target) this.target = seq;
  }

  /** What was said to exist above `head` does not: that is the head in the table. */
  disclaim(head: number): void {
    this.target = Math.max(head, this.lastSeq);
  }

  /** What was passed on of this seq, where that is remembered. */
  remembered(seq: number): LogEntry | undefined {
    return this.kept[seq - (this.kept[0]?.seq ?? 0)];
  }

  /** The table had `head` too. */
  noteCompared(head: number): void {
    if (this.compared.length === comparisonsToProof) this.compared.shift();
    this.compared.push(head);
  }

  /** The seqs that are remembered and whose own notification may still be on its way, first and last. */
  get unproven(): { readonly from: number; readonly to: number } | undefined {
    const proven = this.compared.length === comparisonsToProof ? (this.compared[0] ?? 0) : 0;
    const from = Math.max(proven + 1, this.kept[0]?.seq ?? Number.POSITIVE_INFINITY);
    return from <= this.lastSeq ? { from, to: this.lastSeq } : undefined;
  }

  /** Takes an entry if it is the next one; notes it as existing if it is a later one; drops it if it was there already. */
  take(entry: LogEntry): boolean {
    this.exists(entry.seq);
    if (this.head === undefined || entry.seq !== this.head + 1) return false;
    this.head = entry.seq;
    this.kept.push(entry);
    this.keptChars += entry.json.length;
    if (this.kept.length > 2 * keptMaxEntries || this.keptChars > 2 * keptMaxChars) this.trim();
    return true;
  }

  /** Takes, of entries that were read from the table, those right before what is remembered, as far as there is room for them. */
  remember(entries: readonly LogEntry[]): void {
    if (this.head === undefined) return;
    const first = this.kept[0]?.seq ?? this.head + 1;
    let from = entries.findLastIndex(({ seq }) => seq < first) + 1;
    const to = from;
    let chars = this.keptChars;
    while (from > 0 && entries[from - 1]?.seq === first - 1 - (to - from)) {
      chars += entries[from - 1]?.json.length ?? 0;
      if (chars > keptMaxChars || this.kept.length + to - from >= keptMaxEntries) break;
      this.keptChars = chars;
      from--;
    }
    if (from < to) this.kept = [...entries.slice(from, to), ...this.kept];
  }

  /** Passes over seqs that do not exist, so that the next entry is `seq`. */
  skipTo(seq: number): void {
    this.head = seq - 1;
    this.forget();
  }

  /** The entries after seq `after`, all of them up to lastSeq, or undefined where they are not all remembered. */
  since(after: number): readonly LogEntry[] | undefined {
    if (after >= this.lastSeq) return [];
    const first = this.kept[0];
    if (first === undefined || first.seq > after + 1) return undefined;
    return this.kept.slice(after + 1 - first.seq);
  }

  /** Cuts back to the limits; done once for many entries, so that an entry costs nothing. */
  private trim(): void {
    let from = Math.max(0, this.kept.length - keptMaxEntries);
    let chars = this.kept.slice(from).reduce((sum, { json }) => sum + json.length, 0);
    while (chars > keptMaxChars) chars -= this.kept[from++]?.json.length ?? chars;
    this.kept = this.kept.slice(from);
    this.keptChars = chars;
  }
}
