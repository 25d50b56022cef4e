/** What befalls clients, and the way between them and the nodes. */
import { execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { findNginx, nginxFolder } from '../../../scripts/cluster/nginx.js';
import { freePort, nodeIsReady } from '../../../scripts/cluster/node-process.js';
import { eventually } from '../../support/eventually.js';
import type { ChaosClient } from '../client.js';
import { seconds, type World } from '../world.js';
import { losing, oneNode, Skipped, type Fault, type Scene } from './scene.js';

const crowdPeople = 20;
const socketsEach = 100;
/** Of this process: each of the crowd takes one, and two in the proxy. */
const crowdDescriptors = crowdPeople * socketsEach * 3 + 1_000;

/** Lets clients go to these from now on. */
function lead(clients: readonly ChaosClient[], urls: readonly string[]): void {
  for (const client of clients) {
    client.moveTo(urls);
    client.cut();
  }
}

const urlsOf = ({ nodes }: World): string[] => nodes.map(({ url }) => url);

/** Sends that were acked as found stored, by what was recorded so far. */
const duplicates = ({ events }: Scene): number => events.filter((event) => event.type === 'ok' && event.duplicate).length;

export const clientFaults = {
  'clients cut': async ({ world: { nodes } }) => {
    for (let n = 0; n < 6; n++) {
      for (const { front } of nodes) front.cut();
      await seconds(1.2);
    }
  },
  'answers to clients lost': ({ world: { nodes }, dice }) =>
    losing(
      nodes.map(({ front }) => front),
      dice,
      8,
    ),
  'acks lost and sent again on another node': async (scene) => {
    const { world, clients, dice } = scene;
    const before = duplicates(scene);
    for (const { url, front } of world.nodes) {
      const others = urlsOf(world).filter((other) => other !== url);
      lead(clients, [url]);
      await eventually(() => clients.every(({ isConnected }) => isConnected), 'all clients to be on one node', 90_000);
      for (const client of clients) client.moveTo(others);
      front.onServerData = (chunk) => !chunk.includes('message_ack') || dice.below(10) > 0;
      await seconds(2);
      front.onServerData = undefined;
    }
    lead(clients, urlsOf(world));
    if (duplicates(scene) === before) throw new Skipped('no send was found stored by another node');
  },
  'clients half-open': async (scene) => {
    const { front } = oneNode(scene);
    front.swallow();
    await seconds(14);
    front.heal();
  },
  'clients that do not read': async ({ clients }) => {
    const slow = clients.filter((_, n) => n % 3 === 0);
    for (const client of slow) client.pauseReading(true);
    await seconds(8);
    for (const client of slow) client.pauseReading(false);
  },
  'clients that get and send a byte at a time': async (scene) => {
    const { front } = oneNode(scene);
    front.trickleMs = 2;
    await seconds(8);
    front.trickleMs = undefined;
  },
  '2000 clients reconnect at once': async (scene) => {
    const { world, people } = scene;
    const allowed = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
    if (Number(allowed) < crowdDescriptors) throw new Skipped(`a process may have only ${allowed} descriptors`);
    const visitors = await Promise.all(Array.from({ length: crowdPeople }, () => scene.newPerson()));
    const room = await scene.newRoom([...people.slice(0, 1), ...visitors]);
    const crowd: ChaosClient[] = [];
    for (let n = 0; n < socketsEach; n++) {
      for (const person of visitors) {
        const client = scene.newClient(person);
        client.follow(room);
        crowd.push(client);
      }
      await seconds(0.05);
    }
    const isThere = () => crowd.every((client) => client.follows(room));
    await eventually(isThere, 'the crowd to come', 90_000);
    const talk = setInterval(() => scene.clients[0]?.send(room), 100);
    try {
      for (let n = 0; n < 2; n++) {
        await seconds(1);
        for (const { front } of world.nodes) front.cut();
        await eventually(isThere, 'the crowd to come back', 60_000);
      }
    } finally {
      clearInterval(talk);
    }
    for (const client of crowd) scene.dismiss(client);
  },
  'Nginx reloaded and killed': async ({ world, clients }) => {
    const program = await findNginx().catch(() => {
      throw new Skipped('Nginx is not installed');
    });
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const fronts = world.nodes.map(({ front }) => front.port);
    const folder = await nginxFolder(program, port, fronts);
    const start = async () => {
      const started = folder.start();
      for (const stream of [started.stdout, started.stderr]) stream?.resume();
      await nodeIsReady(url, 90_000, () => (started.exitCode === null ? undefined : `Nginx ended with ${started.exitCode}`));
      return started;
    };
    let nginx = await start();
    const all = [...clients];
    lead(all, [url]);
    for (let n = 0; n < 2; n++) {
      await seconds(2);
      nginx.kill('SIGHUP');
      await seconds(2);
      process.kill(-(nginx.pid ?? 0), 'SIGKILL'); // with its workers, old and new
      await seconds(0.5);
      nginx = await start();
    }
    await seconds(1);
    for (const client of all) client.moveTo(urlsOf(world));
    process.kill(-(nginx.pid ?? 0), 'SIGKILL');
    await rm(folder.path, { recursive: true });
  },
} as const satisfies Record<string, Fault>;
