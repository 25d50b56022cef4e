/**
 * Invitations: codes by which who has one may join a room, also a private one. Promises: a code lets in at most as many users as it was made for, and
 * none after its time, or after who made it was kicked or banned; only its hash is kept. A code that is of no use does not tell why.
 */
import { Injectable } from '@nestjs/common';
import Type, { type Static } from 'typebox';
import { v7 as uuidv7 } from 'uuid';
import { Database, type Queryable } from '../database/database.js';
import { UserLimits } from '../limits/user-limits.js';
import { ClientError } from '../protocol/errors.js';
import { decodeInvite, encodeInvite, hashSecret, newSecret } from './invite-code.js';
import { deleteInvite, hasInvite, insertInvite, inviteSchema, listInvites, useInvite, type Invite } from './invite.store.js';
import { addMember, findMembers, lockRoom, type JoinOutcome } from './member.store.js';
import { joined } from './members.service.js';
import { findMembership, type Membership } from './room.store.js';

/** Of one room at a time, so that no member fills the table. */
const invitesMax = 100;

export const inviteWithCodeSchema = Type.Object(
  { ...inviteSchema.properties, code: Type.String({ description: 'for POST /invites/{code}/join; told once, for it is not kept' }) },
  { title: 'InviteWithCode' },
);
export type InviteWithCode = Static<typeof inviteWithCodeSchema>;

@Injectable()
export class InvitesService {
  constructor(
    private readonly db: Database,
    private readonly limits: UserLimits,
  ) {}

  /** By any member. @throws ClientError `room_not_found` for who is no member, `conflict` where there are too many, `rate_limited`, `unavailable` */
  create(roomId: string, userId: string, options: { expiresInS: number; maxUses?: number }): Promise<InviteWithCode> {
    return this.limits.count('invites', userId, () => this.createCounted(roomId, userId, options));
  }

  private async createCounted(
    roomId: string,
    userId: string,
    { expiresInS, maxUses }: { expiresInS: number; maxUses?: number },
  ): Promise<InviteWithCode> {
    await this.membership(roomId, userId); // before the lock: a stranger can't hold the room up
    const secret = newSecret(roomId);
    const invite = await this.db.transaction(async (db) => {
      await lockRoom(db, roomId); // so that none is made after a kick has taken them all away
      if (!(await findMembers(db, roomId, [userId])).has(userId)) throw new ClientError('room_not_found');
      const created = { id: uuidv7(), roomId, secretHash: hashSecret(secret), createdBy: userId, expiresInS, maxUses };
      return insertInvite(db, created, invitesMax);
    });
    if (invite === undefined) throw new ClientError('conflict', `The room has ${invitesMax} invitations: delete some first.`);
    return { ...invite, code: encodeInvite(secret) };
  }

  /** To the owner and admins all, to a plain member its own. @throws ClientError `room_not_found` for who is no member, `unavailable` */
  async list(roomId: string, userId: string): Promise<Invite[]> {
    const { role } = await this.membership(roomId, userId);
    return listInvites(this.db, roomId, role === 'member' ? userId : undefined);
  }

  /** Does nothing where it is gone, or another's and the user a plain member. @throws ClientError `room_not_found` for who is no member, `unavailable` */
  async delete(roomId: string, userId: string, inviteId: string): Promise<void> {
    const { role } = await this.membership(roomId, userId);
    await deleteInvite(this.db, roomId, inviteId, role === 'member' ? userId : undefined);
  }

  /**
   * Makes a user a member by a code. For a member it does nothing, and uses nothing up.
   * @returns the room's id
   * @throws ClientError `not_found` where the code is of no use, `forbidden` for who is banned, `unavailable`
   */
  async join(code: string, userId: string, username: string): Promise<string> {
    const secret = decodeInvite(code);
    if (secret === undefined) throw ofNoUse();
    const { roomId } = secret;
    // Before the lock: a guess can't hold the room up. To a member, a code that is used up is good.
    const isGood = (await hasInvite(this.db, roomId, hashSecret(secret))) || (await findMembership(this.db, roomId, userId)) !== undefined;
    if (!isGood) throw ofNoUse();
    const enter = async (db: Queryable): Promise<JoinOutcome> => {
      await lockRoom(db, roomId);
      if ((await findMembers(db, roomId, [userId])).has(userId)) return 'already';
      const invitedBy = await useInvite(db, roomId, hashSecret(secret));
      if (invitedBy === undefined) throw ofNoUse();
      const outcome = await addMember(db, roomId, { userId, username }, userId);
      joined(outcome);
      return outcome;
    };
    await this.limits.count('joins', userId, () => this.db.transaction(enter));
    return roomId;
  }

  private async membership(roomId: string, userId: string): Promise<Membership> {
    const membership = await findMembership(this.db, roomId, userId);
    if (membership === undefined) throw new ClientError('room_not_found');
    return membership;
  }
}

const ofNoUse = (): ClientError => new ClientError('not_found', 'The invitation is unknown, used up or expired.');
