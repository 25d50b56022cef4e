import { createServer, connect, type AddressInfo, type Socket } from 'node:net';

/** One connection by way of a proxy; the same object for as long as it lasts. */
export interface Link {
  /** Sends the server something that no client sent. */
  toServer(bytes: Buffer): void;
  toClient(bytes: Buffer): void;
}

/** A TCP proxy that can be told to misbehave. Stands before PostgreSQL or a node. */
export interface Proxy {
  readonly port: number;
  /** The given URL, by way of the proxy. */
  through(url: string): string;
  /** From now on nothing passes in either direction, and nobody is told: a half-open connection. */
  swallow(): void;
  /** Passes on again, for new connections; those that swallowed stay as they are. */
  heal(): void;
  /** Cuts every connection now. */
  cut(): void;
  /** Called with each chunk that the server sends; return false to drop it and cut that connection instead, or what is to be passed on in its place. */
  onServerData: ((chunk: Buffer, link: Link) => boolean | Buffer) | undefined;
  /** Called with each chunk that a client sends, before it is passed on. */
  onClientData: ((chunk: Buffer, link: Link) => void) | undefined;
  /** Leads new connections to this server from now on. */
  lead(targetUrl: string): void;
  close(): Promise<void>;
}

/** Reads no faster than the other side takes it, so that a slow reader is one for who writes to it. */
function pass(chunk: Buffer, from: Socket, to: Socket): void {
  if (to.write(chunk)) return;
  from.pause();
  to.once('drain', () => from.resume());
}

export async function startProxy(targetUrl: string): Promise<Proxy> {
  let target = new URL(targetUrl);
  const pairs = new Set<{ client: Socket; server: Socket; swallowed: boolean }>();
  let swallowing = false;
  const listener = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    const pair = { client, server, swallowed: swallowing };
    const link: Link = { toServer: (bytes) => server.write(bytes), toClient: (bytes) => client.write(bytes) };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.on('data', (chunk) => {
      if (pair.swallowed) return;
      proxy.onClientData?.(chunk, link);
      pass(chunk, client, server);
    });
    server.on('data', (chunk) => {
      if (pair.swallowed) return;
      const passed = proxy.onServerData?.(chunk, link) ?? true;
      if (passed === false) return end();
      pass(passed === true ? chunk : passed, server, client);
    });
  });
  await new Promise<void>((listening) => listener.listen(0, '127.0.0.1', listening));
  const { port } = listener.address() as AddressInfo;
  const proxy: Proxy = {
    port,
    through(url) {
      const by = new URL(url);
      by.host = `127.0.0.1:${port}`;
      return by.href;
    },
    swallow() {
      swallowing = true;
      for (const pair of pairs) pair.swallowed = true;
    },
    heal() {
      swallowing = false;
    },
    cut() {
      for (const { client, server } of pairs) {
        client.destroy();
        server.destroy();
      }
    },
    lead(url) {
      target = new URL(url);
    },
    onServerData: undefined,
    onClientData: undefined,
    async close() {
      this.cut();
      await new Promise((closed) => listener.close(closed));
    },
  };
  return proxy;
}
