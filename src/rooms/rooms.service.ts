/**
 * Rooms. Promises: a name stands for one room, however it is written, and no other looks the same; every change of a room takes a seq of its log, and none when nothing
 * changes. Holds no transaction that spans names and rooms.
 */
import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { Database, type Queryable } from '../database/database.js';
import { UserLimits } from '../limits/user-limits.js';
import { ClientError } from '../protocol/errors.js';
import { formerKey, roomKey } from '../protocol/names.js';
import { appendEvent } from './event.store.js';
import { findMembers, lockRoom } from './member.store.js';
import { claimName, endOldClaim, findHolds, holdsLook, releaseName, serverTime, type Claim, type Hold } from './room-name.store.js';
import {
  deleteRoom,
  findMembership,
  findCreationTime,
  findRoom,
  findVisibleRoom,
  insertRoom,
  listOwnRooms,
  listRooms,
  updateRoom,
  type Membership,
  type NewRoom,
  type OwnRoom,
  type Room,
  type RoomChanges,
  type RoomFilter,
} from './room.store.js';

/** @see RoomFilter; `before` is the id of a room */
export type RoomsPage = Omit<RoomFilter, 'before'> & { readonly before?: string };

@Injectable()
export class RoomsService {
  constructor(
    private readonly db: Database,
    private readonly limits: UserLimits,
  ) {}

  /** @throws ClientError `conflict` when the name is taken, `rate_limited`, `unavailable` */
  create(wanted: Omit<NewRoom, 'id'>): Promise<Room> {
    return this.limits.count('rooms', wanted.owner.userId, () => this.createCounted(wanted));
  }

  private async createCounted(wanted: Omit<NewRoom, 'id'>): Promise<Room> {
    const id = uuidv7();
    const claim = await this.claimed(wanted.name, id);
    let room: Room | undefined;
    try {
      room = await insertRoom(this.db, { ...wanted, id }, claim.makeRoomBefore);
    } catch (error) {
      // `unavailable` leaves open whether the room was made: then the claim stays, and whoever wants the name after its life finds out.
      if (!isUnavailable(error)) await releaseName(this.db, claim);
      throw error;
    }
    if (room !== undefined) return room;
    await releaseName(this.db, claim);
    throw new ClientError('unavailable', 'The room could not be made in time.', { retryAfterMs: 1_000 });
  }

  /**
   * The rooms that a user sees, newest first.
   * @param before the id of a room: only older ones
   * @throws ClientError `invalid_payload` when `before` is no id of a room, `unavailable`
   */
  async list(userId: string, { before, ...filter }: RoomsPage): Promise<Room[]> {
    return listRooms(this.db, userId, { ...filter, ...(await this.olderThan(before)) });
  }

  /** The rooms that a user is a member of, with its role in each; else as `list`. */
  async listOwn(userId: string, { before, ...filter }: RoomsPage): Promise<OwnRoom[]> {
    return listOwnRooms(this.db, userId, { ...filter, ...(await this.olderThan(before)) });
  }

  /** @throws ClientError `room_not_found`, also where the room is private and the user no member; `unavailable` */
  async get(roomId: string, userId: string): Promise<Room> {
    const room = await findVisibleRoom(this.db, roomId, userId);
    if (room === undefined) throw new ClientError('room_not_found');
    return room;
  }

  /**
   * Changes what is given of a room. A new name and the rest are two events.
   * @returns the room as it is then
   * @throws ClientError `room_not_found` for who is no member, `forbidden` for a plain member, `conflict` when the name is taken, `unavailable`
   */
  async change(roomId: string, actorId: string, wanted: RoomChanges): Promise<Room> {
    const { role } = await this.membership(roomId, actorId);
    if (role === 'member') throw new ClientError('forbidden', 'Only the owner and admins may change the room.');
    const { name: oldName } = await this.get(roomId, actorId);
    const isHeld = wanted.name === undefined || (await this.isHeldAs(oldName, wanted.name, roomId));
    const claim = isHeld || wanted.name === undefined ? undefined : await this.claimed(wanted.name, roomId);
    let replaced: ReplacedName | undefined;
    try {
      replaced = await this.limits.count('changes', actorId, () =>
        this.db.transaction((db) => changeHeldRoom(db, roomId, actorId, wanted, claim)),
      );
    } catch (error) {
      // `unavailable` leaves open which name the room has: then both stay claimed, until whoever wants one of them finds out.
      if (claim !== undefined && !isUnavailable(error)) await releaseName(this.db, claim);
      throw error;
    }
    if (replaced !== undefined) await releaseName(this.db, { name: replaced.name, roomId }, replaced.heldAt);
    return this.get(roomId, actorId);
  }

  /**
   * Ends a room: who follows it is told by the last event of its log, and it is gone for everybody. Nobody reads its log any more; it is not
   * destroyed, because it is append-only. Its name is free.
   * @throws ClientError `room_not_found` for who is no member, `forbidden` unless by the owner, `unavailable`
   */
  async delete(roomId: string, actorId: string): Promise<void> {
    await this.membership(roomId, actorId);
    const name = await this.db.transaction(async (db) => {
      await lockRoom(db, roomId);
      const [room, members] = [await findRoom(db, roomId), await findMembers(db, roomId, [actorId])];
      const role = members.get(actorId)?.role;
      if (room === undefined || role === undefined) throw new ClientError('room_not_found');
      if (role !== 'owner') throw new ClientError('forbidden', 'Only the owner may delete the room.');
      await appendEvent(db, roomId, { kind: 'deleted', actor_id: actorId });
      await deleteRoom(db, roomId);
      return room.name;
    });
    await releaseName(this.db, { name, roomId });
  }

