/**
 * How every REST route behaves, apart from what it does: JSON in and out, an id on each answer, problem documents, cookies. Health goes
 * through it too.
 */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import fastifyCookie from '@fastify/cookie';
import fastifyCors from '@fastify/cors';
import {
  BadRequestException,
  PayloadTooLargeException,
  UnsupportedMediaTypeException,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import type { FastifyAdapter, NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyBodyParser, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { limits } from '../protocol/limits.js';
import { descriptionOf } from './operation.js';
import { answerTo, ProblemFilter, refuseAddress, refuseRequest } from './problem.filter.js';
import { inChunks, restBounds, streamBytes, type UntakenAnswers } from './untaken-answers.js';
import { RestValidationPipe } from './validation.js';

/** From the first byte of a request to its last; a body has 1 MiB at most. */
const requestTimeoutMs = 30_000;
/** From the opening of a connection, or the first byte of a later request, to the end of its header. */
const headersTimeoutMs = 10_000;
const timeoutCheckMs = 1_000;
/**
 * When the port is closed: how long a request may still take to come, and its answer, which waits for a lock perhaps. Who has not sent a whole one by then
 * would be waited for without end, for Node's time-outs end with the port.
 */
const [lastRequestsMs, lastAnswersMs] = [1_000, 2_500];
const answeringCheckMs = 50;

/**
 * curl and Java offer HTTP/2 with requests of REST, which are to be answered all the same (RFC 9110, section 7.8). Node before 22.21 and 24.9 does
 * not ask: there, who gets past the proxy with an offer is answered with 404 by what makes sockets.
 */
const upgrades = {
  shouldUpgradeCallback: ({ url = '', headers }: IncomingMessage): boolean =>
    url.startsWith('/ws') || headers.upgrade?.toLowerCase() === 'websocket',
};

/** Options of the HTTP server. The id of a request is always made here: one that a client chose could be made to point at another's lines in the log. */
export const serverOptions = ({ TRUSTED_PROXIES }: Config) =>
  ({
    bodyLimit: limits.frameMaxBytes,
    genReqId: () => uuidv7(),
    requestIdHeader: false,
    trustProxy: TRUSTED_PROXIES === '' ? false : TRUSTED_PROXIES,
    // Whoever has a connection is served to the end: a proxy may not send a POST anew, and would have to pass the refusal on.
    return503OnClosing: false,
    frameworkErrors: refuseAddress,
    clientErrorHandler: refuseRequest,
    // Whoever is slower holds a connection for nothing: such a request, and a handshake of a socket, is answered with 408.
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: timeoutCheckMs, ...upgrades },
  }) as const satisfies ConstructorParameters<typeof FastifyAdapter>[0];

/** How long a browser may remember what it was allowed, in s. */
const preflightMaxAgeS = 3_600;

/** Of an answer that repeats what was sent, beside that. */
const echoMoreBytes = 4_096;
/**
 * What a user's share is charged for a request until its answer is made, when its size counts: 64 pages of history may be asked for at a time, or
 * 256 answers of other kinds. What is in the making is bounded by the connections to PostgreSQL.
 */
const expectedBytes = restBounds.shareMaxBytes / 256;
const largeExpectedBytes = restBounds.shareMaxBytes / 64;
/** A smaller answer is not refused: the refusal would be as large. */
const refusableFromBytes = 4_096;
const overloadRetryMs = 2_000;

/** Who asks, where a guard has found out. */
export type UserOf = (request: FastifyRequest) => string | undefined;

/** Is told of each request when its answer was sent. */
export type RequestObserver = (request: FastifyRequest, reply: FastifyReply) => void;

/**
 * Registers it all with an app that was created with `serverOptions` and without Nest's body parsers.
 * @param origins whose pages may read answers, and act with cookies, beside those of the node's own host
 * @param userOf whose answers have a share of what may wait
 * @param isDraining true when the node is about to go: no connection is kept for another request then
 */
export async function useRest(
  app: NestFastifyApplication,
  log: Logger,
  origins: readonly string[],
  isDraining: () => boolean,
  untaken: UntakenAnswers,
  userOf: UserOf,
  observe?: RequestObserver,
): Promise<void> {
  const fastify: FastifyInstance = app.getHttpAdapter().getInstance();
  fastify.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    if (isDraining()) reply.header('connection', 'close');
    done();
  });
  // Who answers and closes before it has read the body looks to a proxy as if it had failed. What is too large is not waited for.
  fastify.addHook('onSend', ({ raw }, reply, _payload, done) => {
    if (raw.complete || raw.destroyed || reply.statusCode === 413) return done();
    raw.once('close', () => done());
    return raw.resume();
  });
  fastify.server.prependListener('request', (request, response) => untaken.watch(request, response));
  fastify.addHook('onSend', (request, reply, payload, done) => done(null, bounded(untaken, request, reply, payload)));
  // The route and not the address: what stands in a path or a query is the client's own business.
  fastify.addHook('onResponse', (request, reply, done) => {
    const { id, method, routeOptions } = request;
    log.debug({ request: id, method, route: routeOptions.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'answered');
    observe?.(request, reply);
    done();
  });
  let answering = 0; // requests that came whole
  fastify.addHook('preHandler', (_request, { raw }, done) => {
    answering++;
    raw.once('close', () => answering--);
    done();
  });
  fastify.addHook('preClose', (done) => {
    const deadline = performance.now() + lastAnswersMs;
    const cut = (): void => {
      if (answering > 0 && performance.now() < deadline) setTimeout(cut, answeringCheckMs).unref();
      else fastify.server.closeAllConnections();
    };
    setTimeout(cut, lastRequestsMs).unref();
    done();
  });
  acceptJsonOnly(fastify);
  await app.register(fastifyCookie);
  if (origins.length > 0) {
    await app.register(fastifyCors, {
      origin: [...origins],
      credentials: true,
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
      exposedHeaders: ['x-request-id', 'retry-after'],
      maxAge: preflightMaxAgeS,
    });
  }
  app.useGlobalInterceptors(admission(untaken, userOf));
  app.useGlobalPipes(new RestValidationPipe());
  app.useGlobalFilters(new ProblemFilter(log));
}

