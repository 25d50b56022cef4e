import type { IncomingHttpHeaders } from 'node:http';
import { createParamDecorator, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { ClientError } from '../protocol/errors.js';
import { AccessTokens, type Identity } from './access-tokens.js';
import { AllowedOrigins } from './allowed-origins.js';
import { accessCookie, accessTokenCookie } from './auth-cookies.js';
import { sessionEnded, Sessions } from './sessions.js';

export type { Identity } from './access-tokens.js';

/** How a route behind the guard is asked; either is enough. */
export const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'The accessToken of register, login or refresh.' },
  cookie: {
    type: 'apiKey',
    in: 'cookie',
    name: accessCookie,
    description: 'Set by register, login and refresh. What is not a GET needs an Origin header of an allowed origin.',
  },
} as const;

const identities = new WeakMap<FastifyRequest, Identity>();
const readingMethods: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * Lets a REST request through when it carries an access token, as `Authorization: Bearer` (RFC 6750) or as the cookie, whose session is
 * live. The session costs a look-up by primary key: after a logout, no token of it opens anything.
 */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly accessTokens: AccessTokens,
    private readonly sessions: Sessions,
    private readonly origins: AllowedOrigins,
  ) {}

  /** @throws ClientError `unauthenticated`, `token_expired`, `forbidden`, `unavailable` */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const identity = this.accessTokens.verify(bearerToken(request) ?? this.cookieToken(request));
    if (!(await this.sessions.isLive(identity.userId, identity.sessionId))) throw sessionEnded();
    this.sessions.noteUse(identity.sessionId);
    identities.set(request, identity);
    return true;
  }

  /** A browser sends cookies along with what other sites make it ask: those may not change anything. */
  private cookieToken(request: FastifyRequest): string {
    const token = accessTokenCookie(request);
    if (token === undefined) throw new ClientError('unauthenticated');
    if (!readingMethods.has(request.method) && !this.origins.allows(request)) throw foreignPage();
    return token;
  }
}

export const foreignPage = (): ClientError =>
  new ClientError('forbidden', 'With the cookie, only a page of an allowed origin may do this: send the token itself.');

/** Undefined where AuthGuard has let nobody through. */
export const identityOf = (request: FastifyRequest): Identity | undefined => identities.get(request);

/** The identity that AuthGuard found; for handlers behind it. */
export const CurrentIdentity = createParamDecorator((_data: unknown, context: ExecutionContext): Identity => {
  const identity = identityOf(context.switchToHttp().getRequest<FastifyRequest>());
  if (identity === undefined) throw new Error('CurrentIdentity stands on a route without AuthGuard');
  return identity;
});

/**
 * The token of an Authorization header; undefined without such a header. For the socket's handshake too.
 * @throws ClientError `unauthenticated` for a header that has no token: a client that brings it does not mean the cookie
 */
export function bearerToken({ headers }: { readonly headers: IncomingHttpHeaders }): string | undefined {
  if (headers.authorization === undefined) return undefined;
  const [, token] = /^bearer +(\S+) *$/i.exec(headers.authorization) ?? [];
  if (token === undefined) throw new ClientError('unauthenticated', 'The Authorization header must be: Bearer, a space, an access token.');
  return token;
}
