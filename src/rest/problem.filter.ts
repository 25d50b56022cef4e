/**
 * The one place where a failure of REST becomes an answer: a problem document (RFC 9457). Whatever isn't known here is a bug of ours, and
 * goes out as `internal` with nothing but the request's id, which finds it in the log.
 */
import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { ClientError, errorCodes, type ErrorCode, type FieldError } from '../protocol/errors.js';

export const problemType = 'application/problem+json';

/** RFC 9457, section 3.1, and our extensions. */
export interface Problem {
  /** A name for the code that is never dereferenced. */
  type: string;
  /** The same for every problem of this code. */
  title: string;
  status: number;
  /** What is wrong this time. */
  detail: string;
  code: ErrorCode;
  /** Also in X-Request-Id, and in the log. */
  request_id: string;
  errors?: readonly FieldError[];
}

@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly log: Logger) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    const { error, status } = toAnswer(exception);
    if (error.code === 'internal') {
      this.log.error({ err: exception, request_id: request.id, method: request.method, route: request.routeOptions.url }, 'a request failed by a bug');
    } else if (error.code === 'unavailable') {
      this.log.warn({ err: error.cause, request_id: request.id }, 'a request failed because the database was not there');
    }
    if (reply.sent) return;

    // A URL that can't be decoded is refused before any hook runs: the header is set here too.
    reply.header('x-request-id', request.id);
    if (status === 401) reply.header('www-authenticate', 'Bearer'); // RFC 9110, section 11.6.1
    const { retryAfterMs } = error.details;
    if (retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(retryAfterMs / 1_000));
    void reply.status(status).type(problemType).send(JSON.stringify(problem(error, status, request.id)));
  }
}

const problem = (error: ClientError, status: number, requestId: string): Problem => ({
  type: `urn:trunkline:error:${error.code}`,
  title: errorCodes[error.code].meaning,
  status,
  detail: error.message,
  code: error.code,
  request_id: requestId,
  ...(error.details.fields && { errors: error.details.fields }),
});

/** What the framework refuses keeps the framework's status: 415 says more than 400. */
function toAnswer(exception: unknown): { error: ClientError; status: number } {
  if (exception instanceof ClientError) return { error: exception, status: errorCodes[exception.code].status };
  const status = exception instanceof HttpException ? exception.getStatus() : 500;
  if (status >= 500) return { error: new ClientError('internal'), status: 500 };
  const code = codeOfStatus[status];
  // The framework's own words only where we have none: they may repeat what the client sent.
  return { error: code ? new ClientError(code) : new ClientError('invalid_payload', frameworkRefusals[status]), status };
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  413: 'message_too_long',
  429: 'rate_limited',
};

const frameworkRefusals: Readonly<Record<number, string>> = {
  400: 'The body is not JSON in UTF-8, or the address is not well encoded.',
  414: 'The address is too long.',
  415: 'The body must be application/json.',
};
