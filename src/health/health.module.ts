import { Module } from '@nestjs/common';
import { BusModule } from '../bus/bus.module.js';
import { ChatModule } from '../chat/chat.module.js';
import { RealtimeModule } from '../realtime/realtime.module.js';
import { HealthController } from './health.controller.js';

@Module({ imports: [BusModule, ChatModule, RealtimeModule], controllers: [HealthController] })
export class HealthModule {}
