/**
 * The listener: one connection that LISTENs, for ever. It says `connected` only after LISTEN took, and `lost` when the connection ended or a
 * heartbeat did not come back in time; then it makes a new one, with jittered back-off. What was notified in between is gone: who listens
 * must catch up from the tables on every `connected`.
 *
 * The only file that knows pg-listen, which here does no reconnecting of its own: with it, close() during a reconnect leaves a LISTEN behind, and
 * a half-open connection can't be dropped.
 */
import { Socket } from 'node:net';
import pgListen, { type Subscriber } from 'pg-listen';
import type pg from 'pg';

export const channel = 'trunkline';
const heartbeatIntervalMs = 1_000;
/** How long a beat may take to come back before the connection is given up. */
const heartbeatDeadlineMs = 2_500;
const retryFirstMs = 50;
const retryMaxMs = 2_000;

export interface ListenerEvents {
  connected(): void;
  lost(reason: string): void;
  payload(payload: string): void;
}

export class Listener {
  private attempt = 0;
  private subscriber: Subscriber | undefined;
  private socket: Socket | undefined;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  private listening = false;
  private lastBeatAt = 0;
  private beatSentAt = 0;
  private beat = 0;
  /** Round trip of the last beat that came back, in ms; 0 before the first. */
  heartbeatMs = 0;

  /**
   * @param sendBeat sends a beat on the bus, by another connection; what comes back is to be given to `heard`
   */
  constructor(
    private readonly config: pg.ClientConfig,
    private readonly name: string,
    private readonly events: ListenerEvents,
    private readonly sendBeat: (beat: string) => Promise<void>,
  ) {}

  /** True while LISTEN is in force and was proven by a heartbeat less than the deadline ago. */
  get healthy(): boolean {
    return this.listening && performance.now() - this.lastBeatAt < heartbeatDeadlineMs;
  }

  /** Resolves when it listens, or when the first attempt failed. */
  start(): Promise<void> {
    return this.connect();
  }

  /** A heartbeat came in from the bus, of this node or of another. */
  heard(beat: string): void {
    if (!beat.startsWith(`${this.name}:`)) return;
    this.lastBeatAt = performance.now();
    if (beat === `${this.name}:${this.beat}`) this.heartbeatMs = this.lastBeatAt - this.beatSentAt;
  }

  /** Leaves no connection and no timer. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    const { subscriber, socket } = this;
    this.subscriber = undefined;
    if (!this.listening) return void socket?.destroy();
    this.listening = false;
    await Promise.race([subscriber?.close(), new Promise((late) => setTimeout(late, 500))]).catch(() => undefined);
    socket?.destroy();
  }

  private async connect(): Promise<void> {
    const socket = new Socket();
    const subscriber = pgListen.default(
      // All that others may set for a session and that matters to one that only listens. By startup: pg-listen gives no way to run a statement.
      { ...this.config, options: '-c idle_session_timeout=0', stream: () => socket },
      { paranoidChecking: false, retryLimit: 1, parse: (text: string) => text },
    );
    this.socket = socket;
    this.subscriber = subscriber;
    subscriber.events.on('error', (error) => this.lose(subscriber, error.message));
    subscriber.notifications.on(channel, (payload: unknown) => {
      if (typeof payload === 'string' && subscriber === this.subscriber) this.events.payload(payload);
    });
    try {
      await subscriber.connect();
      await subscriber.listenTo(channel);
    } catch (error) {
      return this.lose(subscriber, error instanceof Error ? error.message : String(error));
    }
    if (subscriber !== this.subscriber) return;
    this.attempt = 0;
    this.listening = true;
    this.lastBeatAt = performance.now();
    this.events.connected();
    this.timer = setTimeout(() => this.check(subscriber), heartbeatIntervalMs);
  }

  private check(subscriber: Subscriber): void {
    if (!this.healthy) return this.lose(subscriber, `no heartbeat came back within ${heartbeatDeadlineMs} ms`);
    this.timer = setTimeout(() => this.check(subscriber), heartbeatIntervalMs);
    // A beat that can't be sent is one that does not come back.
    this.beatSentAt = performance.now();
    this.sendBeat(`${this.name}:${++this.beat}`).catch(() => undefined);
  }

  private lose(subscriber: Subscriber, reason: string): void {
    if (this.closed || subscriber !== this.subscriber) return;
    this.subscriber = undefined;
    this.listening = false;
    clearTimeout(this.timer);
    this.socket?.destroy();
    this.events.lost(reason);
    const waitMs = Math.min(retryMaxMs, retryFirstMs * 2 ** this.attempt++) * (0.5 + Math.random() / 2);
    this.timer = setTimeout(() => void this.connect(), waitMs);
  }
}
