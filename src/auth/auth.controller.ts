import { Body, Controller, Delete, Get, Header, HttpCode, Inject, Param, Post, Req, Res, UseGuards } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { CONFIG, type Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { Operation } from '../rest/operation.js';
import { success, successSchema, type Success } from '../rest/success.js';
import { userSchema, type User } from '../users/user.store.js';
import { AccessTokens } from './access-tokens.js';
import { AllowedOrigins } from './allowed-origins.js';
import { accessTokenCookie, clearAuthCookies, refreshTokenCookie, setAuthCookies } from './auth-cookies.js';
import { LoginBody, LogoutBody, PasswordBody, RefreshBody, RegisterBody, SessionParams } from './auth.dto.js';
import { AuthGuard, bearerToken, CurrentIdentity, foreignPage, type Identity } from './auth.guard.js';
import { AuthService, grantSchema, sessionSchema, type Grant, type LoginName, type Session } from './auth.service.js';
import { callerOf } from './caller.js';
import { RefreshTokens } from './refresh-tokens.js';

const cookies = { 'Set-Cookie': 'Both tokens as http-only cookies, SameSite=Lax.' };

@Controller('auth')
export class AuthController {
  constructor(
    private readonly auth: AuthService,
    private readonly accessTokens: AccessTokens,
    private readonly refreshTokens: RefreshTokens,
    private readonly origins: AllowedOrigins,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  @Post('register')
  @Header('cache-control', 'no-store')
  @Operation({
    summary: 'Make an account, and log in',
    answer: grantSchema,
    headers: cookies,
    errors: ['conflict', 'rate_limited', 'overloaded', 'unavailable'],
  })
  async register(
    @Body() body: RegisterBody,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Grant> {
    const caller = callerOf(request, body.device_name);
    return this.withCookies(request, reply, await this.auth.register(body.username, body.email, body.password, caller));
  }

  @Post('login')
  @HttpCode(200)
  @Header('cache-control', 'no-store')
  @Operation({
    summary: 'Log in by name or email',
    description: 'Either email or username is needed.',
    answer: grantSchema,
    headers: cookies,
    errors: ['unauthenticated', 'rate_limited', 'overloaded', 'unavailable'],
  })
  async login(@Body() body: LoginBody, @Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<Grant> {
    return this.withCookies(request, reply, await this.auth.login(loginName(body), body.password, callerOf(request, body.device_name)));
  }

  @Post('refresh')
  @HttpCode(200)
  @Header('cache-control', 'no-store')
  @Operation({
    summary: 'Exchange the refresh token for a new pair',
    description:
      'A second use of a token that was spent ends the session, but for a repetition within seconds, which is answered like the first. With the cookie in the place of refreshToken, only a page of an allowed origin may do it, and an Authorization header must be of the same session.',
    answer: grantSchema,
    headers: { 'Set-Cookie': 'Both tokens, if a cookie of this session came along; cookies of another session stay.' },
    errors: ['unauthenticated', 'forbidden', 'rate_limited', 'unavailable'],
  })
  async refresh(
    @Body() body: RefreshBody,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Grant> {
    const grant = await this.auth.refresh(body.refreshToken ?? this.cookieToken(request), callerOf(request));
    const sessionId = this.refreshTokens.sessionOf(grant.tokens.refreshToken);
    return sessionId !== undefined && this.cookieSessions(request).includes(sessionId) ? this.withCookies(request, reply, grant) : grant;
  }

  @Post('logout')
  @HttpCode(200)
  @UseGuards(AuthGuard)
  @Operation({
    summary: 'End this session, another, or all',
    description: 'Their sockets are closed with 4501, and cookies of one of them are cleared.',
    answer: successSchema,
  })
  async logout(
    @Body() { sessionId, all }: LogoutBody,
    @CurrentIdentity() identity: Identity,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Success> {
    const ended = await this.auth.logout(identity, { sessionId: sessionId ?? identity.sessionId, all: all === true });
    this.clearCookiesOf(ended, request, reply);
    return success;
  }

  @Get('sessions')
  @Header('cache-control', 'no-store')
  @UseGuards(AuthGuard)
  @Operation({
    summary: 'List the sessions of the user',
    description: 'The one that was used last comes first.',
    answer: Type.Array(sessionSchema),
  })
  sessions(@CurrentIdentity() identity: Identity): Promise<Session[]> {
    return this.auth.sessions(identity);
  }

  @Delete('sessions/:id')
  @UseGuards(AuthGuard)
  @Operation({ summary: 'End a session of the user', answer: successSchema, errors: ['not_found'] })
  async endSession(
    @Param() { id }: SessionParams,
    @CurrentIdentity() identity: Identity,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Success> {
    await this.auth.endSession(identity, id);
    this.clearCookiesOf([id], request, reply);
    return success;
  }

  @Post('password')
  @HttpCode(200)
  @UseGuards(AuthGuard)
  @Operation({
    summary: 'Change the password',
    description: 'Ends every session of the user but the one that asks.',
    answer: successSchema,
    errors: ['forbidden', 'rate_limited', 'overloaded'],
  })
  async changePassword(
    @Body() body: PasswordBody,
    @CurrentIdentity() identity: Identity,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Success> {
    const ended = await this.auth.changePassword(identity, body.current_password, body.new_password, callerOf(request));
    this.clearCookiesOf(ended, request, reply);
    return success;
  }

  @Get('me')
  @UseGuards(AuthGuard)
  @Operation({ summary: 'Show the user', answer: userSchema })
  me(@CurrentIdentity() identity: Identity): Promise<User> {
    return this.auth.me(identity);
  }

  private withCookies(request: FastifyRequest, reply: FastifyReply, grant: Grant): Grant {
    setAuthCookies(request, reply, grant, this.config);
    return grant;
  }

  /** The sessions of the cookies that came along, also of a token that has expired. */
  private cookieSessions(request: FastifyRequest): string[] {
    const [access, refresh] = [accessTokenCookie(request) ?? '', refreshTokenCookie(request) ?? ''];
    return [this.accessTokens.sessionOf(access), this.refreshTokens.sessionOf(refresh)].filter((id) => id !== undefined);
  }

  private clearCookiesOf(ended: readonly string[], request: FastifyRequest, reply: FastifyReply): void {
    if (this.cookieSessions(request).some((id) => ended.includes(id))) clearAuthCookies(reply);
  }

  private cookieToken(request: FastifyRequest): string {
    const token = refreshTokenCookie(request);
    if (token === undefined)
      throw new ClientError('unauthenticated', 'There is no refresh token, neither refreshToken in the body nor the cookie.');
    if (!this.origins.allows(request)) throw foreignPage();
    const bearer = bearerToken(request);
    if (bearer !== undefined && this.accessTokens.sessionOf(bearer) !== this.refreshTokens.sessionOf(token))
      throw new ClientError('unauthenticated', 'The Authorization header and the cookie are of two sessions: send refreshToken.');
    return token;
  }
}

function loginName({ email, username }: LoginBody): LoginName {
  if (email) return { email };
  if (username) return { username };
  throw new ClientError('invalid_payload', 'email: is required, or username', {
    fields: [{ field: 'email', message: 'is required, or username' }],
  });
}
