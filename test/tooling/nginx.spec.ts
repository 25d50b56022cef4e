/** nginx/ as it is deployed, in front of servers that record what reaches them. */
import { execFile, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request as secureRequest } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';
import { parse } from 'yaml';
import { freePort } from '../../scripts/cluster/node-process.js';
import { findNginx, nginxFolder, startNginx, upstreams } from '../../scripts/cluster/nginx.js';
import { errorCodes } from '../../src/protocol/errors.js';
import { callAnything as call } from '../support/any-call.js';
import { eventually } from '../support/eventually.js';
import { startNode } from '../support/node.js';
import { createTestDatabase } from '../support/test-database.js';

const execute = promisify(execFile);
const ours = fileURLToPath(new URL('../../nginx', import.meta.url));

interface Seen {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingMessage['headers'];
}

interface Upstream {
  readonly port: number;
  readonly seen: Seen[];
  readonly server: Server;
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).toReversed()) await clean();
});

/** @param respond answers each request, or doesn't */
async function upstream(
  respond: (request: IncomingMessage, answer: ServerResponse) => void = (_, answer) => answer.end('{}'),
): Promise<Upstream> {
  const seen: Seen[] = [];
  const server = createServer(({ method, url, headers }, answer) => {
    seen.push({ method, url, headers });
    respond(answer.req, answer);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen, server };
}

interface Proxy {
  readonly port: number;
  readonly url: string;
  readonly path: string;
  readonly errors: () => string;
  readonly accessLog: () => Promise<string>;
}

/** Nginx as the cluster starts it. */
async function nginx(nodePorts: readonly number[]): Promise<Proxy> {
  const port = await freePort();
  const folder = await nginxFolder(await findNginx(), port, nodePorts);
  const errors = await serve(folder.start(), port);
  cleanups.push(() => rm(folder.path, { recursive: true }));
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    path: folder.path,
    errors,
    accessLog: () => readFile(join(folder.path, 'access.log'), 'utf8'),
  };
}

async function serve(child: ChildProcess, port: number): Promise<() => string> {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  cleanups.push(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  });
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(output);
    return (await fetch(`http://127.0.0.1:${port}/metrics`, { redirect: 'manual' })).status > 0;
  }, 'Nginx to serve');
  return () => output;
}

const body = { content: 'once' };
const cut = ({ socket }: IncomingMessage): unknown => socket.destroy();

