import { readdir } from 'node:fs/promises';
import type { Scrape } from '../support/metrics.js';
import type { Alarms, Resources } from './history.js';

/** What a node holds, by what it and the system say of it. Connections of the pools count where they are in use, not where they wait for it. */
export async function resourcesOf(pid: number, metrics: Scrape): Promise<Resources> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => undefined); // only Linux has them there
  const ofPool = (what: string, pool: string) => metrics.value(`trunkline_db_pool_${what}_connections`, { pool }) ?? 0;
  const idle = (pool: string) => ofPool('open', pool) - ofPool('busy', pool);
  return {
    connections: metrics.sum('trunkline_connections'),
    followedRooms: metrics.sum('trunkline_followed_rooms'),
    queuedSends: metrics.sum('trunkline_writer_queue_messages'),
    busyPoolClients: metrics.sum('trunkline_db_pool_busy_connections'),
    poolWaiters: metrics.sum('trunkline_db_pool_waiters'),
    descriptors: descriptors === undefined ? 0 : descriptors.length - metrics.sum('trunkline_db_pool_open_connections'),
    // An idle connection has one, until it is closed; not so the writer's, which stay.
    timers: (metrics.value('nodejs_active_resources', { type: 'Timeout' }) ?? 0) - idle('api') - idle('watch'),
    memoryMiB: Math.round((metrics.sum('nodejs_heap_size_used_bytes') + metrics.sum('nodejs_external_memory_bytes')) / 2 ** 20),
  };
}

/** Of several looks the least of each: what a node does every second is not what it holds. */
export const leastOf = (looks: readonly [Resources, ...Resources[]]): Resources =>
  looks.reduce(
    (least, look) =>
      Object.fromEntries(
        Object.entries(look).map(([of, amount]) => [of, Math.min(amount, least[of as keyof Resources])]),
      ) as unknown as Resources,
  );

export const noAlarms: Alarms = { streamFaults: 0, logHoles: 0, unknownSends: 0 };

export const alarmsOf = (metrics: Scrape): Alarms => ({
  streamFaults: metrics.sum('trunkline_stream_faults_total'),
  logHoles: metrics.sum('trunkline_log_holes_total'),
  unknownSends: metrics.value('trunkline_sends_in_doubt_total', { end: 'unknown' }) ?? 0,
});

export const sumOf = (a: Alarms, b: Alarms): Alarms => ({
  streamFaults: a.streamFaults + b.streamFaults,
  logHoles: a.logHoles + b.logHoles,
  unknownSends: a.unknownSends + b.unknownSends,
});
