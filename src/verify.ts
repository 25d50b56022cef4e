/** `npm run verify -- --room ID | --all`: checks that the rooms of a database are whole; nodes may serve from it meanwhile. */
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { loadConfig } from './config.js';
import { connectionConfig } from './database/database.js';
import { operatorDatabase } from './database/operator-database.js';
import { openClient } from './database/session.js';
import { failForPeople, OperatorError, UsageError } from './failure.js';
import { checkRoom, findRoom, roomsAfter, type RoomReport, type RoomRow } from './verify/room-check.js';

const usage = `Usage: npm run verify -- --room ROOM_ID | --all
  --room  one room; may be given several times
  --all   every room, in pages of their keys: reads every message's row once
Checks of each room that its seqs are 1 to last_seq without a hole, that no client_msg_id of a user stands twice, that its members are those whom its
events made so, and that every sender was a member. Changes nothing, and nodes may serve meanwhile.
The database is DATABASE_URL's, or the embedded one in DATA_DIR. Exits with 0 when all is well, with 1 when something is not.
`;

const roomsAPage = 500;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

class Tally {
  count = 0;
  entries = 0;
  broken = 0;

  add(id: string, { entries, problems }: RoomReport): void {
    this.count++;
    this.entries += entries;
    if (problems.length > 0) this.broken++;
    for (const problem of problems) process.stdout.write(`room ${id}: ${problem}\n`);
  }
}

/** What PostgreSQL takes for a time-out at most; 0 would be left out, and the role's or the database's would count. */
const longestMs = 2_147_483_647;

try {
  await run();
} catch (error) {
  failForPeople(error);
}

async function run(): Promise<void> {
  const { help, all, room: ids = [] } = parseOptions();
  if (help === true) return void process.stdout.write(usage);
  if (ids.length > 0 === (all === true)) throw new UsageError(usage);

  const { url, stop } = await operatorDatabase(loadConfig());
  // A large room takes as long as it takes: the limits of a node's statements are not for this.
  let client: pg.Client | undefined;
  try {
    client = await openClient({ ...connectionConfig(url, 'verify'), statement_timeout: longestMs, query_timeout: 0 });
    const rooms = all === true ? await verifyAll(client) : await verifyEach(client, ids);
    process.exitCode = rooms.broken > 0 ? 1 : 0;
    const verdict = rooms.broken === 0 ? 'all whole' : `${rooms.broken} of them not whole`;
    process.stdout.write(`${rooms.count} ${rooms.count === 1 ? 'room' : 'rooms'} with ${rooms.entries} messages and events: ${verdict}\n`);
  } finally {
    await client?.end();
    await stop();
  }
}

function parseOptions() {
  try {
    const { values } = parseArgs({
      options: { room: { type: 'string', multiple: true }, all: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    if (values.room?.some((id) => !uuid.test(id)) === true) throw new Error('no UUID');
    return values;
  } catch {
    throw new UsageError(usage);
  }
}

async function verifyEach(client: pg.Client, ids: readonly string[]): Promise<Tally> {
  const tally = new Tally();
  for (const id of ids) {
    await inSnapshot(client, async () => {
      const room = await findRoom(client, id);
      if (room === undefined) throw new OperatorError(`There is no room ${id}.`);
      tally.add(room.id, await checkRoom(client, room));
    });
  }
  return tally;
}

async function verifyAll(client: pg.Client): Promise<Tally> {
  const tally = new Tally();
  for (let page: RoomRow[] | undefined; page === undefined || page.length === roomsAPage;) {
    const after: string | undefined = page?.at(-1)?.id;
    page = await inSnapshot(client, async () => {
      const rooms = await roomsAfter(client, after, roomsAPage);
      for (const room of rooms) tally.add(room.id, await checkRoom(client, room));
      return rooms;
    });
    if (process.stderr.isTTY) process.stderr.write(`\r${tally.count} rooms, ${tally.entries} messages and events `);
  }
  if (process.stderr.isTTY) process.stderr.write('\n');
  return tally;
}

async function inSnapshot<T>(client: pg.Client, read: () => Promise<T>): Promise<T> {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    return await read();
  } finally {
    await client.query('ROLLBACK');
  }
}
