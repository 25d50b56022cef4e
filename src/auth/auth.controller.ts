import { Body, Controller, Delete, Get, Header, HttpCode, Inject, Param, Post, Req, Res, UseGuards } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { CONFIG, type Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import { Operation } from '../rest/operation.js';
import { success, successSchema, type Success } from '../rest/success.js';
import { userSchema, type User } from '../users/user.store.js';
import { AllowedOrigins } from './allowed-origins.js';
import { clearAuthCookies, refreshTokenCookie, setAuthCookies } from './auth-cookies.js';
import { LoginBody, LogoutBody, PasswordBody, RefreshBody, RegisterBody, SessionParams } from './auth.dto.js';
import { AuthGuard, CurrentIdentity, foreignPage, type Identity } from './auth.guard.js';
import { AuthService, grantSchema, sessionSchema, type Grant, type LoginName, type Session } from './auth.service.js';
import { callerOf } from './caller.js';

const cookies = { 'Set-Cookie': 'Both tokens as http-only cookies, SameSite=Lax.' };

@Controller('auth')
export class AuthController {
  constructor(
    private readonly auth: AuthService,
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
      'A second use of a token that was spent ends the session, but for a repetition within seconds, which is answered like the first. With the cookie in the place of refreshToken, only a page of an allowed origin may do it.',
    answer: grantSchema,
    headers: cookies,
    errors: ['unauthenticated', 'forbidden', 'rate_limited', 'unavailable'],
  })
  async refresh(
    @Body() body: RefreshBody,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Grant> {
    return this.withCookies(request, reply, await this.auth.refresh(body.refreshToken ?? this.cookieToken(request), callerOf(request)));
  }

  @Post('logout')
  @HttpCode(200)
  @UseGuards(AuthGuard)
  @Operation({ summary: 'End this session, another, or all', description: 'Their sockets are closed with 4501.', answer: successSchema })
  async logout(
    @Body() { sessionId, all }: LogoutBody,
    @CurrentIdentity() identity: Identity,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Success> {
    await this.auth.logout(identity, { sessionId: sessionId ?? identity.sessionId, all: all === true });
    if (all === true || (sessionId ?? identity.sessionId) === identity.sessionId) clearAuthCookies(reply);
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
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Success> {
    await this.auth.endSession(identity, id);
    if (id === identity.sessionId) clearAuthCookies(reply);
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
  async changePassword(@Body() body: PasswordBody, @CurrentIdentity() identity: Identity): Promise<Success> {
    await this.auth.changePassword(identity, body.current_password, body.new_password);
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

  private cookieToken(request: FastifyRequest): string {
    const token = refreshTokenCookie(request);
    if (token === undefined)
      throw new ClientError('unauthenticated', 'There is no refresh token, neither refreshToken in the body nor the cookie.');
    if (!this.origins.allows(request)) throw foreignPage();
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
