import { Body, Controller, Delete, Get, Param, Patch, Post, Query, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { RoomParams } from './member.dto.js';
import { NewRoomBody, RoomChangesBody, RoomsQuery } from './room.dto.js';
import type { OwnRoom, Room } from './room.store.js';
import { RoomsService } from './rooms.service.js';

const roomsPage = 50;

@Controller('rooms')
@UseGuards(AuthGuard)
export class RoomsController {
  constructor(private readonly rooms: RoomsService) {}

  @Post()
  create(@Body() body: NewRoomBody, @CurrentIdentity() owner: Identity): Promise<Room> {
    const { name, description, history, private: isPrivate } = body;
    return this.rooms.create({
      name,
      description: description ?? '',
      history: history ?? 'shared',
      isPrivate: isPrivate ?? false,
      owner,
    });
  }

  @Get()
  list(@Query() { limit, before, q, member }: RoomsQuery, @CurrentIdentity() { userId }: Identity): Promise<Room[] | OwnRoom[]> {
    const page = {
      limit: limit ?? roomsPage,
      ...(before !== undefined && { before }),
      ...(q !== undefined && { nameContains: q }),
    };
    return member === 'me' ? this.rooms.listOwn(userId, page) : this.rooms.list(userId, page);
  }

  @Get(':id')
  get(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Room> {
    return this.rooms.get(id, userId);
  }

  @Patch(':id')
  change(
    @Param() { id }: RoomParams,
    @Body() { name, description, history, private: isPrivate }: RoomChangesBody,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<Room> {
    return this.rooms.change(id, userId, {
      ...(typeof name === 'string' && { name }),
      ...(typeof description === 'string' && { description }),
      ...(typeof history === 'string' && { history }),
      ...(typeof isPrivate === 'boolean' && { private: isPrivate }),
    });
  }

  @Delete(':id')
  async delete(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<{ success: true }> {
    await this.rooms.delete(id, userId);
    return { success: true };
  }
}
