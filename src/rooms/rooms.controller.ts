import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import type { Member } from './member.store.js';
import { MemberParams, MembersQuery, NewRoomBody, RoomParams, RoomsQuery } from './room.dto.js';
import type { ListedRoom, Room } from './room.store.js';
import { RoomsService } from './rooms.service.js';

const roomsPage = 50;
const membersPage = 1_000;

/** The answer to what is idempotent: true also when nothing changed. */
interface Success {
  success: true;
}
const success: Success = { success: true };

@Controller('rooms')
@UseGuards(AuthGuard)
export class RoomsController {
  constructor(private readonly rooms: RoomsService) {}

  @Post()
  create(@Body() { name, description, history }: NewRoomBody, @CurrentIdentity() owner: Identity): Promise<Room> {
    return this.rooms.create({ name, description: description ?? '', history: history ?? 'shared', owner });
  }

  @Get()
  list(@Query() { limit, before, q, member }: RoomsQuery, @CurrentIdentity() { userId }: Identity): Promise<ListedRoom[]> {
    return this.rooms.list(limit ?? roomsPage, before, {
      ...(q !== undefined && { nameContains: q }),
      ...(member === 'me' && { memberId: userId }),
    });
  }

  @Get(':id')
  get(@Param() { id }: RoomParams): Promise<Room> {
    return this.rooms.get(id);
  }

  @Post(':id/join')
  @HttpCode(200)
  async join(@Param() { id }: RoomParams, @CurrentIdentity() { userId, username }: Identity): Promise<Success> {
    await this.rooms.join(id, userId, username);
    return success;
  }

  @Post(':id/leave')
  @HttpCode(200)
  async leave(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.rooms.leave(id, userId);
    return success;
  }

  @Get(':id/members')
  members(
    @Param() { id }: RoomParams,
    @Query() { limit, after }: MembersQuery,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<Member[]> {
    return this.rooms.members(id, userId, limit ?? membersPage, after);
  }

  @Delete(':id/members/:user_id')
  async kick(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.rooms.kick(id, userId, user_id);
    return success;
  }
}
