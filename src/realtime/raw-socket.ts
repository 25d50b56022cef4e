import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';

/**
 * The TCP socket below a WebSocket, which ws keeps as `_socket`. Frames that were made once for many sockets are written to it directly;
 * without compression ws writes its own frames at once too, so that the two never mix within a frame.
 */
export function rawSocketOf(socket: WebSocket): Socket {
  const { _socket: raw } = socket as WebSocket & { _socket?: Socket };
  if (raw === undefined) throw new Error('this version of ws has no _socket');
  return raw;
}
