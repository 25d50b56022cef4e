import { randomUUID } from 'node:crypto';
import { contentsOf } from './content.js';
import type { Dialect } from './dialect.js';
import type { FrameHandler, LeanSocket } from './lean-socket.js';
import type { Person } from './plan.js';

/** What the senders of a run have in common. */
export interface Answers {
  acked: number;
  outOfOrder: number;
  ackedAfter(microseconds: number): void;
  refused(code: string): void;
  unexpected(what: string): void;
  /** µs of the generator's clock. */
  now(): number;
}

export interface SenderOptions {
  readonly contentChars: number;
  readonly clientMsgIds: boolean;
  /** Sends that it keeps unanswered by itself; 0 where it is told when to send. */
  readonly unanswered: number;
}

/** More than a node allows one socket to have unanswered. */
const inFlightMax = 512;

/** Sends to one room. Its commands have ids, so that each is answered; it counts the answers that don't come in the order of the sends. */
export class Sender implements FrameHandler {
  readonly roomId: string;
  acked = 0;
  private readonly socket: LeanSocket;
  private readonly sentAt = new Float64Array(inFlightMax);
  private readonly content: (sentAt: number) => string;
  private sent = 0;
  private answered = 0;
  private lastAnswered = 0;
  private lastSeq = 0;
  private open = false;
  private sending = false;
  private owed = 0;
  private ending = false;
  private onReady: () => void = () => undefined;

  constructor(
    person: Person,
    private readonly dialect: Dialect,
    private readonly options: SenderOptions,
    private readonly answers: Answers,
  ) {
    this.roomId = person.roomId;
    this.content = contentsOf(options.contentChars);
    this.socket = dialect.connect(person, this, () => {
      this.open = true;
      this.onReady();
    });
  }

  ready(): Promise<void> {
    return this.open ? Promise.resolve() : new Promise((ready) => (this.onReady = ready));
  }

  get unanswered(): number {
    return this.sent - this.answered;
  }

  /** Closed loop: begins, and keeps its sends unanswered until `stop`. */
  start(): void {
    this.sending = true;
    this.send(this.options.unanswered);
  }

  stop(): void {
    this.sending = false;
  }

  /** @param dueAt when the sends were due, in µs; now where it is left out */
  send(count: number, dueAt = this.answers.now()): void {
    let frames = '';
    for (let n = 0; n < count; n++) {
      const id = ++this.sent;
      this.sentAt[id % inFlightMax] = dueAt;
      frames += this.dialect.send(id, this.roomId, this.content(dueAt), this.options.clientMsgIds ? randomUUID() : undefined);
    }
    this.socket.write(frames);
  }

  frame(bytes: Buffer, start: number, end: number): void {
    const text = bytes.toString('latin1', start, end);
    const answer = this.dialect.answer(text);
    if (answer.kind === 'acked') this.stored(answer.id, answer.seq);
    else if (answer.kind === 'refused') {
      this.answers.refused(answer.code);
      this.settled(answer.id);
    } else if (answer.kind !== 'greeting') this.answers.unexpected(text.slice(0, 40));
  }

  closed(code: number): void {
    if (!this.ending) this.answers.unexpected(`a sender was closed with ${code}`);
  }

  end(): void {
    this.ending = true;
    this.socket.end();
  }

  private stored(id: number, seq: number): void {
    if (id !== this.lastAnswered + 1 || seq <= this.lastSeq) this.answers.outOfOrder++;
    this.lastSeq = seq;
    this.acked++;
    this.answers.acked++;
    this.answers.ackedAfter(this.answers.now() - (this.sentAt[id % inFlightMax] ?? 0));
    this.settled(id);
  }

  private settled(id: number): void {
    this.lastAnswered = id;
    this.answered++;
    if (!this.sending || this.options.unanswered === 0) return;
    // One write for all the answers that one read brought.
    if (this.owed++ > 0) return;
    queueMicrotask(() => {
      const count = this.owed;
      this.owed = 0;
      if (this.sending) this.send(count);
    });
  }
}
