/** What befalls a node as a process. */
import { execFile } from 'node:child_process';
import { readdir, mkdtemp, rm, writeFile, access } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { callAnything } from '../../support/any-call.js';
import { seconds, type WorldNode } from '../world.js';
import { oneNode, Skipped, type Fault, type Scene } from './scene.js';

const run = promisify(execFile);

async function restart(scene: Scene, node: WorldNode, signal: NodeJS.Signals, special?: Parameters<WorldNode['start']>[0]): Promise<void> {
  const code = await node.stop(signal);
  await node.start(special);
  // A node ends itself, with 1, when its time is over and statements of its still wait; whatever makes them wait is another fault.
  const isAlone = scene.events.filter((event) => event.type === 'fault' && event.phase === 'begin').length === 1;
  if (signal === 'SIGTERM' && code !== 0 && (isAlone || code !== 1)) throw new Error(`${node.name} ended with ${code} after SIGTERM`);
}

/** Of libfaketime, where Debian's package and its kin put it. */
async function clockLibrary(): Promise<string> {
  for (const folder of [`${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu/faketime`, 'faketime']) {
    const path = `/usr/lib/${folder}/libfaketime.so.1`;
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  throw new Skipped('libfaketime is not installed');
}

export const nodeFaults = {
  nothing: () => seconds(8),
  'node killed': async (scene) => {
    for (let n = 0; n < 3; n++) await restart(scene, oneNode(scene), 'SIGKILL');
  },
  'node stopped': async (scene) => {
    await restart(scene, oneNode(scene), 'SIGTERM');
  },
  'nodes rolled': async (scene) => {
    for (const node of scene.world.nodes) await restart(scene, node, 'SIGTERM');
  },
  'node frozen for 10 s': async (scene) => {
    const node = oneNode(scene);
    node.signal('SIGSTOP');
    await seconds(10);
    node.signal('SIGCONT');
  },
  'event loop blocked for 5 s': async (scene) => {
    await oneNode(scene).inspect((inspector) => inspector.block(5_000));
    await seconds(1);
  },
  'clock of a node jumps': async (scene) => {
    const node = oneNode(scene);
    const library = await clockLibrary();
    const folder = await mkdtemp(join(tmpdir(), 'trunkline-clock-'));
    const offset = join(folder, 'offset');
    await writeFile(offset, '+0');
    // What is left alone is the monotonic clock, which no system sets.
    const env = { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: offset, FAKETIME_CACHE_DURATION: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
    await restart(scene, node, 'SIGTERM', { env });
    const missed: number[] = [];
    for (const jumpS of [7_200, -7_200, 0]) {
      await writeFile(offset, jumpS < 0 ? String(jumpS) : `+${jumpS}`);
      await seconds(2.5);
      if (Math.abs((await node.clockAheadS()) - jumpS) > 5) missed.push(jumpS);
    }
    await restart(scene, node, 'SIGTERM');
    await rm(folder, { recursive: true });
    if (missed.length > 0) throw new Skipped(`the clock did not jump by ${missed.join(' s, nor by ')} s`);
  },
  'memory of a node small': async (scene) => {
    const { clients, rooms, dice } = scene;
    const node = oneNode(scene);
    await restart(scene, node, 'SIGTERM', { nodeArgs: ['--max-old-space-size=64'] });
    const { pid } = node;
    for (const client of clients) client.moveTo([node.url]);
    const slow = clients.filter((_, n) => n % 3 === 0);
    for (const client of slow) client.pauseReading(true);
    for (let n = 0; n < 400; n++) {
      clients[dice.below(clients.length)]?.send(rooms[dice.below(rooms.length)] ?? '', 20_000);
      await seconds(0.02);
    }
    for (const client of slow) client.pauseReading(false);
    for (const client of clients) client.moveTo(scene.world.nodes.map(({ url }) => url));
    if (!node.isRunning || node.pid !== pid) throw new Error(`${node.name} ran out of memory`);
    await restart(scene, node, 'SIGTERM');
  },
  'descriptors of a node exhausted': async (scene) => {
    const { pid, front, database } = oneNode(scene);
    const limit = (...args: string[]) =>
      run('prlimit', ['--pid', String(pid), ...args]).catch((error: unknown) => {
        throw new Skipped('prlimit is not there, or the system does not let it set limits', { cause: error });
      });
    const { stdout } = await limit('--nofile', '--output', 'SOFT', '--noheadings');
    const open = await readdir(`/proc/${pid}/fd`);
    await limit(`--nofile=${Math.max(1, open.length - 10)}:`);
    for (let n = 0; n < 4; n++) {
      for (const proxy of [front, database]) proxy.cut();
      await seconds(1.5);
    }
    await limit(`--nofile=${stdout.trim()}:`);
  },
  'pool of a node exhausted': async (scene) => {
    const { world, people, rooms, dice } = scene;
    const node = oneNode(scene);
    await restart(scene, node, 'SIGTERM', { env: { DATABASE_POOL_SIZE: '2' } });
    const until = Date.now() + 6_000;
    let waiters = 0;
    const readers = Array.from({ length: 60 }, async () => {
      while (Date.now() < until) {
        const { token } = people[dice.below(people.length)] ?? {};
        const path = `/rooms/${rooms[dice.below(rooms.length)]}/messages?limit=100`;
        await callAnything(node.url, path, {
          ...(token !== undefined && { token }),
          headers: { connection: 'close' },
          signal: AbortSignal.timeout(5_000),
        }).catch(() => undefined);
      }
    });
    while (Date.now() < until) {
      waiters = Math.max(waiters, (await node.scrape()).sum('trunkline_db_pool_waiters'));
      world.nodes[0]?.front.cut(); // who comes back needs the pool for its rooms
      await seconds(0.5);
    }
    await Promise.all(readers);
    if (waiters === 0) throw new Skipped('nothing waited for a connection of the pool');
    await restart(scene, node, 'SIGTERM');
  },
} as const satisfies Record<string, Fault>;
