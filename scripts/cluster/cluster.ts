/**
 * Nodes behind Nginx on one machine: the topology of docker-compose.yml without Docker. Whatever ends is started again; a roll restarts the nodes one
 * after the other, each only when the one before serves again.
 */
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { portProblem, UsageError } from '../../src/failure.js';
import type { ClusterState, Controlled } from './control.js';
import { KeptProcess } from './kept-process.js';
import { nginxFolder, type NginxFolder } from './nginx.js';
import { nodeIsReady, spawnNode } from './node-process.js';

const readyDeadlineMs = 60_000;
/** What a node takes to stop beside DRAIN_MS, when it has to end itself: main.ts, and a little. */
const nodeStopMs = 7_500;
const nginxStopMs = 5_000;

export interface ClusterOptions {
  readonly port: number;
  readonly nodes: number;
  /** Path of the program. */
  readonly nginx: string;
  readonly drainMs: number;
  /** Of the first node, the others take those above it; 0 for none. */
  readonly metricsPort: number;
  /** Of the nodes, beside what tells them apart. */
  readonly env: NodeJS.ProcessEnv;
  /** Takes a line of what somebody wrote. */
  readonly print: (name: string, line: string) => void;
}

interface ClusterNode extends KeptProcess {
  readonly url: string;
}

export class Cluster implements Controlled {
  private readonly nodes: ClusterNode[];
  private nginx: KeptProcess | undefined;
  private folder: NginxFolder | undefined;
  private rolling = false;
  private stopping = false;

  constructor(private readonly options: ClusterOptions) {
    const metricsPorts = metricsPortsOf(options);
    this.nodes = nodePorts(options).map((port, n) => this.node(`node-${n + 1}`, port, metricsPorts[n]));
  }

  get url(): string {
    return `http://localhost:${this.options.port}`;
  }

  state(): ClusterState {
    return {
      url: this.url,
      nginx: this.nginx?.pid,
      nodes: this.nodes.map(({ name, url, pid }) => ({ name, url, pid })),
    };
  }

  /** Resolves when all serve. @throws Error saying who does not */
  async start(): Promise<void> {
    const { port, nginx, print } = this.options;
    for (const node of this.nodes) node.start();
    await Promise.all(this.nodes.map((node) => this.isReady(node)));
    if (this.stopping) return;
    const folder = await nginxFolder(nginx, port, nodePorts(this.options));
    this.folder = folder;
    const kept = new KeptProcess(
      'nginx',
      () => folder.start(),
      (line) => print('nginx', line),
    );
    this.nginx = kept;
    kept.start();
    await nodeIsReady(`http://127.0.0.1:${port}`, readyDeadlineMs, () => this.whyNot(kept));
  }

  async roll(say: (line: string) => void): Promise<void> {
    if (this.rolling) throw new Error('The nodes are being restarted already.');
    this.rolling = true;
    try {
      for (const node of this.nodes) {
        const at = Date.now();
        say(`${node.name} goes away`);
        await node.stop(this.options.drainMs + nodeStopMs);
        if (this.stopping) throw new Error('The cluster is being stopped.');
        node.start();
        await this.isReady(node);
        say(`${node.name} serves again after ${((Date.now() - at) / 1_000).toFixed(1)} s`);
      }
    } finally {
      this.rolling = false;
    }
  }

  /** The nodes first, so that their clients are told through Nginx. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.nodes.map((node) => node.stop(this.options.drainMs + nodeStopMs)));
    await this.nginx?.stop(nginxStopMs);
    if (this.folder !== undefined) await rm(this.folder.path, { recursive: true, force: true });
  }

  /** For when there is no time to stop. */
  kill(): void {
    for (const kept of [...this.nodes, this.nginx]) kept?.kill();
  }

  private node(name: string, port: number, metricsPort = 0): ClusterNode {
    const { env, print } = this.options;
    const ports = { PORT: String(port), METRICS_PORT: String(metricsPort) };
    const own = { HOST: '127.0.0.1', ...ports, NODE_NAME: name, TRUSTED_PROXIES: '127.0.0.1' };
    const kept = new KeptProcess(
      name,
      () => spawnNode({ ...env, ...own }, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] }),
      (line) => print(name, line),
    );
    return Object.assign(kept, { url: `http://127.0.0.1:${port}` });
  }

  private async isReady(node: ClusterNode): Promise<void> {
    try {
      await nodeIsReady(node.url, readyDeadlineMs, () => this.whyNot(node));
    } catch (error) {
      throw new UsageError(`${node.name} does not serve (${(error as Error).message}); the lines above say why.`, { cause: error });
    }
  }

  private readonly whyNot = ({ lastEnd }: KeptProcess): string | undefined => (this.stopping ? 'it is being stopped' : lastEnd);
}

/** @throws UsageError naming the port that somebody else has */
export async function portsAreFree(options: Ports): Promise<void> {
  const { port, nodes } = options;
  const forNginxAndNodes = `The cluster takes ${port} for Nginx and ${port + 1} to ${port + nodes} for its nodes: give another with --port.`;
  for (const each of [port, ...nodePorts(options)]) await portIsFree(each, forNginxAndNodes);
  const forMetrics = metricsPortsOf(options);
  for (const each of forMetrics)
    await portIsFree(each, `The metrics of the nodes take ${forMetrics[0]} to ${forMetrics.at(-1)}: give another METRICS_PORT.`);
}

async function portIsFree(port: number, whatFor: string): Promise<void> {
  const probe = createServer();
  await new Promise<void>((listening, failed) => probe.once('error', failed).listen(port, listening)).catch(
    (error: NodeJS.ErrnoException) => {
      throw new UsageError(`${portProblem(port, error.code)}. ${whatFor}`);
    },
  );
  await new Promise((closed) => probe.close(closed));
}

type Ports = Pick<ClusterOptions, 'port' | 'nodes' | 'metricsPort'>;

/** Next to Nginx's, and the same after a restart: below those that the system gives to outgoing connections, nobody takes them meanwhile. */
const nodePorts = ({ port, nodes }: Ports): number[] => Array.from({ length: nodes }, (_, n) => port + 1 + n);

/** From METRICS_PORT on; none where there is none. */
const metricsPortsOf = ({ metricsPort, nodes }: Ports): number[] =>
  metricsPort === 0 ? [] : Array.from({ length: nodes }, (_, n) => metricsPort + n);
