import { keyOf, type Change } from './signals.js';

/** How long a user stays online in a room after its last socket, so that a reconnect is not seen. */
export const graceMs = 5_000;

interface Attendee {
  readonly roomId: string;
  readonly userId: string;
  readonly username: string;
  sockets: number;
}

/**
 * Who follows which room through sockets of this node. It tells of the first socket of a user in a room and of the end of the grace after the
 * last one, and of nothing between.
 */
export class Attendance {
  private readonly attendees = new Map<string, Attendee>();
  /** Those without a socket and when they lost it, oldest first. */
  private readonly leaving = new Map<string, number>();

  /** @returns the change that others are to be told, if it is one */
  enter(roomId: string, userId: string, username: string): Change | undefined {
    const key = keyOf(roomId, userId);
    this.leaving.delete(key);
    const attendee = this.attendees.get(key);
    if (attendee !== undefined) {
      attendee.sockets++;
      return undefined;
    }
    this.attendees.set(key, { roomId, userId, username, sockets: 1 });
    return { roomId, userId, username, isOn: true };
  }

  /** @param now in ms; the grace is counted from it */
  leave(roomId: string, userId: string, now: number): void {
    const key = keyOf(roomId, userId);
    const attendee = this.attendees.get(key);
    if (attendee === undefined || attendee.sockets === 0) return;
    if (--attendee.sockets === 0) this.leaving.set(key, now);
  }

  /** A user without a socket gets no grace: its membership is over. */
  dismiss(roomId: string, userId: string): Change | undefined {
    const key = keyOf(roomId, userId);
    return this.leaving.has(key) ? this.remove(key) : undefined;
  }

  /** Those whose grace is over. Costs nothing for all others. */
  expire(now: number): Change[] {
    const changes: Change[] = [];
    for (const [key, since] of this.leaving) {
      if (now - since < graceMs) break;
      const change = this.remove(key);
      if (change !== undefined) changes.push(change);
    }
    return changes;
  }

  /** Everybody who is online through this node, also in grace. */
  everybody(): Change[] {
    return [...this.attendees.values()].map(({ roomId, userId, username }) => ({ roomId, userId, username, isOn: true }));
  }

  private remove(key: string): Change | undefined {
    const attendee = this.attendees.get(key);
    this.attendees.delete(key);
    this.leaving.delete(key);
    return attendee && { roomId: attendee.roomId, userId: attendee.userId, username: attendee.username, isOn: false };
  }
}
