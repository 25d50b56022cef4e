import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { BusModule } from '../bus/bus.module.js';
import { ChatModule } from '../chat/chat.module.js';
import { PresenceModule } from '../presence/presence.module.js';
import { Hub } from './hub.js';
import { RealtimeGateway } from './realtime.gateway.js';

@Module({
  imports: [AuthModule, BusModule, ChatModule, PresenceModule],
  providers: [Hub, RealtimeGateway],
  exports: [Hub, RealtimeGateway],
})
export class RealtimeModule {}
