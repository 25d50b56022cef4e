import type {} from '@fastify/cookie';
import { createParamDecorator, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { Database } from '../database/database.js';
import { ClientError } from '../protocol/errors.js';
import { AccessTokens, type Identity } from './access-tokens.js';
import { accessCookie, requestOrigin } from './auth-cookies.js';
import { isSessionLive } from './session.store.js';

export type { Identity } from './access-tokens.js';

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
    private readonly db: Database,
  ) {}

  /** @throws ClientError `unauthenticated`, `token_expired`, `forbidden`, `unavailable` */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const identity = this.accessTokens.verify(bearerToken(request) ?? cookieToken(request));
    if (!(await isSessionLive(this.db, identity.userId, identity.sessionId))) {
      throw new ClientError('unauthenticated', 'The session was ended: log in again.');
    }
    identities.set(request, identity);
    return true;
  }
}

/** The identity that AuthGuard found; for handlers behind it. */
export const CurrentIdentity = createParamDecorator((_data: unknown, context: ExecutionContext): Identity => {
  const identity = identities.get(context.switchToHttp().getRequest<FastifyRequest>());
  if (identity === undefined) throw new Error('CurrentIdentity stands on a route without AuthGuard');
  return identity;
});

function bearerToken({ headers }: FastifyRequest): string | undefined {
  if (headers.authorization === undefined) return undefined;
  const [, token] = /^bearer +(\S+) *$/i.exec(headers.authorization) ?? [];
  if (token === undefined) throw new ClientError('unauthenticated', 'The Authorization header must be: Bearer, a space, an access token.');
  return token;
}

/** A browser sends cookies along with what other sites make it ask: those may not change anything. */
function cookieToken(request: FastifyRequest): string {
  const token = request.cookies[accessCookie];
  if (token === undefined) throw new ClientError('unauthenticated');
  if (!readingMethods.has(request.method) && requestOrigin(request) !== 'own') {
    throw new ClientError('forbidden', 'With the cookie, only a page of this very host may change something: send Authorization: Bearer.');
  }
  return token;
}