describe('Nginx before the nodes', () => {
  it('sends a GET that got no answer to another node, and a POST never', async () => {
    const [dies, lives] = await Promise.all([upstream(cut), upstream()]);
    const { url } = await nginx([dies.port, lives.port]);
    // Whichever comes first, each of them is tried.
    const posts = [await call(url, '/rooms', { body }), await call(url, '/rooms', { body })];
    expect(posts.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 503]);
    expect([dies, lives].map(({ seen }) => seen.filter(({ method }) => method === 'POST').length)).toEqual([1, 1]);
    expect(posts.find(({ status }) => status === 503)?.body).toMatchObject({ code: 'unavailable', status: 503 });

    const other = await nginx([dies.port, lives.port]);
    const gets = [await call(other.url, '/rooms'), await call(other.url, '/rooms')];
    expect(gets.map(({ status }) => status)).toEqual([200, 200]);
  });

  it('sends a POST to another node when one does not take the connection', async () => {
    const lives = await upstream();
    const { url } = await nginx([await freePort(), lives.port]);
    const answers = await Promise.all(Array.from({ length: 20 }, () => call(url, '/rooms', { body })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(lives.seen).toHaveLength(20);
  });

  it('brings a socket to another node when one is going away, and REST too from then on; a 503 of REST it passes on', async () => {
    const leaving = await upstream((_, answer) => answer.writeHead(503).end('{"code":"overloaded"}'));
    const stays = await upstream();
    const sockets = new WebSocketServer({ server: stays.server });
    const { url } = await nginx([leaving.port, stays.port]);
    const overloaded = [await call(url, '/rooms'), await call(url, '/rooms')];
    expect(overloaded.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 503]);

    leaving.server.on('upgrade', (_: IncomingMessage, socket: Socket) => socket.end('HTTP/1.1 503 Service Unavailable\r\n\r\n'));
    for (let n = 0; n < 4; n++) {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/ws/some-room`);
      await once(socket, 'open');
      socket.terminate();
    }
    expect(sockets.clients.size).toBeLessThanOrEqual(4);
    leaving.seen.length = 0;
    const answers = await Promise.all(Array.from({ length: 10 }, () => call(url, '/rooms', { body })));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200));
    expect(leaving.seen).toEqual([]);
    sockets.close();
  });

  it('has no reason to give up a node, whatever body comes with a request', async () => {
    const db = await createTestDatabase();
    cleanups.push(() => db.drop());
    const node = await startNode(db.url, { TRUSTED_PROXIES: '127.0.0.1', ALLOWED_ORIGINS: 'https://chat.example.org' });
    cleanups.push(() => node.close());
    const { port, errors } = await nginx([Number(new URL(node.url).port)]);
    const cors = { origin: 'https://chat.example.org', 'access-control-request-method': 'POST' };
    const cases: [method: string, path: string, bytes: number, status: number, headers?: Record<string, string>][] = [
      ['POST', '/auth/login', 1_900_000, 413],
      ['POST', '/auth/login', 1_000_000, 400],
      ['GET', '/health/live', 1_000_000, 200],
      ['HEAD', '/health/live', 1_000_000, 200],
      ['OPTIONS', '/rooms', 1_000_000, 204, cors],
      ['DELETE', '/nowhere', 1_000_000, 400],
      ['TRACE', '/rooms', 1_000_000, 405],
      ['GET', '/ws?token=nonsense', 1_000_000, 400, { connection: 'upgrade', upgrade: 'websocket' }],
      ['POST', '/ws', 1_000_000, 400, { connection: 'upgrade', upgrade: 'websocket' }],
    ];
    for (const [method, path, bytes, status, more] of cases) {
      for (const headers of [{ 'content-length': String(bytes) }, { 'transfer-encoding': 'chunked' }]) {
        for (let n = 0; n < 4; n++) {
          const asked = request({ port, method, path, headers: { 'content-type': 'application/json', ...headers, ...more } });
          asked.on('error', () => undefined); // it need not take all of the body
          asked.end(' '.repeat(bytes));
          const [answer] = (await once(asked, 'response')) as [IncomingMessage];
          answer.resume();
          expect([method, path, bytes, answer.statusCode]).toEqual([method, path, bytes, status]);
        }
      }
    }
    expect(errors()).not.toMatch(/disabled|writev|reset/);
  }, 60_000);

  it('still asks the nodes when all of them have failed', async () => {
    let isBack = false;
    const node = await upstream((asked, answer) => (isBack ? answer.end('{}') : cut(asked)));
    const { url } = await nginx([node.port, await freePort()]);
    for (let n = 0; n < 4; n++) await call(url, '/rooms', { body });
    isBack = true;
    expect((await call(url, '/rooms', { body })).status).toBe(200);
  });

  it('tells the node who asks, whatever the client says, and upgrades to nothing but a WebSocket', async () => {
    const node = await upstream();
    const { url, port } = await nginx([node.port]);
    await call(url, '/rooms', { headers: { 'x-forwarded-for': '6.6.6.6', forwarded: 'for=6.6.6.6', 'x-forwarded-proto': 'https' } });
    expect(node.seen[0]?.headers).toMatchObject({ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http', host: `127.0.0.1:${port}` });
    expect(node.seen[0]?.headers).not.toHaveProperty('forwarded');
    const asked = request({ port, path: '/rooms', headers: { connection: 'upgrade', upgrade: 'h2c' } }).end();
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    answer.resume();
    expect(node.seen[1]?.headers).not.toHaveProperty('upgrade');
  });

  it('writes no token or invitation of an address into its logs, also when no node answers', async () => {
    const dies = createTcpServer((socket) => socket.destroy());
    await new Promise<void>((listening) => dies.listen(0, '127.0.0.1', listening));
    cleanups.push(() => dies.close());
    const { url, errors, accessLog } = await nginx([(dies.address() as AddressInfo).port, await freePort()]);
    for (const path of ['/ws?token=secret-token', '/ws/room?token=secret-token']) {
      const socket = new WebSocket(`${url.replace('http', 'ws')}${path}`);
      const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
      expect(answer.statusCode).toBe(503);
      socket.on('error', () => undefined).terminate();
    }
    expect((await fetch(`${url}/ws?token=secret-token&${'x'.repeat(5_000)}`)).status).toBe(414);
    expect((await fetch(`${url}/invites/secret-code/join`, { method: 'POST' })).status).toBe(503);
    const log = await eventually(async () => {
      const text = await accessLog();
      return text.trimEnd().split('\n').length >= 4 && text;
    }, 'the access log');
    expect(log).toMatch(/"path":"\/ws","status":503/);
    expect(log).toMatch(/"path":"\/invites\/-","status":503/);
    expect(log + errors()).not.toMatch(/secret-token|secret-code/);
  });

  it('answers what it refuses itself as the nodes do', async () => {
    const node = await upstream();
    const { url } = await nginx([node.port]);
    const tooLarge = await call(url, '/rooms', { method: 'POST', raw: 'x'.repeat(2_200_000) });
    expect(tooLarge.body).toMatchObject({ status: 413, code: 'message_too_long', title: errorCodes.message_too_long.meaning });
    expect(tooLarge.headers.get('content-type')).toBe('application/problem+json');
    expect((await fetch(`${url}/metrics`)).status).toBe(404);
    expect(node.seen).toEqual([]);
    const text = await readFile(join(ours, 'locations.conf'), 'utf8');
    const documents = [...text.matchAll(/return \d+ '(.+)';/g)].map(
      ([, json]) => JSON.parse(json ?? '') as { code: keyof typeof errorCodes },
    );
    expect(documents.map(({ code }) => code)).toEqual(['message_too_long', 'rate_limited', 'unavailable']);
    for (const problem of documents) {
      const { status, meaning } = errorCodes[problem.code];
      expect(problem).toMatchObject({ status, title: meaning, type: `urn:trunkline:error:${problem.code}` });
    }
  });

  it('limits the connections of an address', async () => {
    const node = await upstream();
    const sockets = new WebSocketServer({ server: node.server });
    const { url, path, port } = await nginx([node.port]);
    const server = await readFile(join(path, 'server.conf'), 'utf8');
    await writeFile(join(path, 'server.conf'), server.replace(/per_address \d+/, 'per_address 3'));
    process.kill(Number(await readFile(join(path, 'nginx.pid'), 'utf8')), 'SIGHUP');
    const refused = await eventually(async () => {
      const held = Array.from({ length: 4 }, () => new WebSocket(`ws://127.0.0.1:${port}/ws`).on('error', () => undefined));
      const ends = await Promise.all(
        held.map((one) =>
          Promise.race([
            once(one, 'open').then(() => 101),
            once(one, 'unexpected-response').then(([, { statusCode }]) => statusCode as number),
          ]),
        ),
      );
      const answer = ends.includes(429) ? await call(url, '/rooms') : undefined;
      for (const one of held) one.terminate();
      // Those of the try before may count for a moment after their end.
      return answer?.status === 429 && ends.filter((end) => end === 101).length === 3 ? { ends, answer } : undefined;
    }, 'the reload');
    expect(refused.ends.toSorted((a, b) => a - b)).toEqual([101, 101, 101, 429]);
    expect(refused.answer.body).toMatchObject({ status: 429, code: 'rate_limited' });
    sockets.close();
  });
});

