import { Global, Module } from '@nestjs/common';
import { AccessTokens } from './access-tokens.js';
import { AllowedOrigins } from './allowed-origins.js';
import { AuthController } from './auth.controller.js';
import { AuthGuard } from './auth.guard.js';
import { AuthService } from './auth.service.js';
import { KeyedHash } from './keyed-hash.js';
import { Passwords } from './passwords.js';
import { RateLimits } from './rate-limits.js';
import { RefreshTokens } from './refresh-tokens.js';
import { Sessions } from './sessions.js';
import { Sweeper } from './sweeper.js';

/** Global, because every controller stands behind its guard. */
@Global()
@Module({
  controllers: [AuthController],
  providers: [AccessTokens, AllowedOrigins, AuthGuard, AuthService, KeyedHash, Passwords, RateLimits, RefreshTokens, Sessions, Sweeper],
  exports: [AccessTokens, AllowedOrigins, AuthGuard, Sessions],
})
export class AuthModule {}
