import { Global, Module, type DynamicModule } from '@nestjs/common';
import type { Logger } from 'pino';
import { AuthModule } from './auth/auth.module.js';
import { ChatModule } from './chat/chat.module.js';
import { CONFIG, type Config } from './config.js';
import { DatabaseModule } from './database/database.module.js';
import { DocsModule } from './docs/docs.module.js';
import { HealthModule } from './health/health.module.js';
import { LimitsModule } from './limits/limits.module.js';
import { LOGGER } from './logger.js';
import { MetricsModule } from './metrics/metrics.module.js';
import { RealtimeModule } from './realtime/realtime.module.js';
import { restBounds, UntakenAnswers } from './rest/untaken-answers.js';
import { RoomsModule } from './rooms/rooms.module.js';

/** What every part may ask for: the settings and the log. */
@Global()
@Module({})
class NodeModule {
  static of(config: Config, log: Logger): DynamicModule {
    const providers = [
      { provide: CONFIG, useValue: config },
      { provide: LOGGER, useValue: log },
      { provide: UntakenAnswers, useValue: new UntakenAnswers({ ...restBounds, stalledMs: config.SLOW_SOCKET_TIMEOUT_MS }) },
    ];
    return { module: NodeModule, providers, exports: providers };
  }
}

@Module({ imports: [DatabaseModule, AuthModule, LimitsModule, RoomsModule, ChatModule, RealtimeModule, HealthModule, DocsModule] })
export class AppModule {
  static of(config: Config, log: Logger): DynamicModule {
    return { module: AppModule, imports: [NodeModule.of(config, log), ...(config.METRICS_PORT === 0 ? [] : [MetricsModule])] };
  }
}
