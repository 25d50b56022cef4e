/** What a run is made of: PostgreSQL on a folder of its own, three nodes, and a TCP proxy before each thing that can be cut. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, nodeIsReady, spawnNode } from '../../scripts/cluster/node-process.js';
import { callAnything } from '../support/any-call.js';
import { scrape, type Scrape } from '../support/metrics.js';
import { testSecret } from '../support/node.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import type { Alarms, Resources } from './history.js';
import { Inspector } from './inspector.js';
import { PostgresServer } from './postgres-server.js';
import { alarmsOf, leastOf, noAlarms, resourcesOf, sumOf } from './resources.js';

const lastWordsMs = 1_000;
const startDeadlineMs = 60_000;

interface Special {
  readonly env?: Record<string, string>;
  /** Options of Node itself. */
  readonly nodeArgs?: readonly string[];
  /** Of another build. */
  readonly main?: string;
}

export class WorldNode {
  /** By way of the proxy before the node. */
  url = '';
  private child: ChildProcess | undefined;
  private inspectorUrl = '';
  /** What it held before it had any client. */
  private held: Resources | undefined;
  /** Of its processes that have ended. */
  private past = noAlarms;

  private constructor(
    readonly name: string,
    private readonly port: number,
    private readonly metricsPort: number,
    /** Before the node's clients. */
    readonly front: Proxy,
    /** Between the node and its database. */
    readonly database: Proxy,
    /** The same for its LISTEN. */
    readonly listen: Proxy,
    private readonly env: Record<string, string>,
    private readonly logFile: string,
  ) {
    this.url = `http://127.0.0.1:${front.port}`;
  }

  static async create(name: string, databaseUrl: string, logFile: string, special: Special = {}): Promise<WorldNode> {
    const [port, metricsPort] = [await freePort(), await freePort()];
    const [front, database, listen] = await Promise.all([
      startProxy(`http://127.0.0.1:${port}`),
      startProxy(databaseUrl),
      startProxy(databaseUrl),
    ]);
    const env = {
      PATH: process.env['PATH'] ?? '',
      JWT_ACCESS_SECRET: testSecret,
      HOST: '127.0.0.1',
      PORT: String(port),
      METRICS_PORT: String(metricsPort),
      NODE_NAME: name,
      DATABASE_URL: database.through(databaseUrl),
      DATABASE_LISTEN_URL: listen.through(databaseUrl),
      HEARTBEAT_MS: '5000',
      RATE_LIMITS: 'off',
      LOG_FORMAT: 'json',
      LOG_LEVEL: 'info',
    };
    const node = new WorldNode(name, port, metricsPort, front, database, listen, env, logFile);
    await node.start(special);
    return node;
  }

  /**
   * As a supervisor does it: who finds no PostgreSQL at its start ends, and is started again.
   * @param special what differs until the next start
   */
  async start(special: Special = {}): Promise<void> {
    for (const until = Date.now() + startDeadlineMs; ; await seconds(0.5)) {
      this.spawn(special);
      try {
        return await this.ready(startDeadlineMs);
      } catch (error) {
        const isSabotaged = special.nodeArgs?.includes('--import') === true; // it would end again, and says why in its log
        if (this.isRunning || isSabotaged || Date.now() > until) throw error;
      }
    }
  }

  private spawn(special: Special): void {
    const log = createWriteStream(this.logFile, { flags: 'a' });
    const nodeArgs = ['--inspect=127.0.0.1:0', ...(special.nodeArgs ?? [])];
    const child = spawnNode({ ...this.env, ...special.env }, { stdio: ['ignore', 'pipe', 'pipe'] }, nodeArgs, special.main);
    this.child = child;
    this.held = undefined;
    for (const stream of [child.stdout, child.stderr]) stream?.pipe(log, { end: false });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.inspectorUrl = /Debugger listening on (\S+)/.exec(chunk.toString())?.[1] ?? this.inspectorUrl;
    });
    child.once('exit', () => log.end());
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  scrape(): Promise<Scrape> {
    return scrape(this.metricsPort);
  }

  /** Since its first start. */
  async alarms(): Promise<Alarms> {
    return sumOf(this.past, alarmsOf(await this.scrape()));
  }

  /** Its clock, against the one of this process, in s. */
  async clockAheadS(): Promise<number> {
    const { headers } = await callAnything(`http://127.0.0.1:${this.port}`, '/health/live');
    return (Date.parse(headers.get('date') ?? '') - Date.now()) / 1_000;
  }

  inspect<T>(act: (inspector: Inspector) => Promise<T>): Promise<T> {
    return Inspector.with(this.inspectorUrl, act);
  }

  /** What it holds now, its garbage collected first. */
  async resources(): Promise<Resources> {
    await this.inspect((inspector) => inspector.collectGarbage());
    const look = async () => resourcesOf(this.pid, await this.scrape());
    const looks: [Resources, ...Resources[]] = [await look()];
    for (let n = 0; n < 3; n++) {
      await seconds(0.1);
      looks.push(await look());
    }
    return leastOf(looks);
  }

  /** The same as it was when the process had not had a client yet, or was asked for the first time. */
  async resourcesAtFirst(): Promise<Resources> {
    return (this.held ??= await this.resources());
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** @returns its exit code; null after a signal that it did not catch */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exited = once(child, 'exit') as Promise<[number | null]>;
    const last = await scrape(this.metricsPort, AbortSignal.timeout(lastWordsMs)).catch(() => undefined); // it may be frozen
    if (last !== undefined) this.past = sumOf(this.past, alarmsOf(last));
    child.kill(signal);
    return (await exited)[0];
  }

  get isRunning(): boolean {
    return this.child?.exitCode === null && this.child.signalCode === null;
  }

  ready(withinMs: number): Promise<void> {
    return nodeIsReady(`http://127.0.0.1:${this.port}`, withinMs, () =>
      this.isRunning ? undefined : `${this.name} ended with ${this.child?.exitCode}; its log is ${this.logFile}`,
    );
  }

  async close(): Promise<void> {
    await this.stop('SIGKILL');
    await Promise.all([this.front.close(), this.database.close(), this.listen.close()]);
  }
}

export interface World {
  readonly postgres: PostgresServer;
  readonly nodes: readonly WorldNode[];
  readonly logFile: string;
  close(): Promise<void>;
}

export async function createWorld(logFile: string): Promise<World> {
  const postgres = await PostgresServer.start();
  const nodes: WorldNode[] = [];
  for (const name of ['n1', 'n2', 'n3']) nodes.push(await WorldNode.create(name, postgres.url, logFile));
  return {
    postgres,
    nodes,
    logFile,
    async close() {
      await Promise.all(nodes.map((node) => node.close()));
      await postgres.remove();
    },
  };
}

export const seconds = (count: number): Promise<void> => delay(count * 1_000);
