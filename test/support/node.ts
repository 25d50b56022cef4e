import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { pino } from 'pino';
import { createApp } from '../../src/app.js';
import { loadConfig } from '../../src/config.js';

export interface TestNode {
  readonly url: string;
  readonly app: NestFastifyApplication;
  close(): Promise<void>;
}

export const testSecret = 'a secret of the tests, of more than 32 bytes';

/** A whole node in this process, on a free port. `overrides` are environment variables. */
export async function startNode(databaseUrl: string, overrides: Record<string, string> = {}): Promise<TestNode> {
  const config = loadConfig({
    DATABASE_URL: databaseUrl,
    JWT_ACCESS_SECRET: testSecret,
    HOST: '127.0.0.1',
    PORT: '0',
    LOG_LEVEL: process.env['TEST_LOG_LEVEL'] ?? 'silent',
    DRAIN_MS: '0',
    RATE_LIMITS: 'off',
    ...overrides,
  });
  const app = await createApp(config, pino({ level: config.LOG_LEVEL }));
  await app.listen(0, '127.0.0.1');
  return { url: (await app.getUrl()).replace('[::1]', '127.0.0.1'), app, close: () => app.close() };
}
