/** How many sockets each user has on this node. Who may not have one more is told so by the close code; the limit over all users is the gateway's. */
export class UserSockets {
  private readonly counts = new Map<string, number>();

  constructor(private readonly max: number) {}

  /** @returns false, and counts nothing, where the user has as many as it may */
  add(userId: string): boolean {
    const count = this.counts.get(userId) ?? 0;
    if (count >= this.max) return false;
    this.counts.set(userId, count + 1);
    return true;
  }

  remove(userId: string): void {
    const count = this.counts.get(userId) ?? 0;
    if (count > 1) this.counts.set(userId, count - 1);
    else this.counts.delete(userId);
  }
}
