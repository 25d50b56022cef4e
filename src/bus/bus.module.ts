import { Module } from '@nestjs/common';
import { Feed } from './feed.js';

@Module({ providers: [Feed], exports: [Feed] })
export class BusModule {}