describe('the configuration of compose', () => {
  /** As docker-compose.yml mounts it. */
  async function deployed(
    server: 'plain' | 'tls',
    change: (text: string) => string = (text) => text,
  ): Promise<{ path: string; args: string[] }> {
    const path = await mkdtemp(join(tmpdir(), 'trunkline-nginx-'));
    cleanups.push(() => rm(path, { recursive: true }));
    for (const file of ['nginx.conf', 'locations.conf']) await copyFile(join(ours, file), join(path, file));
    for (const [file, from] of [
      ['server.conf', `${server}.conf`],
      ['status.conf', 'status.conf'],
      ['upstreams.conf', 'upstreams.conf'],
    ] as const)
      await writeFile(join(path, file), change(await readFile(join(ours, from), 'utf8')));
    await mkdir(join(path, 'tls'));
    const files = ['-keyout', join(path, 'tls/privkey.pem'), '-out', join(path, 'tls/fullchain.pem')];
    if (server === 'tls')
      await execute('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost', ...files]);
    return { path, args: ['-p', `${path}/`, '-c', join(path, 'nginx.conf'), '-e', 'stderr'] };
  }

  it.each(['plain', 'tls'] as const)('is one that Nginx accepts: %s.conf', async (server) => {
    const { args } = await deployed(server, (text) => text.replaceAll('/dev/stdout', 'access.log')); // Node's pipes can't be opened by that name
    const { stderr } = await execute(await findNginx(), [...args, '-t']);
    expect(stderr).toMatch(/test is successful/);
    expect(stderr).not.toMatch(/warn|emerg/);
  });

  it('serves REST and sockets by TLS, tells the node so, and sends those without it there', async () => {
    const node = await upstream();
    const sockets = new WebSocketServer({ server: node.server });
    const [port, tlsPort, statusPort] = [await freePort(), await freePort(), await freePort()];
    const { path } = await deployed('tls', (text) =>
      text
        .replace('listen 8080', `listen ${port}`)
        .replace('listen 8443', `listen ${tlsPort}`)
        .replace('listen 8081', `listen ${statusPort}`)
        .replaceAll('/dev/stdout', 'access.log')
        .replace('172.30.77.11:3000', `127.0.0.1:${node.port}`)
        .replaceAll(/^ *server 172.*$/gm, ''),
    );
    await serve(startNginx(await findNginx(), path), port);
    const moved = await fetch(`http://127.0.0.1:${port}/rooms?q=a`, { redirect: 'manual' });
    expect([moved.status, moved.headers.get('location')]).toEqual([308, 'https://127.0.0.1/rooms?q=a']);
    const [answer] = (await once(secureRequest({ port: tlsPort, path: '/rooms', rejectUnauthorized: false }).end(), 'response')) as [
      IncomingMessage,
    ];
    answer.resume();
    expect(answer.statusCode).toBe(200);
    expect(node.seen[0]?.headers['x-forwarded-proto']).toBe('https');
    const socket = new WebSocket(`wss://127.0.0.1:${tlsPort}/ws`, { rejectUnauthorized: false });
    await once(socket, 'open');
    socket.terminate();
    sockets.close();
  });

  it('tells this machine and the network of compose how many connections it has, on a port that is not published', async () => {
    const [port, statusPort] = [await freePort(), await freePort()];
    const node = await upstream();
    const { path } = await deployed('plain', (text) =>
      text
        .replace('listen 8080', `listen ${port}`)
        .replace('listen 8081', `listen ${statusPort}`)
        .replace('/dev/stdout', 'access.log')
        .replace('172.30.77.11:3000', `127.0.0.1:${node.port}`)
        .replaceAll(/^ *server 172.*$/gm, ''),
    );
    await serve(startNginx(await findNginx(), path), port);
    const status = await fetch(`http://127.0.0.1:${statusPort}/status`);
    expect([status.status, await status.text()]).toEqual([200, expect.stringMatching(/^Active connections: \d+ \nserver accepts handled/)]);
    const from = { host: '127.0.0.1', port: statusPort, path: '/status', localAddress: '127.0.0.2' };
    const [stranger] = (await once(request(from).end(), 'response')) as [IncomingMessage];
    stranger.resume();
    expect(stranger.statusCode).toBe(403);
    expect((await fetch(`http://127.0.0.1:${statusPort}/rooms`)).status).toBe(404);
    await fetch(`http://127.0.0.1:${port}/status`);
    expect(node.seen.map(({ url }) => url)).toEqual(['/status']);

    const compose = parse(await readFile(join(ours, '../docker-compose.yml'), 'utf8')) as {
      services: Record<
        'nginx' | 'nginx-exporter',
        { ports?: string[]; command: string[]; networks: { trunkline: { ipv4_address: string } } }
      >;
      networks: { trunkline: { ipam: { config: { subnet: string }[] } } };
    };
    const text = await readFile(join(ours, 'status.conf'), 'utf8');
    const { nginx: service, 'nginx-exporter': exporter } = compose.services;
    expect(service.ports?.filter((published) => published.endsWith(':8081'))).toEqual([]);
    expect(exporter.command).toEqual([`--nginx.scrape-uri=http://${service.networks.trunkline.ipv4_address}:8081/status`]);
    expect(text).toContain(`allow ${compose.networks.trunkline.ipam.config[0]?.subnet};`);
  });

  it('has the nodes with the same rules as the cluster', async () => {
    const text = await readFile(join(ours, 'upstreams.conf'), 'utf8');
    const addresses = Array.from({ length: 5 }, (_, n) => `172.30.77.${11 + n}:3000`);
    expect(text.slice(text.indexOf('upstream'))).toBe(upstreams(addresses));
  });
});
