import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

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
  /** Passes on one byte after the other, each a packet of its own, and waits so many ms after every sixteenth; undefined to pass on what comes as it comes. */
  trickleMs: number | undefined;
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

/** @param waitMs undefined as soon as it is over: what is on its way then comes at once */
async function trickle(chunk: Buffer, from: Socket, to: Socket, waitMs: () => number | undefined): Promise<void> {
  from.pause();
  to.setNoDelay(true);
  let n = 0;
  for (let ms = waitMs(); n < chunk.length && !to.destroyed && ms !== undefined; n++, ms = waitMs()) {
    const taken = to.write(chunk.subarray(n, n + 1));
    if (n % 16 === 15) await delay(ms);
    if (!taken) await new Promise<void>((go) => to.once('drain', go).once('close', go));
  }
  from.resume();
  if (n < chunk.length && !to.destroyed) pass(chunk.subarray(n), from, to);
}

export async function startProxy(targetUrl: string): Promise<Proxy> {
  let target = new URL(targetUrl);
  const pairs = new Set<{ client: Socket; server: Socket; swallowed: boolean }>();
  let swallowing = false;
  const passOn = (chunk: Buffer, from: Socket, to: Socket): void => {
    if (proxy.trickleMs === undefined) pass(chunk, from, to);
    else void trickle(chunk, from, to, () => proxy.trickleMs);
  };
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
      passOn(chunk, client, server);
    });
    server.on('data', (chunk) => {
      if (pair.swallowed) return;
      const passed = proxy.onServerData?.(chunk, link) ?? true;
      if (passed === false) return end();
      passOn(passed === true ? chunk : passed, server, client);
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
    trickleMs: undefined,
    async close() {
      this.cut();
      await new Promise((closed) => listener.close(closed));
    },
  };
  return proxy;
}
