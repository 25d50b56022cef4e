import { Body, Controller, Delete, Get, Param, Patch, Post, Query, UseGuards } from '@nestjs/common';
import Type from 'typebox';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { Operation } from '../rest/operation.js';
import { success, successSchema, type Success } from '../rest/success.js';
import { RoomParams } from './member.dto.js';
import { NewRoomBody, RoomChangesBody, roomsPage, RoomsQuery } from './room.dto.js';
import { listedRoomSchema, roomSchema, type OwnRoom, type Room } from './room.store.js';
import { RoomsService } from './rooms.service.js';

@Controller('rooms')
@UseGuards(AuthGuard)
export class RoomsController {
  constructor(private readonly rooms: RoomsService) {}

  @Post()
  @Operation({
    summary: 'Make a room',
    description: 'Its maker is its owner and its first member.',
    answer: roomSchema,
    errors: ['conflict', 'rate_limited'],
  })
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
  @Operation({
    summary: 'List the rooms that the user sees',
    description: 'Newest first. With member=me, those have the user’s role.',
    answer: Type.Array(listedRoomSchema),
  })
  list(@Query() { limit, before, q, member }: RoomsQuery, @CurrentIdentity() { userId }: Identity): Promise<Room[] | OwnRoom[]> {
    const page = {
      limit: limit ?? roomsPage,
      ...(before !== undefined && { before }),
      ...(q !== undefined && { nameContains: q }),
    };
    return member === 'me' ? this.rooms.listOwn(userId, page) : this.rooms.list(userId, page);
  }

  @Get(':id')
  @Operation({
    summary: 'Show a room',
    description: 'A private room is there for its members alone.',
    answer: roomSchema,
    errors: ['room_not_found'],
  })
  get(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Room> {
    return this.rooms.get(id, userId);
  }

  @Patch(':id')
  @Operation({
    summary: 'Change a room',
    description: 'The owner and admins may. What is left out stays as it is.',
    answer: roomSchema,
    errors: ['room_not_found', 'forbidden', 'conflict', 'rate_limited'],
  })
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
  @Operation({
    summary: 'Delete a room',
    description: 'Only the owner may. Who follows it is told, and it is gone for everybody.',
    answer: successSchema,
    errors: ['room_not_found', 'forbidden'],
  })
  async delete(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.rooms.delete(id, userId);
    return success;
  }
}
