/**
 * This node's lease: while it is renewed, what the node wrote of its users' presence counts. Also the watch over the other nodes' leases: who
 * sees one expire sweeps it.
 *
 * A lease that is gone, because this node was too slow or because the server restarted without its unlogged tables, is never taken up again: the
 * node goes on under a new id and writes everything anew. So the others need not ask which of its rows are of before and which of after.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Queryable } from '../database/database.js';
import { logLevelOf } from '../database/sql-error.js';
import { leaseMs, Leases, renewEveryMs } from './leases.js';
import { renewLease, sweepPresence, takeLease } from './presence.store.js';

/** A lease that was lost or could not be had is asked for again so soon. */
const retakeAfterMs = 500;
/** How long the end may wait for a database that does not answer. */
const closeDeadlineMs = 1_500;

export interface LeaseEvents {
  /** There is a lease, under a new id: nothing that was written before counts. */
  taken(): void;
  /** Nodes that are no more, and whose rows are gone. */
  swept(nodeIds: readonly string[]): void;
}

export class NodeLease {
  private nodeId: string = randomUUID();
  private held = false;
  private readonly leases = new Leases();
  private timer: NodeJS.Timeout | undefined;
  private renewing: Promise<void> | undefined;
  private closed = false;

  constructor(
    private readonly db: Queryable,
    private readonly events: LeaseEvents,
    private readonly log: Logger,
  ) {}

  /** Undefined while there is no lease. */
  get id(): string | undefined {
    return this.held ? this.nodeId : undefined;
  }

  start(): void {
    this.renewing = this.renew();
  }

  /** Another node was heard of. */
  meet(nodeId: string): void {
    if (nodeId !== this.nodeId) this.leases.meet(nodeId, performance.now());
  }

  /** The database has no lease of that id any more. */
  lost(nodeId: string): void {
    if (!this.held || nodeId !== this.nodeId) return;
    this.log.info('the presence of this node was lost and is written anew');
    this.held = false;
    this.leases.meet(this.nodeId, performance.now()); // for this node too, what it wrote before is void when it is not renewed
    this.nodeId = randomUUID();
  }

  /** Renews no more, and leaves what was written to stand for so long, until others sweep it. */
  async close(graceMs: number): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    let deadline: NodeJS.Timeout | undefined;
    await Promise.race([this.handOver(graceMs), new Promise((late) => (deadline = setTimeout(late, closeDeadlineMs)))]);
    clearTimeout(deadline);
  }

  private async handOver(graceMs: number): Promise<void> {
    await this.renewing;
    if (this.held) await renewLease(this.db, this.nodeId, graceMs).catch(() => undefined); // away: then it expires by itself
  }

  private async renew(): Promise<void> {
    try {
      if (!this.held) {
        await takeLease(this.db, this.nodeId, leaseMs);
        this.held = true;
        this.events.taken();
      }
      const { held, others } = await renewLease(this.db, this.nodeId, leaseMs);
      if (!held) this.lost(this.nodeId);
      await this.sweep(this.leases.poll(others, performance.now()));
    } catch (error) {
      this.log[logLevelOf(error)]({ err: error }, 'the lease of this node could not be renewed');
    }
    if (!this.closed) this.timer = setTimeout(() => this.start(), this.held ? renewEveryMs : retakeAfterMs);
  }

  private async sweep(dead: readonly string[]): Promise<void> {
    if (dead.length === 0) return;
    const gone = await sweepPresence(this.db, dead);
    this.leases.forget(gone);
    if (gone.length === 0) return;
    this.log.info({ nodes: gone }, 'nodes that are gone were taken out of presence');
    this.events.swept(gone);
  }
}
