/**
 * The listener: one connection that LISTENs, for ever. It says `connected` only after LISTEN took, and `lost` when the connection ended or a
 * heartbeat did not come back in time; then it makes a new one, with jittered back-off. What was notified in between is gone: who listens
 * must catch up from the tables on every `connected`.
 *
 * The only file that LISTENs.
 */
import { Socket } from 'node:net';
import type pg from 'pg';
import { openClient } from '../database/session.js';

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
  /** Of the connection that listens, or is being made to. */
  private socket: Socket | undefined;
  private client: pg.Client | undefined;
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
    if (this.listening) await Promise.race([this.client?.end(), new Promise((late) => setTimeout(late, 500))]);
    this.listening = false;
    this.socket?.destroy();
  }

  private async connect(): Promise<void> {
    const socket = new Socket();
    this.socket = socket;
    try {
      const client = await openClient({ ...this.config, stream: () => socket });
      this.client = client;
      client.on('end', () => this.lose(socket, 'the connection ended'));
      client.on('notification', ({ payload }) => {
        if (socket === this.socket && payload !== undefined && payload !== '') this.events.payload(payload);
      });
      await client.query(`LISTEN ${channel}`);
    } catch (error) {
      return this.lose(socket, error instanceof Error ? error.message : String(error));
    }
    if (socket !== this.socket || this.closed) return;
    this.attempt = 0;
    this.listening = true;
    this.lastBeatAt = performance.now();
    this.events.connected();
    this.timer = setTimeout(() => this.check(socket), heartbeatIntervalMs);
  }

  private check(socket: Socket): void {
    if (!this.healthy) return this.lose(socket, `no heartbeat came back within ${heartbeatDeadlineMs} ms`);
    this.timer = setTimeout(() => this.check(socket), heartbeatIntervalMs);
    // A beat that can't be sent is one that does not come back.
    this.beatSentAt = performance.now();
    this.sendBeat(`${this.name}:${++this.beat}`).catch(() => undefined);
  }

  private lose(socket: Socket, reason: string): void {
    if (this.closed || socket !== this.socket) return;
    this.socket = undefined;
    this.listening = false;
    clearTimeout(this.timer);
    socket.destroy();
    this.events.lost(reason);
    const waitMs = Math.min(retryMaxMs, retryFirstMs * 2 ** this.attempt++) * (0.5 + Math.random() / 2);
    this.timer = setTimeout(() => void this.connect(), waitMs);
  }
}
