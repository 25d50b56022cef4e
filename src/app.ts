import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Logger } from 'pino';
import { AppModule } from './app.module.js';
import type { Config } from './config.js';
import { nestLogger } from './logger.js';
import { limits } from './protocol/limits.js';

/** Builds one node, not yet listening, on a database that is migrated. `app.close()` gives everything back. */
export async function createApp(config: Config, log: Logger): Promise<NestFastifyApplication> {
  const fastify = new FastifyAdapter({ bodyLimit: limits.frameMaxBytes });
  const app = await NestFactory.create<NestFastifyApplication>(AppModule.of(config, log), fastify, { logger: nestLogger(log), abortOnError: false });
  return app;
}
