/**
 * Bounds what REST clients have not taken of their answers (I11): in all, of each user, and in time.
 *
 * An answer counts from its request until the kernel has taken its last byte, or its connection is closed; with its size once it is made. What is in
 * the making is bounded besides: each page takes one of the connections to PostgreSQL, for which a user has so many requests wait at most. Beyond a bound an answer is replaced by a refusal,
 * before anything is stored or read where that can be known.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';

export interface AnswerBounds {
  /** Of all answers together. */
  readonly maxBytes: number;
  /** Of the answers to one user, so that others have the rest. */
  readonly shareMaxBytes: number;
  /** A connection that takes less than a chunk of its answers for so long is cut. */
  readonly stalledMs: number;
}

/** A node's. An honest client takes its answer at once: a share is eight pages of history that wait for a slow link. */
const restMaxBytes = 67_108_864;
const restShareMaxBytes = 8_388_608;
export const restBounds = { maxBytes: restMaxBytes, shareMaxBytes: restShareMaxBytes };

/** While more than half of the bytes wait: a stalled connection makes room for others sooner. */
const stalledWhileCrowdedMs = 5_000;
const checkEveryMs = 250;
/** What a request and its answer cost beside the bytes, in objects. */
const answerMinBytes = 8_192;
/** Requests that one connection may send before their answers: Node reads on while none of them is made. */
const pipelinedMax = 128;
/** A refusal, or the answer to what was stored, is never refused: above this share of the bound its connection is cut. */
const cutAbove = 1.25;

/** Handed to the kernel at a time: a connection that takes such a part within the time goes on. */
const chunkBytes = 16_384;
const chunkedFromBytes = 65_536;

interface Answer {
  readonly client: Client;
  readonly response: ServerResponse;
  bytes: number;
  /** What its holder is charged more while it is in the making. */
  expected: number;
  holder: string | undefined;
  /** In ms of the process. Before it is made, nothing can be taken of it. */
  madeAt: number | undefined;
}

/** A connection. */
interface Client {
  readonly socket: Socket;
  /** In the order of the requests, which is that of the answers. */
  readonly answers: Set<Answer>;
  tookAt: number;
}

export class UntakenAnswers {
  private readonly clients = new Map<Socket, Client>();
  private readonly answers = new WeakMap<ServerResponse, Answer>();
  private readonly bytesByHolder = new Map<string, number>();
  private readonly counted = { bytes: 0, refused: 0, cut: 0 };
  private checking: NodeJS.Timeout | undefined;

  constructor(private readonly bounds: AnswerBounds) {}

  get counters(): Readonly<typeof this.counted> {
    return this.counted;
  }

  /** To be called first of all with each request. */
  watch({ socket }: IncomingMessage, response: ServerResponse): void {
    const client = this.clientOf(socket);
    const answer: Answer = { client, response, bytes: 0, expected: 0, holder: undefined, madeAt: undefined };
    client.answers.add(answer);
    this.answers.set(response, answer);
    response.on('drain', () => (client.tookAt = performance.now()));
    response.once('close', () => {
      client.tookAt = performance.now();
      this.release(answer);
    });
    this.count(answer, answerMinBytes);
    if (client.answers.size > pipelinedMax) this.cut(client);
  }

  /**
   * Counts an answer that is still to be made as the holder's.
   * @param bytes what it has at least
   * @param expected what the holder is charged at least, until it is made
   * @returns false where the holder or the node has too much waiting
   */
  admit(response: ServerResponse, holder: string, bytes: number, expected: number): boolean {
    const answer = this.answers.get(response);
    if (answer === undefined) return true; // the connection is closed
    this.hold(answer, holder);
    if (!this.fits(answer, Math.max(bytes, expected))) return false;
    this.count(answer, bytes);
    this.expect(answer, Math.max(0, expected - answer.bytes));
    return true;
  }

