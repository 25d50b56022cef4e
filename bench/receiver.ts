import type { RoomFrames } from './room-frames.js';
import type { Dialect } from './dialect.js';
import type { FrameHandler, LeanSocket } from './lean-socket.js';
import type { Person } from './plan.js';
import { SeqCheck, type SeqFaults } from './seq-check.js';

/** What the receivers of a run have in common. */
export interface Receipts extends SeqFaults {
  deliveries: number;
  frames: number;
  /** µs of the generator's clock. */
  delivered(sampledSends: readonly number[]): void;
  unexpected(what: string): void;
}

/** Follows one room and checks that every seq comes once, in order, from its join on. */
export class Receiver implements FrameHandler {
  readonly roomId: string;
  private readonly socket: LeanSocket;
  private joined = false;
  private readonly seqs: SeqCheck;
  private ending = false;
  private onJoined: () => void = () => undefined;

  constructor(
    person: Person,
    private readonly dialect: Dialect,
    private readonly frames: RoomFrames,
    private readonly receipts: Receipts,
  ) {
    this.roomId = person.roomId;
    this.seqs = new SeqCheck(receipts);
    this.socket = dialect.connect(person, this, () => this.socket.write(dialect.join(this.roomId)));
  }

  ready(): Promise<void> {
    return this.joined ? Promise.resolve() : new Promise((joined) => (this.onJoined = joined));
  }

  /** What did not come although the room has it. */
  lost(head: number): number {
    return this.seqs.lost(head);
  }

  frame(bytes: Buffer, start: number, end: number): void {
    if (!this.joined) return this.answered(bytes.toString('latin1', start, end));
    const { first, last, messages, sampledSends, fault } = this.frames.of(bytes, start, end);
    if (fault !== undefined) return this.receipts.unexpected(fault);
    if (first === 0) return;
    this.seqs.take(first, last);
    this.receipts.deliveries += messages;
    this.receipts.frames++;
    this.receipts.delivered(sampledSends);
  }

  closed(code: number): void {
    if (!this.ending) this.receipts.unexpected(`a receiver was closed with ${code}`);
  }

  end(): void {
    this.ending = true;
    this.socket.end();
  }

  private answered(text: string): void {
    const answer = this.dialect.answer(text);
    if (answer.kind === 'greeting') return;
    if (answer.kind !== 'joined') return this.receipts.unexpected(text.slice(0, 40));
    this.joined = true;
    this.seqs.begin(answer.lastSeq);
    this.onJoined();
  }
}
