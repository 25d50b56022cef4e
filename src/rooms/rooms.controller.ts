import { Body, Controller, Delete, Get, Param, Patch, Post, Query, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { RoomParams } from './member.dto.js';
import { NewRoomBody, RoomChangesBody, RoomsQuery } from './room.dto.js';
import type { ListedRoom, Room } from './room.store.js';
import { RoomsService } from './rooms.service.js';

const roomsPage = 50;

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

  @Patch(':id')
  change(
    @Param() { id }: RoomParams,
    @Body() { name, description, history }: RoomChangesBody,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<Room> {
    return this.rooms.change(id, userId, {
      ...(typeof name === 'string' && { name }),
      ...(typeof description === 'string' && { description }),
      ...(typeof history === 'string' && { history }),
    });
  }

  @Delete(':id')
  async delete(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<{ success: true }> {
    await this.rooms.delete(id, userId);
    return { success: true };
  }
}
