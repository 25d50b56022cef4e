/**
 * Rooms and who belongs to them. Promises: a name stands for one room, in whatever case it is written; joining, leaving and kicking take one
 * seq each, and none when nothing changes. Holds no transaction that spans names and rooms, or rooms and accounts.
 */
import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { Database } from '../database/database.js';
import { ClientError } from '../protocol/errors.js';
import { comparisonKey } from '../protocol/text.js';
import { findRoles, joinRoom, leaveRoom, listMembers, lockRoom, type Member } from './member.store.js';
import { claimName, findOldClaim, releaseName, takeOverName, type Claim } from './room-name.store.js';
import {
  findMembership,
  findRoom,
  insertRoom,
  listRooms,
  type ListedRoom,
  type NewRoom,
  type Role,
  type Room,
  type RoomFilter,
} from './room.store.js';

/** Whom each role may kick. */
const mayKick: Readonly<Record<Role, ReadonlySet<Role>>> = {
  owner: new Set<Role>(['admin', 'member']),
  admin: new Set<Role>(['member']),
  member: new Set(),
};

@Injectable()
export class RoomsService {
  constructor(private readonly db: Database) {}

  /** @throws ClientError `conflict` when the name is taken, `unavailable` */
  async create(wanted: Omit<NewRoom, 'id'>): Promise<Room> {
    const id = uuidv7();
    const claim = await this.claim(comparisonKey(wanted.name), id);
    if (claim === undefined) {
      throw new ClientError('conflict', 'name: is taken', { fields: [{ field: 'name', message: 'is taken' }] });
    }
    let room: Room | undefined;
    try {
      room = await insertRoom(this.db, { ...wanted, id }, claim.makeRoomBefore);
    } catch (error) {
      // `unavailable` leaves open whether the room was made: then the claim stays, and whoever wants the name after its life finds out.
      if (!(error instanceof ClientError)) await releaseName(this.db, claim);
      throw error;
    }
    if (room !== undefined) return room;
    await releaseName(this.db, claim);
    throw new ClientError('unavailable', 'The room could not be made in time.', { retryAfterMs: 1_000 });
  }

  /**
   * Newest first.
   * @param before the id of a room: only older ones
   * @throws ClientError `invalid_payload` when `before` is no room, `unavailable`
   */
  async list(limit: number, before: string | undefined, which: Pick<RoomFilter, 'nameContains' | 'memberId'>): Promise<ListedRoom[]> {
    const cursor = before === undefined ? undefined : await findRoom(this.db, before);
    if (before !== undefined && cursor === undefined) {
      throw new ClientError('invalid_payload', 'before: is no room', { fields: [{ field: 'before', message: 'is no room' }] });
    }
    return listRooms(this.db, { ...which, limit, ...(cursor && { before: cursor }) });
  }

  /** @throws ClientError `room_not_found`, `unavailable` */
  async get(roomId: string): Promise<Room> {
    const room = await findRoom(this.db, roomId);
    if (room === undefined) throw new ClientError('room_not_found');
    return room;
  }

  /** Does nothing for a member. @throws ClientError `room_not_found`, `unavailable` */
  async join(roomId: string, userId: string, username: string): Promise<void> {
    if ((await joinRoom(this.db, roomId, userId, username)) === 'no_room') throw new ClientError('room_not_found');
  }

  /** Does nothing for who is no member. @throws ClientError `room_not_found`, `unavailable` */
  async leave(roomId: string, userId: string): Promise<void> {
    if ((await leaveRoom(this.db, roomId, userId, userId, 'left')) === 'no_room') throw new ClientError('room_not_found');
  }

  /** @throws ClientError `room_not_found` also for who is no member, `unavailable` */
  async members(roomId: string, userId: string, limit: number, afterUserId?: string): Promise<Member[]> {
    if ((await findMembership(this.db, roomId, userId)) === undefined) throw new ClientError('room_not_found');
    return listMembers(this.db, roomId, limit, afterUserId);
  }

  /**
   * Ends another's membership. Does nothing where the other is no member.
   * @throws ClientError `forbidden` unless by the owner, or by an admin to a plain member; `room_not_found` for who is no member, `unavailable`
   */
  async kick(roomId: string, actorId: string, userId: string): Promise<void> {
    await this.db.transaction(async (db) => {
      await lockRoom(db, roomId); // the roles read next are those at the seq of the kick
      const roles = await findRoles(db, roomId, [actorId, userId]);
      const actorRole = roles.get(actorId);
      if (actorRole === undefined) throw new ClientError('room_not_found');
      if (actorRole === 'member') throw new ClientError('forbidden', 'Only the owner and admins may remove members.');
      const role = roles.get(userId);
      if (role === undefined) return;
      if (!mayKick[actorRole].has(role)) throw new ClientError('forbidden', `The ${actorRole} may not remove the ${role}.`);
      await leaveRoom(db, roomId, userId, actorId, 'kicked');
    });
  }

  private async claim(key: string, roomId: string): Promise<Claim | undefined> {
    const claim = await claimName(this.db, key, roomId);
    if (claim !== undefined) return claim;
    const claimedFor = await findOldClaim(this.db, key);
    if (claimedFor === undefined || (await findRoom(this.db, claimedFor)) !== undefined) return undefined;
    return takeOverName(this.db, key, claimedFor, roomId);
  }
}
