import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Inject, type BeforeApplicationShutdown, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import type { WebSocket } from 'ws';
import { AccessTokens } from '../auth/access-tokens.js';
import { Sessions } from '../auth/sessions.js';
import { Feed } from '../bus/feed.js';
import { ChatService } from '../chat/chat.service.js';
import { CONFIG, type Config } from '../config.js';
import { LOGGER, nodeName, seldom } from '../logger.js';
import { PresenceService } from '../presence/presence.service.js';
import { Connection, type ConnectionParts } from './connection.js';
import { newCounters } from './counters.js';
import { Hub } from './hub.js';
import { openerOf, roomOf } from './realtime.adapter.js';
import { SessionWatch } from './session-watch.js';
import { UserSockets } from './user-sockets.js';

const sweepIntervalMs = 1_000;
/** After a connection was told to go, how long its accepted sends may take to be answered. */
const answerDeadlineMs = 5_000;
/** When a send that can't be stored is given up: before that, by more than a lock's time-out. */
const sendDeadlineMs = 2_500;

/** The sockets of this node: opens them, keeps their time limits, and sends them elsewhere when the node goes away. */
@WebSocketGateway({ path: '/ws' })
export class RealtimeGateway implements OnGatewayConnection, OnApplicationBootstrap, OnModuleDestroy, BeforeApplicationShutdown {
  readonly counters = newCounters();
  private readonly connections = new Set<Connection>();
  private readonly parts: ConnectionParts;
  private readonly sessionWatch: SessionWatch;
  private sweepTimer: NodeJS.Timeout | undefined;
  private heartbeatTimer: NodeJS.Timeout | undefined;
  private draining: Promise<void> | undefined;

  constructor(
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) log: Logger,
    tokens: AccessTokens,
    sessions: Sessions,
    chat: ChatService,
    feed: Feed,
    hub: Hub,
    presence: PresenceService,
  ) {
    const userSockets = new UserSockets(config.RATE_LIMITS === 'off' ? Number.POSITIVE_INFINITY : config.SOCKETS_PER_USER_MAX);
    this.parts = {
      config,
      nodeName: nodeName(config),
      log,
      tokens,
      sessions,
      userSockets,
      chat,
      feed,
      hub,
      presence,
      counters: this.counters,
      noteBug: seldom((error) => log.error({ err: error }, 'what a socket missed could not be read, and is tried again')),
    };
    this.sessionWatch = new SessionWatch(sessions, log);
    presence.attach({ push: (roomId, frames) => hub.push(roomId, frames), isBusy: () => chat.isBusy });
  }

  get isDraining(): boolean {
    return this.draining !== undefined;
  }

  get connectionCount(): number {
    return this.connections.size;
  }

  /** Sockets that do not take what waits for them. */
  get laggingCount(): number {
    let count = 0;
    for (const { isLagging } of this.connections) if (isLagging) count++;
    return count;
  }

  /** Bytes that sockets have not taken, of all of them. */
  get unsentBytes(): number {
    let bytes = 0;
    for (const { outbox } of this.connections) bytes += outbox.waitingBytes;
    return bytes;
  }

  onApplicationBootstrap(): void {
    this.sweepTimer = setInterval(() => {
      for (const connection of this.connections) connection.sweep();
      void this.sessionWatch.check(this.connections);
    }, sweepIntervalMs);
    this.heartbeatTimer = setInterval(() => {
      for (const connection of this.connections) connection.heartbeat();
    }, this.parts.config.HEARTBEAT_MS);
  }

  handleConnection(socket: WebSocket, request: IncomingMessage): void {
    const connection = new Connection(uuidv7(), socket, this.parts, roomOf(request));
    this.connections.add(connection);
    socket.on('close', () => {
      this.connections.delete(connection);
      connection.release();
    });
    // Not by a status of the handshake: Nginx would take a 5xx for a node that is down, and REST with it.
    if (this.connections.size > this.parts.config.SOCKETS_MAX) return connection.close('tryAgainLater');
    const opener = openerOf(request);
    if (opener !== undefined) connection.authenticate(opener.identity, opener.isByCookie);
    if (this.isDraining) connection.close('serviceRestart');
  }

  onModuleDestroy(): Promise<void> {
    return this.drain();
  }

  beforeApplicationShutdown(): void {
    clearInterval(this.sweepTimer);
    clearInterval(this.heartbeatTimer);
  }

  /**
   * Sends all clients to other nodes: each is told at once, and closed at a moment of its own within DRAIN_MS, after its accepted sends were
   * answered. Resolves when all are closed.
   */
  drain(): Promise<void> {
    this.draining ??= this.sendAllAway();
    return this.draining;
  }

  private async sendAllAway(): Promise<void> {
    this.parts.chat.giveUpAfter(this.parts.config.DRAIN_MS + sendDeadlineMs);
    await Promise.all([...this.connections].map((connection) => this.sendAway(connection)));
    // Each closing handshake has a deadline of its own.
    while (this.connections.size > 0) await delay(10);
  }

  private async sendAway(connection: Connection): Promise<void> {
    const afterMs = Math.round(Math.random() * this.parts.config.DRAIN_MS);
    connection.push('reconnect', { after_ms: afterMs, reason: 'this node is going away' });
    await delay(afterMs);
    const deadline = performance.now() + answerDeadlineMs;
    connection.stopAccepting();
    while (!connection.isIdle && performance.now() < deadline) await delay(10);
    connection.close('serviceRestart');
  }
}
