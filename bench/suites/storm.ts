/**
 * Many clients at once, while others go on to talk: all come online, or one of two nodes goes away, in order or killed, and its clients go to the other one
 * and resume. Who the storm is to has a process of its own, and so has who talks: those are on the node that stays.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { startBareServer } from '../bare/bare.js';
import { faultsOf, startFollowers, type Arrival, type FollowerPlan, type Latency } from '../followers.js';
import type { Newcomer } from '../plan.js';
import { makeNewcomers, readStored } from '../set-up.js';
import type { Figure, Run, Suite } from '../suite.js';

const clients = { users: 5_000, rooms: 150, roomsEach: 3 };
const quickClients = { ...clients, users: 500 };
const [listeners, senders] = [200, 50];
const perSecond = 200;
const atOnce = 200;
const maxSeconds = 5;
const maxRatio = 3;

const storms = {
  join: 'all clients come online at once',
  restart: 'one of the nodes is told to end (SIGTERM), and tells its clients to go',
  kill: 'one of the nodes is killed (SIGKILL)',
} as const;
type Storm = keyof typeof storms;

interface Measured {
  readonly figures: readonly Figure[];
  readonly failures: readonly string[];
  readonly notes: readonly string[];
  readonly detail: unknown;
}

export const storm: Suite = {
  name: 'storm',
  title: `two nodes, ${clients.users} clients in ${clients.roomsEach} rooms each, ${perSecond} messages/s of others: until the last client is live`,
  parts: Object.keys(storms),
  isLong: true,
  async run(run) {
    const measured: Measured[] = [];
    for (const name of Object.keys(storms) as Storm[]) {
      if (!run.wants(name)) continue;
      measured.push(await play(run, name));
      await run.stopNodes();
    }
    return {
      figures: measured.flatMap(({ figures }) => figures),
      failures: measured.flatMap(({ failures }) => failures),
      notes: measured.flatMap(({ notes }) => notes),
      detail: measured.map(({ detail }) => detail),
    };
  },
};

async function play(run: Run, name: Storm): Promise<Measured> {
  const [leaving, staying] = await run.startNodes(2);
  if (leaving === undefined || staying === undefined) throw new Error('two nodes were asked for');
  run.status(`${name}: setting up`);
  const db = new pg.Client({ connectionString: run.databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const nodeUrls = [leaving.url, staying.url];
    const { users, ...rooms } = run.quick ? quickClients : clients;
    const people = await makeNewcomers(db, { users: users + listeners + senders, ...rooms }, nodeUrls, run.secret);
    await db.query('CHECKPOINT').catch(() => undefined); // may need rights; the writes of the set-up are not the storm's
    const roomIds = [...new Set(people.flatMap((person) => person.roomIds))];
    const listening = people.slice(0, listeners).map((person) => planOf(person, [staying.url]));
    const sending = people
      .slice(listeners, listeners + senders)
      .map(({ token, roomIds: [roomId = ''] }) => ({ token, roomId, nodeUrl: staying.url }));
    const storming = people.slice(listeners + senders).map((person) =>
      planOf(
        person,
        nodeUrls.toSorted((a) => (a === person.nodeUrl ? -1 : 1)),
      ),
    );

    const others = startFollowers(run, `others, ${name}`);
    await others.ask('come', { followers: listening, atOnce });
    const crowd = startFollowers(run, `crowd, ${name}`);
    if (name !== 'join') await crowd.ask('come', { followers: storming, atOnce });
    await others.ask('send', { senders: sending, perSecond, contentChars: run.contentChars });
    run.status(`${name}: before`);
    await delay(run.warmUp * 1_000);
    await others.ask('measure', undefined);
    await delay(run.seconds * 1_000);
    const before = await others.ask('measured', undefined);

    run.status(`${name}: the storm`);
    await others.ask('measure', undefined);
    const gone = name === 'join' ? 0 : await crowd.ask('leaving', { nodeUrl: leaving.url });
    const startedAt = Date.now();
    if (name !== 'join') leaving.process.kill(name === 'kill' ? 'SIGKILL' : 'SIGTERM');
    const come = name === 'join' ? await crowd.ask('come', { followers: storming, atOnce: storming.length }) : undefined;
    const { lastLiveAt, awayMs } = await crowd.ask('returned', { gone });
    const during = await others.ask('measured', undefined);

    const acked = await others.ask('stop', undefined);
    const { heads, messages, problems } = await readStored(db, roomIds);
    const checks = [faultsOf(`${name}, others`, await others.ask('check', { heads })), faultsOf(name, await crowd.ask('check', { heads }))];
    const notStored = roomIds
      .filter((roomId) => (acked[roomId] ?? 0) !== messages[roomId])
      .map((roomId) => `${name}: room ${roomId} has other messages than were acked`);
    others.end();
    crowd.end();
    const bare = come && (await comeToBareServers(run, storming));
    return {
      figures: figuresOf(name, (lastLiveAt - startedAt) / 1_000, before, during, bare),
      failures: [...checks.flat(), ...problems, ...notStored],
      notes: [
        `${name}: ${storms[name]}`,
        ...(come === undefined
          ? [`${name}: ${gone} clients were away for ${awayMs.p50.toFixed(0)} ms (p50), ${awayMs.max.toFixed(0)} ms (max)`]
          : []),
        `${name}: the senders were late by ${during.lateMs.p99.toFixed(1)} ms (p99), before by ${before.lateMs.p99.toFixed(1)} ms`,
      ],
      detail: { name, before, during, come, gone, awayMs, bare },
    };
  } finally {
    await db.end();
  }
}

function figuresOf(name: Storm, seconds: number, before: Latency, during: Latency, bare: Arrival | undefined): Figure[] {
  return [
    {
      name: `${name}, until the last is live`,
      value: seconds,
      unit: 's',
      goal: { atMost: maxSeconds },
      ...(bare && { against: [{ name: 'connecting to bare ws servers', value: bare.allLiveMs / 1_000 }] }),
    },
    {
      name: `${name}, messages of others p99`,
      value: during.deliveryMs.p99,
      unit: 'ms',
      against: [{ name: 'before', value: before.deliveryMs.p99, goal: { atMost: maxRatio } }],
    },
  ];
}

const planOf = ({ token, roomIds }: Newcomer, nodeUrls: readonly string[]): FollowerPlan => ({
  token,
  nodeUrls,
  rooms: roomIds.map((roomId) => ({ roomId })),
});

async function comeToBareServers(run: Run, people: readonly FollowerPlan[]): Promise<Arrival> {
  const servers = [await startBareServer(run), await startBareServer(run)];
  const crowd = startFollowers(run, 'crowd of bare servers');
  const followers = people.map(({ token }, n): FollowerPlan => ({
    token,
    nodeUrls: [servers[n % servers.length]?.url ?? ''],
    rooms: [],
    isBare: true,
  }));
  const arrival = await crowd.ask('come', { followers, atOnce: followers.length });
  crowd.end();
  for (const server of servers) server.stop();
  return arrival;
}
