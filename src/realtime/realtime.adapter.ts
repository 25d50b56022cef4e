import type { IncomingMessage, Server } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { INestApplication } from '@nestjs/common';
import { WsAdapter } from '@nestjs/platform-ws';
import type { ServerOptions, WebSocketServer } from 'ws';
import type { AccessTokens, Identity } from '../auth/access-tokens.js';
import type { AllowedOrigins } from '../auth/allowed-origins.js';
import { accessTokenCookie } from '../auth/auth-cookies.js';
import { bearerToken } from '../auth/auth.guard.js';
import { ClientError, errorCodes } from '../protocol/errors.js';
import { limits } from '../protocol/limits.js';
import { InSlices } from './in-slices.js';

/** What ws is to bound: a frame that comes in many pieces costs memory for each piece, whatever its size. */
export const wsOptions = {
  maxPayload: limits.frameMaxBytes,
  maxFragments: 1_024,
  maxBufferedChunks: 8_192,
  perMessageDeflate: false,
  autoPong: false, // Connection answers
  /** How long a closing handshake may take before the connection is cut. */
  closeTimeout: 1_000,
} as const satisfies ServerOptions & { closeTimeout: number };

/** For who was refused to read why and to close its side. */
const refusedLingerMs = 1_000;

/** Some 13 ms of a turn, with what the new sockets send at once. */
const handshakesPerTurn = 32;

/** A socket at /ws/ and a room's id joins that room as soon as it is authenticated. */
const withRoom = /^\/ws\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i;

interface Opener {
  readonly identity: Identity;
  /** Known by nothing but what the browser added. */
  readonly isByCookie: boolean;
}

const openers = new WeakMap<IncomingMessage, Opener>();

/** Who opened a socket, where the handshake said so. */
export const openerOf = (request: IncomingMessage): Opener | undefined => openers.get(request);

/** The room that a socket is to join at once, where its address says so. */
export const roomOf = (request: IncomingMessage): string | undefined => withRoom.exec(urlOf(request)?.pathname ?? '')?.[1]?.toLowerCase();

/**
 * Nest's adapter for ws, with our own way in: the credentials are judged at the HTTP upgrade, so that a bad token costs a 401 and no socket, and the
 * frames go to our connections, because Nest's dispatch runs the commands of one socket at the same time.
 */
export class RealtimeAdapter extends WsAdapter {
  /** Those that are read and not answered; so many connections at most as the server takes. */
  private readonly handshakes = new InSlices<() => void>(handshakesPerTurn, (shakeHands) => shakeHands());

  /** @param isDraining true when the node takes no new sockets */
  constructor(
    app: INestApplication,
    private readonly tokens: AccessTokens,
    private readonly origins: AllowedOrigins,
    private readonly isDraining: () => boolean,
  ) {
    super(app);
  }

  override create(port: number, options: Record<string, unknown> & { path?: string } = {}): unknown {
    return super.create(port, { ...options, ...wsOptions } as never);
  }

  override bindMessageHandlers(): void {
    // Connection listens for itself.
  }

  override bindClientDisconnect(): void {
    // The gateway listens for itself: Nest's listener would be half a KiB a socket for nobody.
  }

  /** Nest's would log an error with its stack for each bad frame, for which its sender needs six bytes. Connection listens for itself. */
  override bindErrorHandler(server: WebSocketServer): WebSocketServer {
    return server;
  }

  protected override ensureHttpServerExists(port: number, httpServer?: Server): Server | undefined {
    if (httpServer === undefined) throw new Error('sockets are served on the port of REST');
    if (this.httpServersRegistry.has(port)) return undefined;
    this.httpServersRegistry.set(port, httpServer);
    httpServer.on('upgrade', (request, socket, head) => this.upgrade(port, request, socket, head));
    return httpServer;
  }

  private upgrade(port: number, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Until ws has it, the socket is nobody's: its failure must not be the process's.
    socket.on('error', destroy);
    this.handshakes.put(() => this.shakeHands(port, request, socket, head));
  }

  private shakeHands(port: number, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Node asks neither of an upgrade; RFC 6455, section 4.2.1 does.
    if (request.httpVersion !== '1.1' || request.headers.host === undefined) return refuse(socket, 400);
    const url = urlOf(request);
    const server = (this.wsServersRegistry.get(port) as (WebSocketServer & { path: string })[] | undefined)?.find(
      ({ path }) => path === url?.pathname || (path === '/ws' && roomOf(request) !== undefined),
    );
    if (url === undefined || server === undefined) return refuse(socket, 404);
    if (hasBody(request)) return refuse(socket, 400); // it would be taken for frames
    if (this.isDraining()) return refuse(socket, 503);
    try {
      // Whether the session is over is looked up by the connection: a browser can't read why a handshake was refused.
      const opener = this.judge(request, url);
      if (opener !== undefined) openers.set(request, opener);
    } catch (error) {
      const code = error instanceof ClientError ? error.code : 'unauthenticated';
      return refuse(socket, errorCodes[code].status, code);
    }
    server.handleUpgrade(request, socket, head, (webSocket) => server.emit('connection', webSocket, request));
  }

  /**
   * What the client says itself, in the header or else in the address, is judged alone. The cookie counts only without that, and only of a page that is
   * allowed, because any page can make a browser open a socket that carries it. A cookie that does not count is as none: it must not lock out a page
   * that is about to send `auth`.
   * @returns undefined where nobody is known: the first frame has to say who it is
   * @throws ClientError `unauthenticated`, `token_expired`
   */
  private judge(request: IncomingMessage, url: URL): Opener | undefined {
    const said = bearerToken(request) ?? url.searchParams.get('token') ?? undefined;
    if (said !== undefined) return { identity: this.tokens.verify(said), isByCookie: false };
    const cookie = accessTokenCookie(request);
    if (cookie === undefined || !this.origins.allows(request)) return undefined;
    try {
      return { identity: this.tokens.verify(cookie), isByCookie: true };
    } catch {
      return undefined;
    }
  }
}

/** A function of its own: a closure of the upgrade would keep the request, a third of what an idle socket costs, for as long as the socket lives. */
function destroy(this: Duplex): void {
  this.destroy();
}

const urlOf = ({ url = '' }: IncomingMessage): URL | undefined => (URL.canParse(url, 'ws://node') ? new URL(url, 'ws://node') : undefined);

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

function refuse(socket: Duplex, status: number, code?: string): void {
  const body = JSON.stringify({ title: STATUS_CODES[status], status, ...(code !== undefined && { code }) });
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  // Cut at once, it would look to a proxy that still sends as if the node had failed; but a peer that does not close its side must not hold it.
  socket.once('end', destroy).resume();
  setTimeout(() => socket.destroy(), refusedLingerMs).unref();
}
