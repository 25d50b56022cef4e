/**
 * What an idle connection costs a node: the difference that so many make to one that has others already, so that what is made once is not counted.
 * The limit is a bare `ws` server, a process as the node is, that has as many.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { startBareServer } from '../bare/bare.js';
import { faultsOf, startFollowers, type FollowerPlan } from '../followers.js';
import { memoryProbe, type Memory, type Probed } from '../memory.js';
import { makeNewcomers } from '../set-up.js';
import type { Run, Suite } from '../suite.js';

const roomsEach = 3;
const connections = { users: 7_500, rooms: 450, roomsEach };
const quickConnections = { users: 3_000, rooms: 180, roomsEach };
/** Of those that come first, and with them what is made once, however many come. */
const firstShare = 1 / 3;
const atOnce = 100;
/** For presence of those who came or went to be told, and for what the kernel and the garbage collector still have to do. */
const settleMs = 5_000;
const maxKiB = 10;
const maxRatio = 1.5;

export const idle: Suite = {
  name: 'idle',
  title: `one node, ${connections.users.toLocaleString('en')} connections that follow ${roomsEach} rooms each and do nothing: memory of one`,
  isLong: true,
  async run(run) {
    const { users, ...rooms } = run.quick ? quickConnections : connections;
    const node = await memoryProbe();
    const [{ url } = { url: '' }] = await run.startNodes(1, node.env);
    run.status('setting up');
    const people = await makePeople(run, { users, ...rooms }, url);
    const ours = await measure(run, people, node);
    await run.stopNodes();
    const server = await memoryProbe();
    const bareServer = await startBareServer(run, '', server.env);
    const bare = await measure(
      run,
      people.map(({ token }) => ({ token, nodeUrls: [bareServer.url], rooms: [], isBare: true })),
      server,
    );
    bareServer.stop();
    const figure = (name: string, of: (memory: Memory) => number) => ({
      name,
      value: of(ours.each),
      unit: 'KiB',
      against: [{ name: 'a bare ws server', value: of(bare.each) }],
    });
    const resident = figure('resident', ({ residentBytes }) => residentBytes / 1_024);
    return {
      figures: [
        {
          ...resident,
          goal: { atMost: maxKiB },
          against: resident.against.map((reference) => ({ ...reference, goal: { atMost: maxRatio } })),
        },
        figure('of it heap', ({ heapBytes }) => heapBytes / 1_024),
        figure('of it external', ({ externalBytes }) => externalBytes / 1_024),
      ],
      failures: [...ours.faults, ...bare.faults],
      notes: [`resident with ${users} connections ${mib(ours.after)} MiB, with ${users * firstShare} of them ${mib(ours.before)} MiB`],
      detail: { ours, bare },
    };
  },
};

async function makePeople(run: Run, crowd: typeof connections, url: string): Promise<FollowerPlan[]> {
  const db = new pg.Client({ connectionString: run.databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const people = await makeNewcomers(db, crowd, [url], run.secret);
    return people.map(({ token, roomIds }) => ({ token, nodeUrls: [url], rooms: roomIds.map((roomId) => ({ roomId })) }));
  } finally {
    await db.end();
  }
}

async function measure(run: Run, people: readonly FollowerPlan[], process: Probed) {
  const crowd = startFollowers(run, 'crowd');
  const first = people.length * firstShare;
  const memoryWith = async (followers: readonly FollowerPlan[]): Promise<Memory> => {
    run.status('connecting');
    await crowd.ask('come', { followers, atOnce });
    run.status('collecting garbage');
    await delay(settleMs);
    return process.memory();
  };
  const before = await memoryWith(people.slice(0, first));
  const after = await memoryWith(people.slice(first));
  const faults = faultsOf('idle', await crowd.ask('check', { heads: {} }));
  crowd.end();
  const each = (of: (memory: Memory) => number): number => (of(after) - of(before)) / (people.length - first);
  return {
    before,
    after,
    faults,
    each: {
      residentBytes: each(({ residentBytes }) => residentBytes),
      heapBytes: each(({ heapBytes }) => heapBytes),
      externalBytes: each(({ externalBytes }) => externalBytes),
    },
  };
}

const mib = ({ residentBytes }: Memory): string => (residentBytes / 1_048_576).toFixed(0);
