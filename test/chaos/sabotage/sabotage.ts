/** Plays the round of a protection twice: with the server as it is, and with this one protection taken out of it. */
import type { Invariant, Violation } from '../history.js';
import { PostgresServer } from '../postgres-server.js';
import { WorldNode } from '../world.js';
import { protections, type ProtectionName } from './protections.js';
import { performOn, type Stage } from './stage.js';

const triesMax = 6;
const preload = new URL('./without.mjs', import.meta.url);

/** Two nodes and their PostgreSQL. */
export class SmallWorld {
  private constructor(
    readonly postgres: PostgresServer,
    readonly nodes: readonly WorldNode[],
    private readonly logFile: string,
  ) {}

  static async create(logFile: string): Promise<SmallWorld> {
    const postgres = await PostgresServer.start();
    return new SmallWorld(postgres, await startNodes(postgres, logFile), logFile);
  }

  /** @returns what the checker found in each of the two rounds */
  async try(name: ProtectionName): Promise<{ whole: Violation[]; sabotaged: Violation[] }> {
    const { alsoOut, takeOut, ...round } = protections[name];
    const act = (stage: Stage) => round.act(stage);
    const putBack: (() => Promise<unknown>)[] = [];
    const remove = async (part: typeof takeOut) => part && putBack.unshift(await part(this.postgres.sql));
    try {
      await remove(alsoOut);
      const whole = await performOn(this, act);
      await remove(takeOut);
      let { nodes } = this;
      if (takeOut === undefined) {
        nodes = await startNodes(this.postgres, this.logFile, name);
        putBack.unshift(() => close(nodes));
      }
      return { whole, sabotaged: await this.untilBroken(nodes, act, round.breaks) };
    } finally {
      for (const put of putBack) await put(); // also after a round that failed: the next is judged on a whole server
    }
  }

  /** What the round needs happens within the time that a batch waits for a lock; where a busy machine takes longer, the round is played again. */
  private async untilBroken(nodes: readonly WorldNode[], act: (stage: Stage) => Promise<void>, breaks: Invariant): Promise<Violation[]> {
    const { postgres } = this;
    let found: Violation[] = [];
    for (let n = 0; n < triesMax && !found.some(({ invariant }) => invariant === breaks); n++)
      found = await performOn({ postgres, nodes }, act);
    return found;
  }

  async close(): Promise<void> {
    await close(this.nodes);
    await this.postgres.remove();
  }
}

function startNodes({ url }: PostgresServer, logFile: string, without?: ProtectionName): Promise<WorldNode[]> {
  const special = without === undefined ? {} : { nodeArgs: ['--import', `${preload.href}?protection=${encodeURIComponent(without)}`] };
  return Promise.all(['n1', 'n2'].map((name) => WorldNode.create(name, url, logFile, special)));
}

const close = (nodes: readonly WorldNode[]): Promise<unknown> => Promise.all(nodes.map((node) => node.close()));
