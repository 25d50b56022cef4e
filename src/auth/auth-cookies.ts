/**
 * The cookies by which a browser carries its tokens: out of reach of scripts, and not sent along by other sites' forms (SameSite=Lax).
 */
import type {} from '@fastify/cookie';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from '../config.js';
import type { Grant } from './auth.service.js';

export const accessCookie = 'trunkline_access';
export const refreshCookie = 'trunkline_refresh';

type Lives = Pick<Config, 'ACCESS_TOKEN_TTL_S' | 'REFRESH_TOKEN_TTL_S'>;

export function setAuthCookies(request: FastifyRequest, reply: FastifyReply, { tokens }: Grant, lives: Lives): void {
  const attributes = { httpOnly: true, sameSite: 'lax', path: '/', secure: isHttps(request) } as const;
  reply.setCookie(accessCookie, tokens.accessToken, { ...attributes, maxAge: lives.ACCESS_TOKEN_TTL_S });
  reply.setCookie(refreshCookie, tokens.refreshToken, { ...attributes, maxAge: lives.REFRESH_TOKEN_TTL_S });
}

export function clearAuthCookies(reply: FastifyReply): void {
  for (const name of [accessCookie, refreshCookie]) reply.clearCookie(name, { path: '/' });
}

/** The header comes from the proxy that ends TLS. Who forges it makes his own cookies stricter, nothing else. */
const isHttps = ({ protocol, headers }: FastifyRequest): boolean => protocol === 'https' || headers['x-forwarded-proto'] === 'https';

/** Where the browser says that a page made the request: 'own' origin, a 'foreign' one, or 'unknown', which no browser leaves out of a POST (Fetch, section 3.2). */
export function requestOrigin({ headers }: FastifyRequest): 'own' | 'foreign' | 'unknown' {
  if (headers.origin === undefined) return 'unknown';
  return URL.canParse(headers.origin) && new URL(headers.origin).host === headers.host ? 'own' : 'foreign';
}
