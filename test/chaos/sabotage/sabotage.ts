/** Plays the round of a protection twice: with the server as it is, and with this one protection taken out of it. */
import type { Invariant, Violation } from '../history.js';
import { PostgresServer } from '../postgres-server.js';
import { WorldNode } from '../world.js';
import { protections, type ProtectionName } from './protections.js';
import { performOn, type Stage } from './stage.js';

const triesMax = 3;
const preload = new URL('./without.mjs', import.meta.url);

/** Two nodes and their PostgreSQL. */
export class SmallWorld {
  /** What the nodes run without now. */
  private without: ProtectionName | undefined;

  private constructor(
    readonly postgres: PostgresServer,
    readonly nodes: readonly WorldNode[],
  ) {}

  static async create(logFile: string): Promise<SmallWorld> {
    const postgres = await PostgresServer.start();
    const nodes = await Promise.all(['n1', 'n2'].map((name) => WorldNode.create(name, postgres.url, logFile)));
    return new SmallWorld(postgres, nodes);
  }

  /** @returns what the checker found in each of the two rounds */
  async try(name: ProtectionName): Promise<{ whole: Violation[]; sabotaged: Violation[] }> {
    const { alsoOut, takeOut, ...round } = protections[name];
    const act = (stage: Stage) => round.act(stage);
    const putBack: (() => Promise<unknown>)[] = [];
    const remove = async (part: typeof takeOut) => part && putBack.unshift(await part(this.postgres.sql));
    try {
      await this.runWithout(undefined);
      await remove(alsoOut);
      const whole = await performOn(this, act);
      await remove(takeOut);
      if (takeOut === undefined) await this.runWithout(name);
      return { whole, sabotaged: await this.untilBroken(act, round.breaks) };
    } finally {
      for (const put of putBack) await put(); // also after a round that failed: the next is judged on a whole server
    }
  }

  /** What the round needs happens within the time that a batch waits for a lock; where a busy machine takes longer, the round is played again. */
  private async untilBroken(act: (stage: Stage) => Promise<void>, breaks: Invariant): Promise<Violation[]> {
    let found: Violation[] = [];
    for (let n = 0; n < triesMax && !found.some(({ invariant }) => invariant === breaks); n++) found = await performOn(this, act);
    return found;
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()));
    await this.postgres.remove();
  }

  private async runWithout(without: ProtectionName | undefined): Promise<void> {
    if (without === this.without) return;
    this.without = without;
    const nodeArgs = without === undefined ? [] : ['--import', `${preload.href}?protection=${encodeURIComponent(without)}`];
    await Promise.all(
      this.nodes.map(async (node) => {
        await node.stop('SIGKILL');
        await node.start({ nodeArgs });
      }),
    );
  }
}
