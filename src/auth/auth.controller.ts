import { Body, Controller, Get, Header, HttpCode, Inject, Post, Req, Res, UseGuards } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CONFIG, type Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';
import type { User } from '../users/user.store.js';
import { clearAuthCookies, refreshCookie, requestOrigin, setAuthCookies } from './auth-cookies.js';
import { LoginBody, LogoutBody, RefreshBody, RegisterBody } from './auth.dto.js';
import { AuthGuard, CurrentIdentity, type Identity } from './auth.guard.js';
import { AuthService, type Grant, type LoginName } from './auth.service.js';

@Controller('auth')
export class AuthController {
  constructor(
    private readonly auth: AuthService,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  @Post('register')
  @Header('cache-control', 'no-store')
  async register(
    @Body() body: RegisterBody,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Grant> {
    return this.withCookies(request, reply, await this.auth.register(body.username, body.email, body.password));
  }

  @Post('login')
  @HttpCode(200)
  @Header('cache-control', 'no-store')
  async login(@Body() body: LoginBody, @Req() request: FastifyRequest, @Res({ passthrough: true }) reply: FastifyReply): Promise<Grant> {
    return this.withCookies(request, reply, await this.auth.login(loginName(body), body.password));
  }

  @Post('refresh')
  @HttpCode(200)
  @Header('cache-control', 'no-store')
  async refresh(
    @Body() body: RefreshBody,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Grant> {
    return this.withCookies(request, reply, await this.auth.refresh(body.refreshToken ?? cookieToken(request)));
  }

  @Post('logout')
  @HttpCode(200)
  @UseGuards(AuthGuard)
  async logout(
    @Body() { sessionId, all }: LogoutBody,
    @CurrentIdentity() identity: Identity,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<{ success: true }> {
    await this.auth.logout(identity, { sessionId: sessionId ?? identity.sessionId, all: all === true });
    if (all === true || (sessionId ?? identity.sessionId) === identity.sessionId) clearAuthCookies(reply);
    return { success: true };
  }

  @Get('me')
  @UseGuards(AuthGuard)
  me(@CurrentIdentity() identity: Identity): Promise<User> {
    return this.auth.me(identity);
  }

  private withCookies(request: FastifyRequest, reply: FastifyReply, grant: Grant): Grant {
    setAuthCookies(request, reply, grant, this.config);
    return grant;
  }
}

function loginName({ email, username }: LoginBody): LoginName {
  if (email) return { email };
  if (username) return { username };
  throw new ClientError('invalid_payload', 'email: is required, or username', {
    fields: [{ field: 'email', message: 'is required, or username' }],
  });
}

function cookieToken(request: FastifyRequest): string {
  const token = request.cookies[refreshCookie];
  if (token === undefined)
    throw new ClientError('unauthenticated', 'There is no refresh token, neither refreshToken in the body nor the cookie.');
  if (requestOrigin(request) === 'foreign')
    throw new ClientError('forbidden', 'With the cookie, only a page of this very host may refresh.');
  return token;
}
