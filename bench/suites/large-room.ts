/**
 * One room with as many sockets as a machine has room for, over two nodes, open loop. The limit is the same messages, framed beforehand, written by two
 * bare servers to as many sockets.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { freePort } from '../../scripts/cluster/node-process.js';
import { startBareServer } from '../bare/bare.js';
import { faultsOf, startFollowers, type Checked, type Followers, type Latency } from '../followers.js';
import { usageOf } from '../process-usage.js';
import { makeNewcomers, readStored } from '../set-up.js';
import type { Run, Suite } from '../suite.js';

const sockets = 10_000;
const quickSockets = 1_000;
/** Files that a process has open beside sockets. */
const otherFiles = 200;
const perSecond = 20;
const senders = 20;
const atOnce = 200;
const maxP99Ms = 250;
const lagEveryMs = 250;

export const largeRoom: Suite = {
  name: 'large-room',
  title: `two nodes, ${sockets.toLocaleString('en')} sockets of one room, ${perSecond} messages/s, open loop: from the moment at which one is due to its receipt`,
  isLong: true,
  async run(run) {
    const wanted = run.quick ? quickSockets : sockets;
    const users = Math.min(wanted, (await openFilesMax()) - otherFiles);
    const ours = await inRoom(run, users);
    await run.stopNodes();
    const bare = await ofBareServers(run, users);
    const ms = (name: string, percentile: 'p50' | 'p99') => ({
      name: `send to receipt ${name}`,
      value: ours.latency.deliveryMs[percentile],
      unit: 'ms',
      against: [{ name: 'framed beforehand, by bare servers', value: bare.latency.deliveryMs[percentile] }],
    });
    return {
      figures: [
        ms('p50', 'p50'),
        { ...ms('p99', 'p99'), goal: { atMost: maxP99Ms } },
        { name: 'delivered', value: ours.latency.deliveries / ours.latency.seconds, unit: 'deliveries/s' },
        { name: 'lagging sockets, at most', value: ours.laggingMax, unit: 'sockets', goal: { atMost: 0 } },
      ],
      failures: [...faultsOf('large room', ours.checked), ...faultsOf('bare servers', bare.checked), ...ours.problems],
      notes: [
        ...(users < wanted ? [`${users} sockets: no more files may be open here (ulimit -n)`] : []),
        `the senders were late by ${late(ours.latency)}, those of the bare servers by ${late(bare.latency)}`,
        `CPU of nodes ${ours.cpu.nodes}, of the clients ${ours.cpu.clients}`,
      ],
      detail: { ours, bare },
    };
  },
};

interface Measured {
  readonly latency: Latency;
  readonly checked: Checked;
}

async function inRoom(run: Run, users: number) {
  const metricsUrls: string[] = [];
  const nodes = [];
  for (let n = 0; n < 2; n++) {
    const port = await freePort();
    metricsUrls.push(`http://127.0.0.1:${port}/metrics`);
    nodes.push(...(await run.startNodes(1, { METRICS_PORT: String(port) })));
  }
  run.status('setting up');
  const db = new pg.Client({ connectionString: run.databaseUrl, application_name: 'trunkline bench' });
  await db.connect();
  try {
    const nodeUrls = nodes.map(({ url }) => url);
    const people = await makeNewcomers(db, { users: users + senders, rooms: 1, roomsEach: 1 }, nodeUrls, run.secret);
    const [roomId = ''] = people[0]?.roomIds ?? [];
    const [crowd, speakers] = [startFollowers(run, 'crowd'), startFollowers(run, 'speakers')];
    run.status('connecting');
    const followers = people.slice(senders).map(({ token, nodeUrl }) => ({ token, nodeUrls: [nodeUrl], rooms: [{ roomId }] }));
    await crowd.ask('come', { followers, atOnce });
    const sending = people.slice(0, senders).map(({ token, nodeUrl }) => ({ token, nodeUrl, roomId }));
    await speakers.ask('send', { senders: sending, perSecond, contentChars: run.contentChars });
    const watch = watchLag(metricsUrls);
    const processes = [...nodes.map((node) => node.process), crowd.process];
    const usage = () => Promise.all(processes.map((child) => usageOf(child.pid)));
    const before = await usage();
    const latency = await measure(run, crowd, speakers);
    const after = await usage();
    const acked = await speakers.ask('stop', undefined);
    const { heads, messages, problems } = await readStored(db, [roomId]);
    const checked = await crowd.ask('check', { heads });
    crowd.end();
    speakers.end();
    const shares = after.map((used, n) =>
      Math.round(((used.cpuSeconds - (before[n]?.cpuSeconds ?? 0)) / (used.at - (before[n]?.at ?? 0))) * 100),
    );
    return {
      latency,
      checked,
      problems:
        acked[roomId] === messages[roomId]
          ? problems
          : [...problems, `${acked[roomId]} messages were acked, ${messages[roomId]} are stored`],
      laggingMax: await watch.end(),
      cpu: { nodes: shares.slice(0, -1).join('% and ') + '%', clients: `${shares.at(-1)}%` },
    };
  } finally {
    await db.end();
  }
}

