/**
 * Who belongs to a room, and as what. Promises: every change takes one seq of the room, in whose log it stands, and none when nothing changes; who may
 * make a change is judged by the roles at that seq. A room with members has exactly one owner. To who has no access, a room answers as if it did
 * not exist.
 */
import { Injectable } from '@nestjs/common';
import { Database, type Queryable } from '../database/database.js';
import { UserLimits } from '../limits/user-limits.js';
import { ClientError } from '../protocol/errors.js';
import { findUser, type User } from '../users/user.store.js';
import { deleteBan, insertBan, listBans, type Ban } from './ban.store.js';
import { appendEvent } from './event.store.js';
import { deleteInvitesBy } from './invite.store.js';
import {
  addMember,
  deleteMember,
  findMembers,
  joinRoom,
  leaveRoom,
  listMembers,
  lockRoom,
  setRole,
  type JoinOutcome,
  type Member,
  type MemberRole,
} from './member.store.js';
import { findMembership, type Role } from './room.store.js';

/** Over whom each role has a say: to remove and to ban. */
const mayRemove: Readonly<Record<Role, ReadonlySet<Role>>> = {
  owner: new Set<Role>(['admin', 'member']),
  admin: new Set<Role>(['member']),
  member: new Set(),
};

/** A room that is held as it is, until the end of the transaction. */
interface HeldRoom {
  readonly db: Queryable;
  readonly actorRole: Role;
  /** The other, where it is a member. */
  readonly other: MemberRole | undefined;
}

@Injectable()
export class MembersService {
  constructor(
    private readonly db: Database,
    private readonly limits: UserLimits,
  ) {}

  /** Does nothing for a member. @throws ClientError `room_not_found`, `forbidden` for who is banned, `unavailable` */
  async join(roomId: string, userId: string, username: string): Promise<void> {
    await this.limits.count('joins', userId, async () => {
      const outcome = await joinRoom(this.db, roomId, userId, username);
      joined(outcome);
      return outcome;
    });
  }

  /**
   * Makes another user a member, by any member. Does nothing where it is one.
   * @throws ClientError `not_found` where there is no such user, `forbidden` where it is banned, `room_not_found` for who is no member, `unavailable`
   */
  async add(roomId: string, actorId: string, userId: string): Promise<void> {
    const user = await this.user(userId);
    await this.hold(roomId, actorId, userId, async ({ db }) => {
      const outcome = await addMember(db, roomId, { userId, username: user.username }, actorId);
      if (outcome === 'banned') throw new ClientError('forbidden', 'The user is banned from this room.');
    });
  }

  /**
   * Does nothing for who is no member. When the owner leaves, the room passes to the admin who has been there longest, else to such a member.
   * @throws ClientError `room_not_found`, `unavailable`
   */
  async leave(roomId: string, userId: string): Promise<void> {
    if ((await leaveRoom(this.db, roomId, userId)) === 'no_room') throw new ClientError('room_not_found');
  }

  /** @throws ClientError `room_not_found` also for who is no member, `unavailable` */
  async list(roomId: string, userId: string, limit: number, afterUserId?: string): Promise<Member[]> {
    if ((await findMembership(this.db, roomId, userId)) === undefined) throw new ClientError('room_not_found');
    return listMembers(this.db, roomId, limit, afterUserId);
  }

  /**
   * Ends another's membership, and the invitations that it made. Does nothing where the other is no member.
   * @throws ClientError `forbidden` unless by the owner, or by an admin to a plain member; `room_not_found` for who is no member, `unavailable`
   */
  async kick(roomId: string, actorId: string, userId: string): Promise<void> {
    await this.moderate(roomId, actorId, userId, async ({ db, other }) => {
      if (other === undefined) return;
      await deleteMember(db, roomId, userId);
      await deleteInvitesBy(db, roomId, userId);
      await appendEvent(db, roomId, { kind: 'kicked', actor_id: actorId, user_id: userId, username: other.username });
    });
  }

  /**
   * Keeps a user out: ends its membership, if it is a member, and the invitations that it made; its joins are refused. Does nothing where it is banned already.
   * @throws as `kick`; `not_found` where there is no such user
   */
  async ban(roomId: string, actorId: string, userId: string): Promise<void> {
    const user = await this.user(userId);
    await this.moderate(roomId, actorId, userId, async ({ db, other }) => {
      const username = other?.username ?? user.username;
      if (!(await insertBan(db, roomId, { userId, username }, actorId))) return;
      await deleteMember(db, roomId, userId);
      await deleteInvitesBy(db, roomId, userId);
      await appendEvent(db, roomId, { kind: 'banned', actor_id: actorId, user_id: userId, username });
    });
  }

