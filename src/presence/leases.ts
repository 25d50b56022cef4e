/** How long a node's presence stands without a renewal, and how often it is renewed. A node that dies is swept within both together. */
export const leaseMs = 8_000;
export const renewEveryMs = 2_000;

/**
 * When each of the other nodes is to be taken for dead, by this node's clock. It only suspects: whether a lease has expired is for the database to
 * say. But where the database was away nobody could renew, and every lease in it looks expired: after such a gap each node gets the time of
 * a whole lease to come back.
 */
export class Leases {
  private readonly deadlines = new Map<string, number>();
  private polledAt = Number.NEGATIVE_INFINITY;

  /** A node was heard of, by a signal or a row. */
  meet(nodeId: string, now: number): void {
    if (!this.deadlines.has(nodeId)) this.deadlines.set(nodeId, now + leaseMs);
  }

  /**
   * The leases of all other nodes as the database has them.
   * @returns the nodes that seem to be dead, also those that the database has no lease of any more
   */
  poll(leases: readonly { readonly nodeId: string; readonly remainingMs: number }[], now: number): string[] {
    const afterGap = now - this.polledAt > 2 * renewEveryMs;
    this.polledAt = now;
    for (const { nodeId, remainingMs } of leases) {
      this.meet(nodeId, now);
      if (remainingMs > 0) this.deadlines.set(nodeId, now + remainingMs);
    }
    if (afterGap) for (const [nodeId, deadline] of this.deadlines) this.deadlines.set(nodeId, Math.max(deadline, now + leaseMs));
    return [...this.deadlines].filter(([, deadline]) => deadline <= now).map(([nodeId]) => nodeId);
  }

  forget(nodeIds: readonly string[]): void {
    for (const nodeId of nodeIds) this.deadlines.delete(nodeId);
  }
}
