/**
 * What clients meet: the address that they use, with the proxy before the nodes. Asks as a client without an account, and shows by the answers'
 * form whether it was a node that answered.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import WebSocket from 'ws';
import { accessCookie } from '../auth/auth-cookies.js';
import { networkOf } from '../auth/caller.js';
import { rateLimitKey } from '../auth/rate-limits.js';
import type { Config } from '../config.js';
import { limits } from '../protocol/limits.js';
import { fail, ok, reasonOf, warn, type Check, type Finding } from './check.js';
import { isPublic, type Server } from './server.js';

export interface Front {
  /** Without a slash at the end. */
  readonly url: string;
  readonly config: Config;
  /** Where the database could be reached. */
  readonly server: Server | undefined;
}

const answerDeadlineMs = 5_000;
/** Of a network that is nobody's (RFC 3849), and was not used by the doctor before. */
const madeUpAddress = (): string => `2001:db8:${randomBytes(4).toString('hex').replace(/^.{4}/, '$&:')}::1`;

export const frontChecks: readonly Check<Front>[] = [
  { name: 'address', isGate: true, run: reachable },
  { name: 'GET /health', run: health },
  { name: 'TLS', run: tls },
  { name: 'WebSocket upgrade', run: upgrade },
  { name: 'WebSocket frames', run: frames },
  { name: 'Host header', run: ownHost },
  { name: 'client addresses', run: clientAddresses },
  { name: 'size of requests', run: requestSize },
  { name: 'GET /metrics', run: metrics },
];

const ask = (url: string, init: RequestInit = {}): Promise<Response> =>
  fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(answerDeadlineMs), ...init });

/** A node's refusals are problem documents; a proxy's are not. */
const isNodes = (headers: { get(name: string): string | null }): boolean =>
  headers.get('content-type')?.startsWith('application/problem+json') === true;

async function reachable({ url }: Front): Promise<readonly Finding[]> {
  try {
    await ask(url);
    return ok('answers');
  } catch (error) {
    return fail(`can't be reached: ${reasonOf((error as Error).cause ?? error)}`);
  }
}

async function health({ url }: Front): Promise<readonly Finding[]> {
  const answer = await ask(`${url}/health`);
  const text = await answer.text();
  if (answer.status === 200 && text.includes('"status":"ok"')) return ok('a node serves');
  if (answer.status === 503 && text.includes('"reasons"')) return fail(`a node answers that it can't serve: ${text}`);
  if ([502, 503, 504].includes(answer.status))
    return fail(`the proxy answers ${answer.status}: it reaches no node. Do the nodes run, and is its upstream right?`);
  if (answer.status >= 300 && answer.status < 400) return fail(`it redirects to ${answer.headers.get('location')}: give that address`);
  return fail(`it answers ${answer.status}, and not as a node would: is this address Trunkline's, without a path before it?`);
}

function tls({ url }: Front): readonly Finding[] {
  if (url.startsWith('https:')) return ok('https');
  const { hostname } = new URL(url);
  const isPrivate = hostname === 'localhost' || (/^[\d.]+$|:/.test(hostname) && !isPublic(hostname.replaceAll(/[[\]]/g, '')));
  return isPrivate
    ? ok('plain, in a private network')
    : warn('plain http: passwords and tokens can be read on the way. Let the proxy speak TLS');
}

/** A handshake with a token that is none: a node refuses it with 401, a proxy that does not pass it on with something else. */
async function upgrade({ url }: Front): Promise<readonly Finding[]> {
  const answer = await handshake(url, { authorization: 'Bearer of-the-doctor' });
  if (answer === 'open') return fail('it lets a token in that is none: is this address Trunkline’s?');
  const { statusCode: status = 0, headers } = answer;
  const isOurs = isNodes(new Headers({ 'content-type': headers['content-type'] ?? '' }));
  if (status === 401 && isOurs) return ok('reaches a node');
  if ([502, 503, 504].includes(status)) return fail(`it is answered with ${status}: the nodes are going away, or the proxy reaches none`);
  return fail(
    `it is answered with ${status} instead of 401: the proxy does not pass the upgrade on. ` +
      'Nginx needs for /ws: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"',
  );
}

/** A socket without credentials: it opens, and a command is answered. */
async function frames({ url }: Front): Promise<readonly Finding[]> {
  const socket = new WebSocket(socketUrl(url), { handshakeTimeout: answerDeadlineMs });
  try {
    return await new Promise<readonly Finding[]>((done) => {
      socket.on('error', (error) => done(fail(`no socket: ${error.message}`)));
      socket.on('close', (code) => done(fail(`the socket was closed with ${code} before its first command was answered`)));
      socket.on('open', () => socket.send(JSON.stringify({ event: 'ping', id: 'doctor', data: {} })));
      socket.on('message', (data) =>
        done(answersPing((data as Buffer).toString()) ? ok('pass in both directions') : fail('a frame is not answered as a node would')),
      );
    });
  } finally {
    socket.terminate();
  }
}

