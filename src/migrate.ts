/** `npm run migrate [-- up | down [COUNT]]`: the migrations alone, on DATABASE_URL or on the embedded database. */
import { parseArgs } from 'node:util';
import { loadConfig } from './config.js';
import { directUrl } from './database/database.js';
import { startEmbeddedPostgres } from './database/embedded-postgres.js';
import { migrate } from './database/migrations.js';
import { createLogger } from './logger.js';
import { failForPeople, UsageError } from './failure.js';

const usage = `Usage: npm run migrate [-- up | down [COUNT]]
  up     brings the schema up to date (the default; a node does it by itself when it starts)
  down   takes back the last migration, or the last COUNT, and with them the data that they hold
The database is DATABASE_LISTEN_URL's where that is set, else DATABASE_URL's, or the embedded one in DATA_DIR.
`;

try {
  await run();
} catch (error) {
  failForPeople(error);
}

async function run(): Promise<void> {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { help: { type: 'boolean', short: 'h' } } });
  const [direction = 'up', count = '1', ...more] = positionals;
  if (values.help === true) return void process.stdout.write(usage);
  if ((direction !== 'up' && direction !== 'down') || !/^[1-9]\d*$/.test(count) || more.length > 0) throw new UsageError(usage);

  const config = loadConfig();
  const log = createLogger(config);
  const embedded = config.DATABASE_URL === '' ? await startEmbeddedPostgres(config.DATA_DIR) : undefined;
  try {
    const done = await migrate(
      embedded?.connectionString ?? directUrl(config),
      log,
      direction,
      direction === 'up' ? Infinity : Number(count),
    );
    log.info({ migrations: done, direction }, done === 0 ? 'nothing to do' : 'done');
  } finally {
    await embedded?.stop();
  }
}
