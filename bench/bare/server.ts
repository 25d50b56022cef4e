/**
 * The limit of what has to do with connections: a bare `ws` server, which holds sockets, asks nothing of them, and writes frames that were made once for all
 * of them. It takes what one socket sends as what all are to get.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';
import { textFrame } from '../../src/realtime/frame.js';
import type { FromBare, ToBare } from './bare.js';

const sockets = new Set<Socket>();

process.on('disconnect', () => process.exit());
process.on('message', (told: ToBare) => void serve(Buffer.from(told.greeting, 'base64')));

async function serve(greeting: Buffer): Promise<void> {
  const http = createServer();
  const server = new WebSocketServer({ server: http, perMessageDeflate: false });
  server.on('connection', (socket: WebSocket & { _socket: Socket }) => {
    const { _socket: raw } = socket;
    sockets.add(raw);
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => sockets.delete(raw));
    socket.on('message', (data) => {
      const frame = textFrame((data as Buffer).toString());
      for (const each of sockets) each.write(frame);
    });
    if (greeting.length > 0) raw.write(greeting);
  });
  http.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 });
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  process.send?.({ url: `http://127.0.0.1:${port}` } satisfies FromBare);
}
