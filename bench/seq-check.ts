/** What the checks of a run have in common. */
export interface SeqFaults {
  doubled: number;
  reordered: number;
}

/** One client's stream of one room: each seq must come once, in order, from where it begins. */
export class SeqCheck {
  /** The highest seq that came. */
  cursor = 0;
  private readonly missing = new Set<number>();

  constructor(private readonly faults: SeqFaults) {}

  begin(after: number): void {
    this.cursor = after;
  }

  /** The seqs from `first` to `last` came, in this order. */
  take(first: number, last: number): void {
    if (first === this.cursor + 1) this.cursor = last;
    else this.outOfOrder(first, last);
  }

  /** How many did not come although the room has them up to `head`. */
  lost(head: number): number {
    return this.missing.size + Math.max(0, head - this.cursor);
  }

  private outOfOrder(first: number, last: number): void {
    for (let seq = this.cursor + 1; seq < first; seq++) this.missing.add(seq);
    for (let seq = first; seq <= last; seq++) {
      if (seq > this.cursor) this.cursor = seq;
      else if (this.missing.delete(seq)) this.faults.reordered++;
      else this.faults.doubled++;
    }
  }
}
