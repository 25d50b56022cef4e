/**
 * The cookies by which a browser carries its tokens: out of reach of scripts, and not sent along by other sites' forms (SameSite=Lax).
 *
 * A browser adds them to a request whatever its page says. If the page brings credentials itself, those count, and the cookies of another session are
 * neither read nor replaced nor cleared.
 */
import { fastifyCookie } from '@fastify/cookie';
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from '../config.js';
import type { Grant } from './auth.service.js';

export const accessCookie = 'trunkline_access';
const refreshCookie = 'trunkline_refresh';

type Lives = Pick<Config, 'ACCESS_TOKEN_TTL_S' | 'REFRESH_TOKEN_TTL_S'>;

/** Secure where TLS brought the request; of a proxy that ends it, Fastify believes X-Forwarded-Proto if it is one of TRUSTED_PROXIES. */
export function setAuthCookies({ protocol }: FastifyRequest, reply: FastifyReply, { tokens }: Grant, lives: Lives): void {
  const attributes = { httpOnly: true, sameSite: 'lax', path: '/', secure: protocol === 'https' } as const;
  reply.setCookie(accessCookie, tokens.accessToken, { ...attributes, maxAge: lives.ACCESS_TOKEN_TTL_S });
  reply.setCookie(refreshCookie, tokens.refreshToken, { ...attributes, maxAge: lives.REFRESH_TOKEN_TTL_S });
}

export function clearAuthCookies(reply: FastifyReply): void {
  for (const name of [accessCookie, refreshCookie]) reply.clearCookie(name, { path: '/' });
}

interface Carrier {
  readonly headers: IncomingHttpHeaders;
}

export const accessTokenCookie = (request: Carrier): string | undefined => cookie(request, accessCookie);
export const refreshTokenCookie = (request: Carrier): string | undefined => cookie(request, refreshCookie);

const cookie = ({ headers }: Carrier, name: string): string | undefined =>
  headers.cookie === undefined ? undefined : fastifyCookie.parse(headers.cookie)[name];
