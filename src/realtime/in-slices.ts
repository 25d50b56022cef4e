/**
 * Work of which thousands of pieces may come at once: in the order in which they came, but of each turn of the event loop only a part is taken, and
 * the rest is done in the next ones. Meanwhile what others send is read, stored and delivered.
 */

export class InSlices<Piece> {
  private pieces: Piece[] = [];
  private done = 0;
  private isDue = false;
  private awaiting: { readonly done: number; readonly call: () => void }[] = [];

  /**
   * @param perTurn pieces; not a time, by which a queue of dear pieces would grow while cheap ones leave nobody a turn
   * @param work must not throw
   */
  constructor(
    private readonly perTurn: number,
    private readonly work: (piece: Piece) => void,
  ) {}

  /** Done at the end of this turn at the earliest. */
  put(piece: Piece): void {
    this.pieces.push(piece);
    this.takeSoon();
  }

  /** Calls back when all that was put until now is done; not before the end of this turn. */
  after(call: () => void): void {
    this.awaiting.push({ done: this.done + this.pieces.length, call });
    this.takeSoon();
  }

  private takeSoon(): void {
    if (this.isDue) return;
    this.isDue = true;
    setImmediate(() => this.take());
  }

  private take(): void {
    this.isDue = false;
    let slice = this.pieces;
    if (slice.length > this.perTurn) {
      slice = this.pieces.splice(0, this.perTurn);
      this.takeSoon();
    } else this.pieces = [];
    this.done += slice.length; // first: what it puts and awaits comes after it
    for (const piece of slice) this.work(piece);
    while (this.awaiting[0] !== undefined && this.awaiting[0].done <= this.done) this.awaiting.shift()?.call();
  }
}