/** Refuses a user who does not take the answers, before anything is stored or read: after the guards, before the handler. */
const admission = (untaken: UntakenAnswers, userOf: UserOf): NestInterceptor => ({
  intercept(context: ExecutionContext, next) {
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const user = userOf(request);
    const { raw } = context.switchToHttp().getResponse<FastifyReply>();
    const expected = descriptionOf(context.getHandler())?.isLarge === true ? largeExpectedBytes : expectedBytes;
    if (user !== undefined && !untaken.admit(raw, user, answerBytesAtLeast(request), expected)) throw untakenAnswers();
    return next.handle();
  },
});

/** What changes something is answered with what was sent, which is not to be refused later. */
function answerBytesAtLeast({ method, headers }: FastifyRequest): number {
  if (isReading(method)) return 0;
  return echoMoreBytes + (headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : limits.frameMaxBytes);
}

const isReading = (method: string): boolean => method === 'GET' || method === 'HEAD';

const untakenAnswers = (): ClientError =>
  new ClientError('overloaded', 'Answers to earlier requests wait to be taken: read them, then ask again.', {
    retryAfterMs: overloadRetryMs,
  });

/** @returns what is sent in the place of an answer: itself, in parts where it is large, or a refusal */
function bounded(untaken: UntakenAnswers, { id, method, ip }: FastifyRequest, reply: FastifyReply, payload: unknown): unknown {
  const isStream = payload instanceof Readable;
  const text = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const bytes = Buffer.isBuffer(text) ? text : undefined;
  const size = isStream ? streamBytes : (bytes?.length ?? 0);
  const isRefusable = isReading(method) && size > refusableFromBytes && reply.statusCode < 400;
  if (!untaken.made(reply.raw, size, { holder: ip, isRefusable })) {
    if (isStream) payload.destroy();
    const { status, headers, body } = answerTo(untakenAnswers(), id);
    reply.status(status).headers(headers).removeHeader('content-length');
    return body;
  }
  const parts = bytes && method === 'GET' ? inChunks(bytes) : undefined;
  if (parts === undefined) return payload;
  reply.header('content-length', size);
  return parts;
}

/** An empty body is no body, whatever its type says: many clients send a content type with every POST. */
function acceptJsonOnly(fastify: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const parseJson = fastify.getDefaultJsonParser('error', 'error');
  const json: FastifyBodyParser<Buffer> = (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    let text;
    try {
      text = utf8.decode(body);
    } catch {
      return done(new BadRequestException()); // replaced by U+FFFD, it would be stored as what nobody wrote
    }
    return parseJson(request, text, (error, value) => {
      if (error !== null || body.length <= limits.bodyMaxBytes) return done(error, value);
      // Escapes don't count, so that a message that is allowed fits however its client writes it.
      const isTooLarge = Buffer.byteLength(JSON.stringify(value)) > limits.bodyMaxBytes;
      return isTooLarge ? done(new PayloadTooLargeException()) : done(null, value);
    });
  };
  const other: FastifyBodyParser<Buffer> = (_request, body, done) =>
    body.length === 0 ? done(null, undefined) : done(new UnsupportedMediaTypeException());
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, json);
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, other);
}
