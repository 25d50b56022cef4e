import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Logger } from 'pino';
import { AppModule } from './app.module.js';
import { AccessTokens } from './auth/access-tokens.js';
import { AllowedOrigins } from './auth/allowed-origins.js';
import { identityOf } from './auth/auth.guard.js';
import { ChatService } from './chat/chat.service.js';
import type { Config } from './config.js';
import { nestLogger } from './logger.js';
import { Metrics } from './metrics/metrics.js';
import { RealtimeAdapter } from './realtime/realtime.adapter.js';
import { RealtimeGateway } from './realtime/realtime.gateway.js';
import { serverOptions, useRest, type UserOf } from './rest/rest.js';
import { UntakenAnswers } from './rest/untaken-answers.js';
import type { Tracing } from './tracing/tracing.js';

/** Builds one node, not yet listening, on a database that is migrated. `app.close()` gives everything back but `tracing`. */
export async function createApp(config: Config, log: Logger, tracing?: Tracing): Promise<NestFastifyApplication> {
  const fastify = new FastifyAdapter(serverOptions(config));
  const app = await NestFactory.create<NestFastifyApplication>(AppModule.of(config, log), fastify, {
    logger: nestLogger(log),
    abortOnError: false,
    bodyParser: false,
  });
  tracing?.logTo(log);
  tracing?.watchRequests(fastify.getInstance());
  if (tracing !== undefined) app.get(ChatService).attachTracer(tracing);
  // Sockets, and as many for REST again: what half-open connections may take has a limit before the descriptors have.
  app.getHttpServer().maxConnections = 2 * config.SOCKETS_MAX + 1_000;
  const isDraining = (): boolean => app.get(RealtimeGateway).isDraining;
  const metrics = config.METRICS_PORT === 0 ? undefined : app.get(Metrics);
  const userOf: UserOf = (request) => identityOf(request)?.userId;
  await useRest(app, log, [...app.get(AllowedOrigins).listed], isDraining, app.get(UntakenAnswers), userOf, metrics?.observeRequest);
  app.useWebSocketAdapter(new RealtimeAdapter(app, app.get(AccessTokens), app.get(AllowedOrigins), isDraining));
  return app;
}
