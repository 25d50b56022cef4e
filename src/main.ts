/** Starts one node: settings, the database (embedded where none is given), migrations, the app; and stops it all on a signal. */
import { resolve } from 'node:path';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from './app.js';
import { ConfigError, loadConfig, type Config } from './config.js';
import { directUrl } from './database/database.js';
import { secretFile, startEmbeddedPostgres, type EmbeddedPostgres } from './database/embedded-postgres.js';
import { migrate, serverProblems } from './database/migrations.js';
import { failForPeople } from './failure.js';
import { createLogger } from './logger.js';
import type { Tracing } from './tracing/tracing.js';

/** A node that can't stop in an orderly way so long after its last client was told to go is ended: 9.5 s in all with the default DRAIN_MS. */
const stopDeadlineMs = 6_500;

/** Migrations that take longer are said to wait. */
const slowMs = 10_000;

/** Connections that may wait to be accepted when all clients come back at once; the kernel's own limit (somaxconn) may be lower. */
const backlog = 4_096;

let embedded: EmbeddedPostgres | undefined;
/** The embedded server is being started, and has to be known before it can be stopped. */
let embedding: Promise<EmbeddedPostgres> | undefined;
let app: NestFastifyApplication | undefined;
let tracing: Tracing | undefined;
let stopping = false;
let drainMs = 0;

/** Ends what the start waits for: a database that does not answer, another node's migrations, a commit. */
const startStopped = new AbortController();

start().catch(async (error: unknown) => {
  if (stopping) return; // it ended because it was told to
  await embedded?.stop();
  failForPeople(error);
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop());

async function start(): Promise<void> {
  const given = loadConfig();
  drainMs = given.DRAIN_MS;
  if (given.OTEL_EXPORTER_OTLP_ENDPOINT !== '') tracing = new (await import('./tracing/tracing.js')).Tracing(given);
  const log = createLogger(given, tracing?.logFields);
  process.on('uncaughtException', (error) => {
    // Rejections that nobody handles come here too. Our own state may be wrong from here on, so the process must end; clients are sent away as at any stop.
    log.fatal({ err: error }, 'uncaught exception: this is a bug; stopping');
    process.exitCode = 1;
    void stop();
  });
  let config = given;
  if (given.DATABASE_URL === '') {
    embedding = startEmbeddedPostgres(given.DATA_DIR);
    embedded = await embedding;
    const secret = given.JWT_ACCESS_SECRET === '' ? await secretFile(resolve(given.DATA_DIR, 'jwt-secret')) : given.JWT_ACCESS_SECRET;
    config = { ...given, DATABASE_URL: embedded.connectionString, JWT_ACCESS_SECRET: secret };
  }
  const { signal } = startStopped;
  signal.throwIfAborted();
  const problems = await serverProblems(config.DATABASE_URL, signal);
  if (problems.length > 0) throw new ConfigError(problems);
  const slow = setTimeout(() => log.warn('the migrations are not done yet: do they wait for another node, a lock or a standby?'), slowMs);
  await migrate(directUrl(config), log, 'up', undefined, signal).finally(() => clearTimeout(slow));

  app = await createApp(config, log, tracing);
  signal.throwIfAborted();
  await app.listen({ port: config.PORT, host: config.HOST, backlog });
  const { port } = app.getHttpServer().address() as { port: number };
  log.info({ port }, 'serving');
  if (embedded !== undefined) process.stdout.write(welcome(port, config));
}

/** In the reverse order, and whatever of the start was done when the signal came. Exits with 0, or with `process.exitCode` where that was set. */
async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  setTimeout(() => {
    process.stderr.write('Trunkline could not stop in time and was ended.\n');
    void (embedded?.stop() ?? Promise.resolve()).finally(() => process.exit(1));
  }, drainMs + stopDeadlineMs).unref();
  startStopped.abort();
  if (app?.getHttpServer().listening === true) await app.close();
  else await embedding?.then((started) => (embedded = started)).catch(() => undefined);
  await Promise.all([embedded?.stop(), tracing?.close()]);
  process.exit();
}

function welcome(port: number, { DATA_DIR }: Config): string {
  const folder = resolve(DATA_DIR);
  return `
  Trunkline is listening on http://localhost:${port} (WebSocket: ws://localhost:${port}/ws)
  Its PostgreSQL keeps the data in ${folder}/postgres; its address is in ${folder}/database-url
  Try:  npm run chat -- --user ann --room lobby --url http://localhost:${port}
  Stop with Ctrl-C.

`;
}