  /**
   * A page goes on also where the room that it ended with was deleted meanwhile, or is hidden by now. An id of no room has its place by the time
   * in it (RFC 9562, section 5.7), so that the answer does not tell whether a hidden room is there.
   */
  private async olderThan(roomId: string | undefined): Promise<Pick<RoomFilter, 'before'>> {
    if (roomId === undefined) return {};
    const created_at = (await findCreationTime(this.db, roomId)) ?? timeOf(roomId);
    if (created_at === undefined)
      throw new ClientError('invalid_payload', 'before: is no room', { fields: [{ field: 'before', message: 'is no room' }] });
    return { before: { id: roomId, created_at } };
  }

  /** Asked before the room is locked: a stranger can't hold it up. */
  private async membership(roomId: string, userId: string): Promise<Membership> {
    const membership = await findMembership(this.db, roomId, userId);
    if (membership === undefined) throw new ClientError('room_not_found');
    return membership;
  }

  private async claimed(name: string, roomId: string): Promise<Claim> {
    const claim = await claimName(this.db, name, roomId);
    if (claim !== undefined) return claim;
    const holds = await findHolds(this.db, name);
    for (const hold of holds) if (!hold.isOld || (await this.isInUse(hold))) throw nameIsTaken();
    for (const hold of holds) await endOldClaim(this.db, hold);
    // Of any number that come here for one name, one succeeds.
    const second = await claimName(this.db, name, roomId);
    if (second === undefined) throw nameIsTaken();
    return second;
  }

  private async isInUse({ key, look, roomId }: Hold): Promise<boolean> {
    const room = await findRoom(this.db, roomId);
    return room !== undefined && (formerKey(room.name) === key || roomKey(room.name) === look);
  }

  /** Whether the claim of the name that a room has is one of the wanted name too: only its case differs, for instance. */
  private async isHeldAs(oldName: string, wanted: string, roomId: string): Promise<boolean> {
    if (formerKey(wanted) === formerKey(oldName)) return true;
    return roomKey(wanted) === roomKey(oldName) && (await holdsLook(this.db, wanted, roomId));
  }
}

/** ISO 8601, from a UUID of version 7, of which PostgreSQL can't read the time where it is after the year 9999; undefined for another. */
function timeOf(id: string): string | undefined {
  const ms = Number.parseInt(id.replace('-', '').slice(0, 12), 16);
  return id[14] === '7' ? new Date(Math.min(ms, Date.UTC(9999, 0))).toISOString() : undefined;
}

interface ReplacedName {
  readonly name: string;
  /** A moment at which the room had it, by the server's clock. */
  readonly heldAt: string;
}

/**
 * @param claim of the new name, where it is another one than the room has
 * @returns the name before, where the room has another one now
 */
async function changeHeldRoom(
  db: Queryable,
  roomId: string,
  actorId: string,
  wanted: RoomChanges,
  claim: Claim | undefined,
): Promise<ReplacedName | undefined> {
  await lockRoom(db, roomId);
  // Again, and now for good: meanwhile the room may have been changed, and its roles.
  const [room, members] = [await findRoom(db, roomId), await findMembers(db, roomId, [actorId])];
  const role = members.get(actorId)?.role;
  if (room === undefined || role === undefined) throw new ClientError('room_not_found');
  if (role === 'member') throw new ClientError('forbidden', 'Only the owner and admins may change the room.');
  const changes = changed(room, wanted);
  const { name, ...others } = changes;
  // Only where the room was renamed meanwhile: its name must be one that was claimed.
  if (name !== undefined && claim === undefined && roomKey(name) !== roomKey(room.name)) throw nameIsTaken();
  if (!(await updateRoom(db, roomId, changes, claim?.makeRoomBefore)))
    throw new ClientError('unavailable', 'The room could not be renamed in time.', { retryAfterMs: 1_000 });
  if (name !== undefined) await appendEvent(db, roomId, { kind: 'renamed', actor_id: actorId, name });
  if (Object.keys(others).length > 0) await appendEvent(db, roomId, { kind: 'updated', actor_id: actorId, ...others });
  return name === undefined || claim === undefined || roomKey(name) === roomKey(room.name)
    ? undefined
    : { name: room.name, heldAt: await serverTime(db) };
}

/** What of the wanted is not so already. */
function changed(room: Room, { name, description, history, private: isPrivate }: RoomChanges): RoomChanges {
  return {
    ...(name !== undefined && name !== room.name && { name }),
    ...(description !== undefined && description !== room.description && { description }),
    ...(history !== undefined && history !== room.history && { history }),
    ...(isPrivate !== undefined && isPrivate !== room.private && { private: isPrivate }),
  };
}

const isUnavailable = (error: unknown): boolean => error instanceof ClientError && error.code === 'unavailable';

const nameIsTaken = (): ClientError => new ClientError('conflict', 'name: is taken', { fields: [{ field: 'name', message: 'is taken' }] });
