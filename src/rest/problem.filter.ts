/**
 * The one place where a failure of REST becomes an answer: a problem document (RFC 9457). Whatever isn't known here is a bug of ours, and
 * goes out as `internal` with nothing but the request's id, which finds it in the log.
 */
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import Type, { type Static } from 'typebox';
import { v7 as uuidv7 } from 'uuid';
import { ClientError, errorCodes, type ErrorCode } from '../protocol/errors.js';

/** RFC 9457, section 3.1, and our extensions. */
export const problemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri', description: 'a name for the code that is never dereferenced' }),
    title: Type.String({ description: 'the same for every problem of this code' }),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'what is wrong this time' }),
    code: Type.Enum(Object.keys(errorCodes) as ErrorCode[]),
    request_id: Type.String({ description: 'also in X-Request-Id, and in the log' }),
    errors: Type.Optional(
      Type.Array(Type.Object({ field: Type.String(), message: Type.String({ description: 'a phrase that follows the field’s name' }) }), {
        description: 'an entry for each bad field',
      }),
    ),
  },
  { title: 'Problem', description: 'What went wrong (RFC 9457).' },
);
type Problem = Static<typeof problemSchema>;

@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly log: Logger) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    const answer = answerTo(exception, request.id);
    if (answer.code === 'internal') {
      const place = { request_id: request.id, method: request.method, route: request.routeOptions.url };
      this.log.error({ err: exception, ...place }, 'a request failed by a bug');
    } else if (answer.code === 'unavailable' && exception instanceof Error) {
      this.log.warn({ err: exception.cause, request_id: request.id }, 'a request failed because the database was not there');
    }
    if (!reply.sent) void reply.status(answer.status).headers(answer.headers).send(answer.body);
  }
}

/** What is needed of Node's response to write an answer without Fastify. */
interface RawReply {
  readonly raw: {
    writeHead(status: number, headers: Record<string, string>): unknown;
    end(body: string): unknown;
  };
}

/** For what is refused before Nest sees it, and so before any hook or filter: an address that can't be decoded, or is too long. */
export function refuseAddress(refusal: FastifyError, { id }: { readonly id: string }, { raw }: RawReply): void {
  const { status, headers, body } = answerTo(new HttpException(refusal.message, refusal.statusCode ?? 400), id);
  raw.writeHead(status, headers);
  raw.end(body);
}

/** For what is no request, or not a whole one in time. */
export function refuseRequest({ code = '' }: NodeJS.ErrnoException, socket: Duplex): void {
  if (code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const status = statusOfParser[code] ?? 400;
  const { headers, body } = answerTo(new HttpException('', status), uuidv7());
  const lines = Object.entries({ ...headers, connection: 'close', 'content-length': Buffer.byteLength(body) });
  // A peer that does not close its side would hold the socket for ever.
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`);
}

const statusOfParser: Readonly<Record<string, number>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_HEADER_OVERFLOW: 431,
};

interface ProblemAnswer {
  code: ErrorCode;
  status: number;
  headers: Record<string, string>;
  /** A `Problem` as JSON. */
  body: string;
}

export function answerTo(exception: unknown, requestId: string): ProblemAnswer {
  const { error, status } = judge(exception);
  const { retryAfterMs, fields } = error.details;
  const headers: Record<string, string> = { 'content-type': 'application/problem+json', 'x-request-id': requestId };
  if (status === 401) headers['www-authenticate'] = 'Bearer'; // RFC 9110, section 11.6.1
  if (retryAfterMs !== undefined) headers['retry-after'] = String(Math.ceil(retryAfterMs / 1_000));
  const problem: Problem = {
    type: `urn:trunkline:error:${error.code}`,
    title: errorCodes[error.code].meaning,
    status,
    detail: error.message,
    code: error.code,
    request_id: requestId,
    ...(fields && { errors: [...fields] }),
  };
  return { code: error.code, status, headers, body: JSON.stringify(problem) };
}

/** What the framework refuses keeps the framework's status: 415 says more than 400. */
function judge(exception: unknown): { error: ClientError; status: number } {
  if (exception instanceof ClientError) return { error: exception, status: errorCodes[exception.code].status };
  if (isAbort(exception)) return { error: new ClientError('invalid_payload', frameworkRefusals[400]), status: 400 };
  const status = exception instanceof HttpException ? exception.getStatus() : 500;
  if (status >= 500) return { error: new ClientError('internal'), status: 500 };
  const code = codeOfStatus[status];
  // The framework's own words only where we have none: they may repeat what the client sent.
  return { error: code ? new ClientError(code) : new ClientError('invalid_payload', frameworkRefusals[status]), status };
}

/** The client went away before the end of its request; nobody reads the answer. */
function isAbort(exception: unknown): boolean {
  const { code, statusCode } = (exception ?? {}) as Partial<FastifyError>;
  return code === 'ECONNRESET' && statusCode === 400;
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  413: 'message_too_long',
  429: 'rate_limited',
};

const frameworkRefusals: Readonly<Record<number, string>> = {
  400: 'The body is not JSON in UTF-8, the address is not well encoded, or this is no HTTP.',
  408: 'The request took too long to arrive: send it again.',
  414: 'The address is too long.',
  415: 'The body must be application/json.',
  431: 'The header has more than 16 KiB.',
};