  /** Does nothing where the user is not banned. @throws as `kick` */
  async unban(roomId: string, actorId: string, userId: string): Promise<void> {
    await this.moderate(roomId, actorId, userId, async ({ db }) => {
      const username = await deleteBan(db, roomId, userId);
      if (username !== undefined) await appendEvent(db, roomId, { kind: 'unbanned', actor_id: actorId, user_id: userId, username });
    });
  }

  /** @throws ClientError `room_not_found` for who is no member, `forbidden` for a plain member, `unavailable` */
  async bans(roomId: string, userId: string, limit: number, afterUserId?: string): Promise<Ban[]> {
    const membership = await findMembership(this.db, roomId, userId);
    if (membership === undefined) throw new ClientError('room_not_found');
    if (membership.role === 'member') throw new ClientError('forbidden', 'Only the owner and admins see who is banned.');
    return listBans(this.db, roomId, limit, afterUserId);
  }

  /**
   * Makes a member an admin, or an admin a member again.
   * @throws ClientError `forbidden` unless by the owner, and to the owner; `not_found` where the other is no member; `room_not_found`, `unavailable`
   */
  async setRole(roomId: string, actorId: string, userId: string, role: 'admin' | 'member'): Promise<void> {
    await this.own(roomId, actorId, userId, async (db, { role: before, username }) => {
      if (before === 'owner') throw new ClientError('forbidden', 'The owner stays the owner: transfer the room first.');
      if (before === role) return;
      await setRole(db, roomId, userId, role);
      await appendEvent(db, roomId, { kind: 'role_changed', actor_id: actorId, user_id: userId, username, role });
    });
  }

  /** Makes another member the owner, and the owner an admin. @throws as `setRole` */
  async transfer(roomId: string, actorId: string, userId: string): Promise<void> {
    await this.own(roomId, actorId, userId, async (db, { username }) => {
      if (userId === actorId) return;
      await setRole(db, roomId, actorId, 'admin');
      await setRole(db, roomId, userId, 'owner');
      await appendEvent(db, roomId, { kind: 'owner_changed', actor_id: actorId, user_id: userId, username });
    });
  }

  /** Looked up before the room is held: no transaction spans rooms and accounts. */
  private async user(userId: string): Promise<User> {
    const user = await findUser(this.db, userId);
    if (user === undefined) throw new ClientError('not_found', 'There is no such user.');
    return user;
  }

  /** What the owner may do to everybody, and admins to plain members and to who is none. */
  private moderate(roomId: string, actorId: string, userId: string, work: (room: HeldRoom) => Promise<void>): Promise<void> {
    return this.hold(roomId, actorId, userId, async (room) => {
      const { actorRole, other } = room;
      if (actorRole === 'member') throw new ClientError('forbidden', 'Only the owner and admins may do this.');
      if (other !== undefined && !mayRemove[actorRole].has(other.role))
        throw new ClientError('forbidden', `The ${actorRole} may not do this to the ${other.role}.`);
      await work(room);
    });
  }

  /** What the owner alone may do to members. */
  private own(roomId: string, actorId: string, userId: string, work: (db: Queryable, other: MemberRole) => Promise<void>): Promise<void> {
    return this.hold(roomId, actorId, userId, async ({ db, actorRole, other }) => {
      if (actorRole !== 'owner') throw new ClientError('forbidden', 'Only the owner may do this.');
      if (other === undefined) throw new ClientError('not_found', 'The user is no member of the room.');
      await work(db, other);
    });
  }

  /**
   * The roles that are read here are those at the seq that `work` takes. A stranger is refused before the lock, so that it can't hold the room up.
   * @throws ClientError `rate_limited`, `room_not_found`; what `work` throws
   */
  private async hold(roomId: string, actorId: string, userId: string, work: (room: HeldRoom) => Promise<void>): Promise<void> {
    if ((await findMembership(this.db, roomId, actorId)) === undefined) throw new ClientError('room_not_found');
    const change = async (db: Queryable): Promise<void> => {
      await lockRoom(db, roomId);
      const members = await findMembers(db, roomId, [actorId, userId]);
      const actor = members.get(actorId);
      if (actor === undefined) throw new ClientError('room_not_found');
      await work({ db, actorRole: actor.role, other: members.get(userId) });
    };
    await this.limits.count('changes', actorId, () => this.db.transaction(change));
  }
}

/** @throws ClientError where that is not so */
export function joined(outcome: JoinOutcome): void {
  if (outcome === 'no_room') throw new ClientError('room_not_found');
  if (outcome === 'banned') throw new ClientError('forbidden', 'You are banned from this room.');
}
