import { ClientError } from '../protocol/errors.js';

export interface QueueLimits {
  /** Pieces of work that run at the same time. */
  readonly atOnce: number;
  /** Of these, those of one site. */
  readonly atOncePerSite: number;
  /** Pieces that may wait for that, of all sites together. */
  readonly waitingMax: number;
  /** How long one may wait. */
  readonly waitMaxMs: number;
  /** What a refused client is told to wait. */
  readonly retryAfterMs: number;
}

/** From where a piece of work comes: a network, and the site that it is a part of. */
export interface Origin {
  readonly site: string;
  readonly network: string;
}

interface Job {
  readonly start: () => void;
  readonly refuse: () => void;
}

interface Site {
  running: number;
  waiting: number;
  /** The network whose turn comes next is the first. */
  readonly networks: Map<string, Job[]>;
}

/**
 * Work that is done a few pieces at a time, for callers who don't know of each other.
 *
 * Promises: sites take turns, and within a site its networks do, so that a flood from one delays nobody else by more than what runs. Where too many
 * wait, the network that has the most waiting loses its last one. No piece waits without an end.
 */
export class FairQueue {
  /** The site whose turn comes next is the first. */
  private readonly sites = new Map<string, Site>();
  private running = 0;
  private waiting = 0;

  constructor(private readonly limits: QueueLimits) {}

  /** @throws ClientError `overloaded` where too many wait, at once or later, or it waited for too long; what `work` throws */
  async run<Result>(origin: Origin, work: () => Promise<Result>): Promise<Result> {
    await this.turn(origin);
    try {
      return await work();
    } finally {
      this.end(origin);
    }
  }

  private turn({ site: name, network }: Origin): Promise<void> {
    return new Promise((started, refused) => {
      const site = this.sites.get(name) ?? { running: 0, waiting: 0, networks: new Map<string, Job[]>() };
      this.sites.set(name, site);
      const jobs = site.networks.get(network) ?? [];
      site.networks.set(network, jobs);
      const timer = setTimeout(() => {
        this.remove(name, site, network, jobs, job);
        job.refuse();
      }, this.limits.waitMaxMs);
      const job: Job = {
        start: () => {
          clearTimeout(timer);
          started();
        },
        refuse: () => {
          clearTimeout(timer);
          refused(new ClientError('overloaded', undefined, { retryAfterMs: this.limits.retryAfterMs }));
        },
      };
      jobs.push(job);
      site.waiting++;
      this.waiting++;
      this.startNext();
      if (this.waiting > this.limits.waitingMax) this.dropOne(name, network);
    });
  }

  private end({ site: name }: Origin): void {
    const site = this.sites.get(name);
    this.running--;
    if (site !== undefined) site.running--;
    this.forgetIdle(name);
    this.startNext();
  }

  private startNext(): void {
    while (this.running < this.limits.atOnce) {
      const next = [...this.sites].find(([, { running, waiting }]) => waiting > 0 && running < this.limits.atOncePerSite);
      if (next === undefined) return;
      const [name, site] = next;
      const [network = '', jobs = []] = site.networks.entries().next().value ?? [];
      const [job] = jobs;
      if (job === undefined) return;
      this.remove(name, site, network, jobs, job);
      moveLast(site.networks, network);
      moveLast(this.sites, name);
      this.sites.set(name, site); // it runs, though nothing of it may wait
      site.running++;
      this.running++;
      job.start();
    }
  }

  /** Of the networks with the most waiting, that of the piece that came last is the one. */
  private dropOne(lastSite: string, lastNetwork: string): void {
    const name = heaviest(this.sites, lastSite, ({ waiting }) => waiting);
    const site = this.sites.get(name);
    if (site === undefined) return;
    const network = heaviest(site.networks, lastNetwork, ({ length }) => length);
    const jobs = site.networks.get(network);
    const job = jobs?.at(-1);
    if (jobs === undefined || job === undefined) return;
    this.remove(name, site, network, jobs, job);
    job.refuse();
  }

  private remove(name: string, site: Site, network: string, jobs: Job[], job: Job): void {
    jobs.splice(jobs.indexOf(job), 1);
    site.waiting--;
    this.waiting--;
    if (jobs.length === 0) site.networks.delete(network);
    this.forgetIdle(name);
  }

  private forgetIdle(name: string): void {
    const site = this.sites.get(name);
    if (site?.running === 0 && site.waiting === 0) this.sites.delete(name);
  }
}

function moveLast<Value>(map: Map<string, Value>, key: string): void {
  const value = map.get(key);
  if (value === undefined) return;
  map.delete(key);
  map.set(key, value);
}

/** @returns the key with the highest weight; among equals the preferred one */
function heaviest<Value>(map: ReadonlyMap<string, Value>, preferred: string, weightOf: (value: Value) => number): string {
  const preferredValue = map.get(preferred);
  let best = preferred;
  let most = preferredValue === undefined ? 0 : weightOf(preferredValue);
  for (const [key, value] of map) {
    if (weightOf(value) <= most) continue;
    best = key;
    most = weightOf(value);
  }
  return best;
}
