import { createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import WebSocket, { WebSocketServer } from 'ws';

/** Stands before a node as a proxy does, and can tamper with the frames of each socket. */
export interface Relay {
  readonly url: string;
  /** Cuts the connections of a user, as a network does. */
  cut(username: string): void;
  close(): Promise<void>;
}

export interface Faults {
  /** What the client gets in place of the frame, and when; by default the frame, at once. */
  push?: (frame: string, username: string) => { frames: readonly string[]; delayMs?: number } | undefined;
  /** False to swallow the command. */
  command?: (frame: string, username: string) => boolean;
}

export async function startRelay(targetUrl: string, { push, command }: Faults = {}): Promise<Relay> {
  const sockets = new Map<WebSocket, string>();
  const timers = new Set<NodeJS.Timeout>();
  const server = createServer((incoming, answer) => {
    const onward = request(`${targetUrl}${incoming.url}`, { method: incoming.method ?? 'GET', headers: incoming.headers }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    incoming.pipe(onward);
  });
  const clients = new WebSocketServer({ server });
  clients.on('connection', (client, incoming) => {
    const username = nameOf(incoming);
    const node = new WebSocket(`${targetUrl.replace('http', 'ws')}${incoming.url}`);
    const opened = new Promise((open) => node.once('open', open));
    sockets.set(client, username);
    client.on('message', (data) => {
      const frame = (data as Buffer).toString();
      if (command?.(frame, username) ?? true) void opened.then(() => node.readyState === WebSocket.OPEN && node.send(frame));
    });
    node.on('message', (data) => {
      const text = (data as Buffer).toString();
      const { frames, delayMs } = push?.(text, username) ?? { frames: [text] };
      const send = (): void => frames.forEach((frame) => client.send(frame));
      if (delayMs === undefined) return send();
      const timer = setTimeout(() => {
        timers.delete(timer);
        send();
      }, delayMs);
      timers.add(timer);
    });
    client.on('close', () => {
      sockets.delete(client);
      node.terminate();
    });
    node.on('close', () => client.terminate());
    for (const socket of [client, node]) socket.on('error', () => undefined); // seen as a close
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut(username) {
      for (const [socket, name] of sockets) if (name === username) socket.terminate();
    },
    async close() {
      for (const timer of timers) clearTimeout(timer);
      for (const socket of sockets.keys()) socket.terminate();
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

/** Of the user whose access token is in the address. */
function nameOf({ url = '/' }: IncomingMessage): string {
  const token = new URL(url, 'http://relay').searchParams.get('token') ?? '';
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { name: string };
  return claims.name;
}
