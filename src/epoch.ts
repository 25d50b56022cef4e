/** `npm run epoch [-- raise]`: shows the epoch of the database, or raises it so that every client fetches anew. */
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { raiseEpoch, readEpoch } from './bus/epoch.store.js';
import { loadConfig } from './config.js';
import { connectionConfig } from './database/database.js';
import { operatorDatabase } from './database/operator-database.js';
import { openClient } from './database/session.js';
import { failForPeople, OperatorError, UsageError } from './failure.js';

const usage = `Usage: npm run epoch [-- raise]
  (nothing)   shows the epoch of the database
  raise       makes it one that no client knows: for a database that was restored from a backup, and may have lost messages that clients hold
Running nodes notice within about a second and send every client "resync"; those that start later need nothing more.
The database is DATABASE_URL's, or the embedded one in DATA_DIR. Asks nothing; exits with 0 when it is done, else with 1.
`;

try {
  await run();
} catch (error) {
  failForPeople(error);
}

async function run(): Promise<void> {
  const { positionals, values } = parseCommand();
  if (values.help === true) return void process.stdout.write(usage);
  const [command, ...more] = positionals;
  if ((command !== undefined && command !== 'raise') || more.length > 0) throw new UsageError(usage);

  const { url, stop } = await operatorDatabase(loadConfig());
  let client: pg.Client | undefined;
  try {
    client = await openClient(connectionConfig(url, 'epoch'));
    const before = await epochOf(client);
    if (command === undefined) return void process.stdout.write(`${before}\n`);
    await raiseEpoch(client);
    process.stdout.write(`The epoch was ${before} and is ${await epochOf(client)}: every client will be told to fetch anew.\n`);
  } finally {
    await client?.end();
    await stop();
  }
}

function parseCommand() {
  try {
    return parseArgs({ allowPositionals: true, options: { help: { type: 'boolean', short: 'h' } } });
  } catch {
    throw new UsageError(usage);
  }
}

async function epochOf(client: pg.Client): Promise<string> {
  const state = await readEpoch(client);
  if (state === 'standby')
    throw new OperatorError(
      'This server is a standby: promote it first. The promotion changes the epoch by itself; raise it there if in doubt.',
    );
  if (state === 'no schema')
    throw new OperatorError('This database has no schema of Trunkline. Is DATABASE_URL the right one? An empty one needs: npm run migrate');
  return state.epoch;
}
