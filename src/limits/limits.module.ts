import { Global, Module } from '@nestjs/common';
import { UserLimits } from './user-limits.js';

/** Global, because the socket and REST count together. */
@Global()
@Module({ providers: [UserLimits], exports: [UserLimits] })
export class LimitsModule {}
