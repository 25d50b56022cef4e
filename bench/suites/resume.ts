/**
 * Many clients come back at once who all missed much, to nodes that remember nothing, as after a restart of all of them: they read it from the table. The
 * limit is the same pages, framed beforehand, written to as many sockets.
 */
import pg from 'pg';
import { startBareServer } from '../bare/bare.js';
import { faultsOf, startFollowers, type Arrival, type FollowerPlan, type Followers } from '../followers.js';
import type { Newcomer } from '../plan.js';
import { insertMessages, makeNewcomers, readStored } from '../set-up.js';
import { countStatements, readStatements } from '../statements.js';
import type { Run, Suite } from '../suite.js';

const clients = { users: 1_000, rooms: 10, roomsEach: 1 };
const quickClients = { ...clients, users: 100 };
/** Messages of each room that the clients hold, that they missed, and that are sent when they are back. */
const [seen, missed, afterwards] = [100, 500, 5];
const maxSeconds = 2;
const maxQueries = 50;

export const resume: Suite = {
  name: 'resume',
  title: `two nodes that were just started, ${clients.users} clients at once, each of whom missed ${missed} messages of its room`,
  isLong: true,
  async run(run) {
    const asked = run.quick ? quickClients : clients;
    const nodes = await run.startNodes(2);
    const db = new pg.Client({ connectionString: run.databaseUrl, application_name: 'trunkline bench' });
    await db.connect();
    try {
      run.status('setting up');
      const people = await makeNewcomers(
        db,
        asked,
        nodes.map(({ url }) => url),
        run.secret,
      );
      const roomIds = [...new Set(people.flatMap((person) => person.roomIds))];
      await insertMessages(db, roomIds, seen + missed, run.contentChars);
      await countStatements(db);
      const crowd = startFollowers(run, 'crowd');
      run.status('resuming');
      const ours = await crowd.ask('come', { followers: people.map(planOf), atOnce: people.length });
      const statements = await readStatements(db);
      await insertMessages(db, roomIds, afterwards, run.contentChars);
      const { heads, problems } = await readStored(db, roomIds);
      const checked = await crowd.ask('check', { heads });
      const bare = await resumeBare(run, crowd, people);
      crowd.end();
      return {
        figures: [
          {
            name: 'until all are live',
            value: ours.allLiveMs / 1_000,
            unit: 's',
            goal: { atMost: maxSeconds },
            against: [{ name: 'the same pages, framed, written to as many sockets', value: bare.allLiveMs / 1_000 }],
          },
          { name: 'client p50', value: ours.liveMs.p50, unit: 'ms' },
          { name: 'client p99', value: ours.liveMs.p99, unit: 'ms' },
          { name: 'replayed', value: (ours.deliveries / ours.allLiveMs) * 1_000, unit: 'messages/s' },
          {
            name: 'queries',
            value: statements?.reduce((sum, { calls }) => sum + calls, 0) ?? Number.NaN,
            unit: 'statements',
            goal: { atMost: maxQueries },
          },
        ],
        failures: [
          ...faultsOf('resume', checked),
          ...problems,
          ...(ours.deliveries === asked.users * missed
            ? []
            : [`${ours.deliveries} messages were replayed and not ${asked.users * missed}`]),
        ],
        notes: [`${(ours.bytes / 1_048_576).toFixed(0)} MiB to ${asked.users} clients; ${bare.deliveries} messages by the bare server`],
        detail: { ours, bare, statements },
      };
    } finally {
      await db.end();
    }
  },
};

const planOf = ({ token, roomIds, nodeUrl }: Newcomer): FollowerPlan => ({
  token,
  nodeUrls: [nodeUrl],
  rooms: roomIds.map((roomId) => ({ roomId, after: seen })),
});

/** All get the pages of one room, which a client of ours received. */
async function resumeBare(run: Run, ours: Followers, people: readonly Newcomer[]): Promise<Arrival> {
  run.status('the same of bare servers');
  const roomId = people[0]?.roomIds[0] ?? '';
  const pages = await ours.ask('pages', { roomId });
  const servers = [await startBareServer(run, pages), await startBareServer(run, pages)];
  const crowd = startFollowers(run, 'crowd of bare servers');
  const followers = people.map((person, n): FollowerPlan => ({
    token: person.token,
    nodeUrls: [servers[n % servers.length]?.url ?? ''],
    rooms: [{ roomId, after: seen }],
    isBare: true,
  }));
  const arrival = await crowd.ask('come', { followers, atOnce: followers.length });
  crowd.end();
  for (const server of servers) server.stop();
  return arrival;
}
