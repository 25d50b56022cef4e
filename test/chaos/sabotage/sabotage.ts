/** Plays the round of a protection twice: with the server as it is, and with this one protection taken out of it. */
import type { Violation } from '../history.js';
import { PostgresServer } from '../postgres-server.js';
import { WorldNode } from '../world.js';
import { protections, type ProtectionName } from './protections.js';
import { performOn, type Stage } from './stage.js';

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
    await this.runWithout(undefined);
    const putBack = await alsoOut?.(this.postgres.sql);
    const whole = await performOn(this, act);
    const putBackToo = await takeOut?.(this.postgres.sql);
    if (takeOut === undefined) await this.runWithout(name);
    const sabotaged = await performOn(this, act);
    await putBackToo?.();
    await putBack?.();
    return { whole, sabotaged };
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