  /**
   * Counts an answer that is made. One that `isRefusable` is to be replaced where this returns false.
   * @param holder where none is known yet
   */
  made(response: ServerResponse, bytes: number, { holder, isRefusable }: { holder: string; isRefusable: boolean }): boolean {
    const answer = this.answers.get(response);
    if (answer === undefined) return true;
    answer.madeAt ??= performance.now();
    this.expect(answer, 0);
    if (isRefusable) {
      if (answer.holder === undefined) this.hold(answer, holder);
      if (!this.fits(answer, bytes)) return false;
    }
    return this.count(answer, bytes);
  }

  private fits(answer: Answer, bytes: number): boolean {
    const more = bytes - answer.bytes;
    const { maxBytes, shareMaxBytes } = this.bounds;
    const held = answer.holder === undefined ? 0 : (this.bytesByHolder.get(answer.holder) ?? 0);
    if (this.counted.bytes + more <= maxBytes && held + more <= shareMaxBytes) return true;
    this.counted.refused++;
    return false;
  }

  private count(answer: Answer, bytes: number): true {
    const counts = Math.max(bytes, answerMinBytes);
    const more = counts - answer.bytes;
    answer.bytes = counts;
    this.add(answer.holder, more);
    this.counted.bytes += more;
    if (more > 0 && this.counted.bytes > this.bounds.maxBytes * cutAbove) this.cut(answer.client);
    return true;
  }

  private expect(answer: Answer, bytes: number): void {
    this.add(answer.holder, bytes - answer.expected);
    answer.expected = bytes;
  }

  private hold(answer: Answer, holder: string): void {
    this.add(answer.holder, -answer.bytes);
    answer.holder = holder;
    this.add(holder, answer.bytes);
  }

  private add(holder: string | undefined, bytes: number): void {
    if (holder === undefined) return;
    const now = (this.bytesByHolder.get(holder) ?? 0) + bytes;
    if (now === 0) this.bytesByHolder.delete(holder);
    else this.bytesByHolder.set(holder, now);
  }

  private release(answer: Answer): void {
    if (!answer.client.answers.delete(answer)) return;
    this.answers.delete(answer.response);
    this.add(answer.holder, -answer.bytes - answer.expected);
    this.counted.bytes -= answer.bytes;
    if (answer.client.answers.size === 0) this.clients.delete(answer.client.socket);
  }

  private clientOf(socket: Socket): Client {
    const known = this.clients.get(socket);
    if (known !== undefined) return known;
    const client: Client = { socket, answers: new Set(), tookAt: performance.now() };
    this.clients.set(socket, client);
    this.checking ??= setInterval(() => this.check(), checkEveryMs).unref();
    return client;
  }

  private check(): void {
    const isCrowded = this.counted.bytes > this.bounds.maxBytes / 2;
    const stalledMs = isCrowded ? Math.min(stalledWhileCrowdedMs, this.bounds.stalledMs) : this.bounds.stalledMs;
    const now = performance.now();
    for (const client of this.clients.values()) {
      // Answers that wait behind one have no 'close' of their own when the connection is gone.
      if (client.socket.destroyed) for (const answer of client.answers) this.release(answer);
      const [first] = client.answers;
      if (first === undefined) continue;
      if (first.response.writableEnded) first.madeAt ??= now;
      if (first.madeAt !== undefined && now - Math.max(first.madeAt, client.tookAt) >= stalledMs) this.cut(client);
    }
    if (this.clients.size > 0) return;
    clearInterval(this.checking);
    this.checking = undefined;
  }

  private cut({ socket, answers }: Client): void {
    this.counted.cut++;
    socket.destroy();
    for (const answer of answers) this.release(answer);
  }
}

/** A large answer, to be taken part by part; undefined for one that is not large. */
export function inChunks(bytes: Buffer): Readable | undefined {
  if (bytes.length < chunkedFromBytes) return undefined;
  let at = 0;
  return new Readable({
    highWaterMark: chunkBytes,
    read() {
      this.push(at < bytes.length ? bytes.subarray(at, (at += chunkBytes)) : null);
    },
  });
}

/** What a stream holds that is piped to a client. */
export const streamBytes = 2 * chunkedFromBytes;
