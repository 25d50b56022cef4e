import type { OnlineText } from '../protocol/encode.js';
import { limits } from '../protocol/limits.js';
import type { OnlineUser } from '../protocol/replies.js';
import type { PresenceRow } from './presence.store.js';

/** The room's list is sent whole again only when so many have gone: a room that wavers about the limit would send it all the time. */
const backToEachBelow = 0.8;

/** What the room's sockets are to be told. */
export type PresenceNews =
  | { readonly kind: 'each'; readonly changes: readonly (OnlineUser & { status: 'online' | 'offline' })[] }
  /** What they knew is void. */
  | { readonly kind: 'list'; readonly list: OnlineText }
  | { readonly kind: 'count'; readonly count: number };

/**
 * Who is online in one room, and what of it the room's sockets here were told. A user is online while it is through any node: each node says
 * only what its own sockets do, so that no two ever need to agree, and a node that dies is taken out as a whole.
 *
 * In a room with many online, sockets are told the number only: each of n users told to n sockets would be n² frames.
 */
export class RoomPresence {
  /** A user is mostly on one node; so short a list takes a third of a Set. */
  private readonly users = new Map<string, { readonly username: string; readonly nodeIds: string[] }>();
  private readonly changed = new Set<string>();
  /** Users whom the sockets hold to be online; undefined while they are only told the number. */
  private told: Map<string, string> | undefined = new Map();
  private toldCount = 0;
  /** The JSON text of those whom who comes is told by name, made once for all who come; undefined when it is no longer true. */
  private named: string | undefined;

  /** True where the sockets don't know what is the case. */
  get hasNews(): boolean {
    return this.told === undefined ? this.toldCount !== this.users.size : this.changed.size > 0;
  }

  /** True where sockets are told, or are to be told, the number only. */
  get isCrowd(): boolean {
    return this.users.size > (this.told === undefined ? limits.onlineListMax * backToEachBelow : limits.onlineListMax);
  }

  on(userId: string, username: string, nodeId: string): void {
    const user = this.users.get(userId);
    if (user?.nodeIds.includes(nodeId) === true) return;
    if (user !== undefined) return void user.nodeIds.push(nodeId);
    this.users.set(userId, { username, nodeIds: [nodeId] });
    if (this.told === undefined && this.users.size <= limits.onlineListMax) this.named = undefined; // above, it comes after the last who is named
    this.changed.add(userId);
  }

  off(userId: string, nodeId: string): void {
    const nodeIds = this.users.get(userId)?.nodeIds ?? [];
    const at = nodeIds.indexOf(nodeId);
    if (at === -1) return;
    nodeIds.splice(at, 1);
    if (nodeIds.length > 0) return;
    this.users.delete(userId);
    if (this.told === undefined) this.named = undefined;
    this.changed.add(userId);
  }

  /** A node is no more. */
  drop(nodeId: string): void {
    for (const userId of this.users.keys()) this.off(userId, nodeId);
  }

  /** What the table has of the given nodes takes the place of what was known of them; what was known of others stays. */
  replace(rows: readonly PresenceRow[], nodeIds: readonly string[]): void {
    const read = new Map(rows.map(({ nodeId, users }) => [nodeId, users]));
    for (const nodeId of nodeIds) {
      const users = new Map((read.get(nodeId) ?? []).map(({ userId, username }) => [userId, username]));
      for (const userId of this.users.keys()) if (!users.has(userId)) this.off(userId, nodeId);
    }
    for (const { nodeId, users } of rows) for (const { userId, username } of users) this.on(userId, username, nodeId);
  }

  /** What the sockets are told from now on goes on from `list`, which they are given each. */
  begin(): void {
    this.changed.clear();
    this.named = undefined;
    this.toldCount = this.users.size;
    this.told = this.isCrowd ? undefined : new Map([...this.users].map(([userId, { username }]) => [userId, username]));
  }

  /** What the sockets were told so far, for one that has just come: up to a limit, by name. */
  get list(): OnlineText {
    return { online: (this.named ??= JSON.stringify(this.listNamed())), count: this.told?.size ?? this.users.size };
  }

  private listNamed(): OnlineUser[] {
    const online: OnlineUser[] = [];
    for (const [user_id, user] of this.told ?? this.users) {
      if (online.length === limits.onlineListMax) break;
      online.push({ user_id, username: typeof user === 'string' ? user : user.username });
    }
    return online;
  }

  /** What they don't know; to be told to all of them now. */
  takeNews(): PresenceNews | undefined {
    if (!this.hasNews) return undefined;
    if (this.isCrowd || this.told === undefined) {
      this.begin();
      return this.told === undefined ? { kind: 'count', count: this.users.size } : { kind: 'list', list: this.list };
    }
    const changes: (OnlineUser & { status: 'online' | 'offline' })[] = [];
    for (const userId of this.changed) {
      const username = this.users.get(userId)?.username;
      const toldName = this.told.get(userId);
      if ((username === undefined) === (toldName === undefined)) continue;
      changes.push({ user_id: userId, username: username ?? toldName ?? '', status: username === undefined ? 'offline' : 'online' });
      if (username === undefined) this.told.delete(userId);
      else this.told.set(userId, username);
    }
    this.changed.clear();
    this.named = undefined;
    return changes.length === 0 ? undefined : { kind: 'each', changes };
  }
}
