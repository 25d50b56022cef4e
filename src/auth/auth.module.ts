import { Global, Module } from '@nestjs/common';
import { AccessTokens } from './access-tokens.js';
import { AuthController } from './auth.controller.js';
import { AuthGuard } from './auth.guard.js';
import { AuthService } from './auth.service.js';
import { Passwords } from './passwords.js';

/** Global, because every controller stands behind its guard. */
@Global()
@Module({
  controllers: [AuthController],
  providers: [AccessTokens, AuthGuard, AuthService, Passwords],
  exports: [AccessTokens, AuthGuard],
})
export class AuthModule {}