async function ofBareServers(run: Run, users: number): Promise<Measured> {
  run.status('bare servers: connecting');
  const servers = [await startBareServer(run), await startBareServer(run)];
  const urls = servers.map(({ url }) => url);
  const roomId = '00000000-0000-7000-8000-000000000000';
  const [crowd, speakers] = [startFollowers(run, 'crowd of bare servers'), startFollowers(run, 'speakers to bare servers')];
  const followers = Array.from({ length: users }, (_, n) => ({
    token: 'none',
    nodeUrls: [urls[n % urls.length] ?? ''],
    rooms: [{ roomId }],
    isBare: true as const,
  }));
  await crowd.ask('come', { followers, atOnce });
  await speakers.ask('broadcast', { urls, roomId, perSecond, contentChars: run.contentChars });
  const latency = await measure(run, crowd, speakers);
  const checked = await crowd.ask('check', { heads: await speakers.ask('stop', undefined) });
  crowd.end();
  speakers.end();
  for (const server of servers) server.stop();
  return { latency, checked };
}

/** Whoever speaks has a process of its own, so that what is due is not late because ten thousand are listening. */
async function measure(run: Run, crowd: Followers, speakers: Followers): Promise<Latency> {
  run.status('warming up');
  await delay(run.warmUp * 1_000);
  await Promise.all([crowd.ask('measure', undefined), speakers.ask('measure', undefined)]);
  run.status('measuring');
  await delay(run.seconds * 1_000);
  const [latency, { lateMs }] = await Promise.all([crowd.ask('measured', undefined), speakers.ask('measured', undefined)]);
  return { ...latency, lateMs };
}

/** Asks the nodes again and again how many sockets do not take what waits for them. `end` gives the most that they said. */
function watchLag(metricsUrls: readonly string[]): { end(): Promise<number> } {
  const over = new AbortController();
  const watch = async (): Promise<number> => {
    let max = 0;
    while (!over.signal.aborted) {
      const texts = await Promise.all(metricsUrls.map(async (url) => (await fetch(url)).text()));
      const lagging = texts.map((text) => Number(/^trunkline_lagging_connections(?:\{.*\})? (\d+)/m.exec(text)?.[1]));
      max = Math.max(
        max,
        lagging.reduce((sum, count) => sum + count),
      );
      await delay(lagEveryMs);
    }
    return max;
  };
  const watched = watch();
  return {
    end() {
      over.abort();
      return watched;
    },
  };
}

/** What the system allows a process, and with it each of those that are started here. Infinity where that can't be read. */
async function openFilesMax(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  return Number(/^Max open files +\d+ +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
}

const late = ({ lateMs }: Latency): string => `${lateMs.p50.toFixed(1)} ms (p50) and ${lateMs.p99.toFixed(1)} ms (p99)`;
