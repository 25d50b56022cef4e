/**
 * Questions of one kind to the database that are asked together: what comes while the reads before are under way is the next read.
 *
 * No answer is older than its question: a read has only questions that were put before its statement was sent, and nobody is given the answer of
 * one that is under way already. Beside that there is no cache. At most `readsMax` are under way, so that no storm of questions takes the pool from
 * others; an idle one asks at the end of the turn, the next one `apartMs` later at the earliest, or when there are enough questions for a whole read.
 * Above `waitingMax` questions that wait, the next is refused. (The package dataloader has no such limits, and shares by default what is under way.)
 */
import { ClientError } from '../protocol/errors.js';

/** Some 20 MB: many times what all sockets of a node ask when they come back at once. */
const waitingMaxByDefault = 200_000;
const refusedRetryAfterMs = 1_000;

export class BatchedReads<Question, Answer> {
  private waiting: { question: Question; answered: (answer: Answer) => void; failed: (error: unknown) => void }[] = [];
  private underWay = 0;
  /** A read begins at the end of this turn. */
  private due = false;
  private timer: NodeJS.Timeout | undefined;
  /** Before that the next read waits for others. */
  private nextAt = Number.NEGATIVE_INFINITY;

  /**
   * @param options.ask answers as many questions as it is given, in their order
   * @param options.questionsMax of one read
   */
  constructor(
    private readonly options: {
      readonly ask: (questions: readonly Question[]) => Promise<readonly Answer[]>;
      readonly questionsMax: number;
      readonly readsMax: number;
      /** From the beginning of one read to that of the next; after a read of one question a tenth of it, for who asks one after the other. */
      readonly apartMs: number;
      readonly waitingMax?: number;
    },
  ) {}

  /**
   * Rejects with the error of the read that the question was in.
   * @throws ClientError overloaded
   */
  ask(question: Question): Promise<Answer> {
    if (this.waiting.length >= (this.options.waitingMax ?? waitingMaxByDefault))
      return Promise.reject(new ClientError('overloaded', undefined, { retryAfterMs: refusedRetryAfterMs }));
    return new Promise((answered, failed) => {
      this.waiting.push({ question, answered, failed });
      this.schedule();
    });
  }

  /** At the end of the turn: the frames that came in one chunk, of whatever sockets, ask together. */
  private schedule(): void {
    const isWhole = this.waiting.length >= this.options.questionsMax;
    if (this.due || (this.timer !== undefined && !isWhole) || this.waiting.length === 0 || this.underWay >= this.options.readsMax) return;
    clearTimeout(this.timer);
    const begin = () => {
      this.due = false;
      this.timer = undefined;
      void this.read();
      this.schedule();
    };
    const waitMs = isWhole ? 0 : this.nextAt - performance.now();
    if (waitMs > 0) this.timer = setTimeout(begin, waitMs);
    else {
      this.due = true;
      setImmediate(begin);
    }
  }

  private async read(): Promise<void> {
    const batch = this.waiting.splice(0, this.options.questionsMax);
    this.underWay++;
    this.nextAt = performance.now() + this.options.apartMs / (batch.length > 1 ? 1 : 10);
    try {
      const answers = await this.options.ask(batch.map(({ question }) => question));
      for (const [n, { answered }] of batch.entries()) answered(answers[n] as Answer);
    } catch (error) {
      for (const { failed } of batch) failed(error);
    } finally {
      this.underWay--;
      this.schedule();
    }
  }
}