const answersPing = (frame: string): boolean => frame.includes('"id":"doctor"');

/** Cookies are taken from pages of the request's own host: the node must see the host that the browser sees. */
async function ownHost({ url, config }: Front): Promise<readonly Finding[]> {
  const { origin } = new URL(url);
  // With a token that is none: where the page is one of the node's own, the token is looked at.
  const { status } = await ask(`${url}/auth/logout`, { method: 'POST', headers: { cookie: `${accessCookie}=of-the-doctor`, origin } });
  if (status === 401) return ok('pages of this address may use their cookies');
  if (status !== 403) return warn(`can't tell: a logout was answered with ${status}`);
  return config.ALLOWED_ORIGINS === ''
    ? warn(
        'the node sees another host than the browser, so that cookies are refused: proxy_set_header Host $http_host, or name the address in ALLOWED_ORIGINS',
      )
    : warn(`pages of ${origin} may not use their cookies: add it to ALLOWED_ORIGINS if they are yours`);
}

/** Fails one login and looks under which address it was counted. */
async function clientAddresses({ url, config, server }: Front): Promise<readonly Finding[]> {
  if (config.RATE_LIMITS === 'off') return ok('do not count while RATE_LIMITS=off');
  if (server === undefined) return warn("can't tell without the database");
  const address = madeUpAddress();
  const answer = await ask(`${url}/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-forwarded-for': address },
    body: JSON.stringify({ username: `doctor-${randomUUID().slice(0, 8)}`, password: randomUUID() }),
  });
  if (answer.status !== 401) return warn(`can't tell: a login was answered with ${answer.status}`);
  const { rows } = await server.sql.query('SELECT FROM rate_limits WHERE key = $1', [
    rateLimitKey('loginFromNetwork', networkOf({ address })),
  ]);
  if (rows.length > 0) {
    const text =
      'a client can make up its address and so escape the limits on guessing: proxy_set_header X-Forwarded-For $remote_addr, ' +
      'and TRUSTED_PROXIES with the proxy’s address alone';
    // A trusted machine may speak for others; so it can't tell what a stranger may.
    return isOneOf(config.TRUSTED_PROXIES)
      ? warn(`${text}; or only this machine can, which is one of TRUSTED_PROXIES: run the doctor elsewhere`)
      : fail(text);
  }
  return config.TRUSTED_PROXIES === '' && answer.headers.has('server')
    ? warn('all clients count as one, the proxy, so that a few bad guesses lock everybody out: set TRUSTED_PROXIES to its address')
    : ok('are not the client’s to choose');
}

/** Whether this machine has an address of the list. */
function isOneOf(proxies: string): boolean {
  const own = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => ipaddr.process(address)));
  return proxies.split(',').some((entry) => {
    const text = entry.trim();
    if (text === '') return false;
    const [network, bits] = text.includes('/') ? ipaddr.parseCIDR(text) : [ipaddr.process(text), undefined];
    return own.some(
      (address) => address.kind() === network.kind() && address.match(network, bits ?? (network.kind() === 'ipv4' ? 32 : 128)),
    );
  });
}

/** As large as the contract allows. Any route will do: a proxy judges by the length that is announced. */
async function requestSize({ url }: Front): Promise<readonly Finding[]> {
  const answer = await ask(`${url}/doctor`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify('x'.repeat(limits.frameMaxBytes - 2)),
  });
  if (isNodes(answer.headers)) return ok('up to what a node takes');
  return answer.status === 413
    ? warn(`the proxy refuses requests that a node takes: client_max_body_size of at least ${limits.frameMaxBytes} bytes (1m)`)
    : fail(`a large request is answered with ${answer.status}, and not by a node`);
}

async function metrics({ url }: Front): Promise<readonly Finding[]> {
  const answer = await ask(`${url}/metrics`);
  const text = await answer.text();
  return answer.status === 200 && /^# (HELP|TYPE) /m.test(text)
    ? fail('the metrics are open to everybody: location = /metrics { return 404; } in the proxy')
    : ok(`not for everybody (${answer.status})`);
}

const socketUrl = (url: string): string => `${url.replace(/^http/, 'ws')}/ws`;

/** @returns the refusal, or `open` where there was none. @throws Error where nothing answers */
async function handshake(url: string, headers: Record<string, string>): Promise<IncomingMessage | 'open'> {
  const socket = new WebSocket(socketUrl(url), { headers, handshakeTimeout: answerDeadlineMs });
  try {
    return await new Promise((done, failed) => {
      socket.on('open', () => done('open'));
      socket.on('unexpected-response', (_, response) => done(response));
      socket.on('error', failed);
    });
  } finally {
    socket.terminate();
  }
}
