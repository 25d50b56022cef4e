import { Module } from '@nestjs/common';
import { BusModule } from '../bus/bus.module.js';
import { ChatModule } from '../chat/chat.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { PresenceModule } from '../presence/presence.module.js';
import { RealtimeModule } from '../realtime/realtime.module.js';
import { MetricsServer } from './metrics-server.js';
import { Metrics } from './metrics.js';

@Module({
  imports: [DatabaseModule, BusModule, ChatModule, PresenceModule, RealtimeModule],
  providers: [Metrics, MetricsServer],
  exports: [Metrics],
})
export class MetricsModule {}
