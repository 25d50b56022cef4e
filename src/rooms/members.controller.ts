import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query, UseGuards } from '@nestjs/common';
import Type from 'typebox';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { Operation } from '../rest/operation.js';
import { success, successSchema, type Success } from '../rest/success.js';
import { banSchema, type Ban } from './ban.store.js';
import { memberSchema, type Member } from './member.store.js';
import { membersPageMax, MemberParams, MembersQuery, RoleBody, RoomParams, UserBody } from './member.dto.js';
import { MembersService } from './members.service.js';

@Controller('rooms/:id')
@UseGuards(AuthGuard)
export class MembersController {
  constructor(private readonly members: MembersService) {}

  @Post('join')
  @HttpCode(200)
  @Operation({ summary: 'Join a room', answer: successSchema, errors: ['room_not_found', 'forbidden', 'rate_limited'] })
  async join(@Param() { id }: RoomParams, @CurrentIdentity() { userId, username }: Identity): Promise<Success> {
    await this.members.join(id, userId, username);
    return success;
  }

  @Post('leave')
  @HttpCode(200)
  @Operation({
    summary: 'Leave a room',
    description: 'When the owner leaves, the room passes to the admin who has been there longest, else to such a member.',
    answer: successSchema,
    errors: ['room_not_found'],
  })
  async leave(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.leave(id, userId);
    return success;
  }

  @Get('members')
  @Operation({
    summary: 'List the members of a room',
    description: 'In the order of their ids. Only members may.',
    answer: Type.Array(memberSchema),
    errors: ['room_not_found'],
  })
  list(@Param() { id }: RoomParams, @Query() { limit, after }: MembersQuery, @CurrentIdentity() { userId }: Identity): Promise<Member[]> {
    return this.members.list(id, userId, limit ?? membersPageMax, after);
  }

  @Post('members')
  @HttpCode(200)
  @Operation({
    summary: 'Make another user a member',
    description: 'Any member may, in a private room too.',
    answer: successSchema,
    errors: ['room_not_found', 'not_found', 'forbidden', 'rate_limited'],
  })
  async add(@Param() { id }: RoomParams, @Body() { user_id }: UserBody, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.add(id, userId, user_id);
    return success;
  }

  @Put('members/:user_id')
  @Operation({
    summary: 'Make a member an admin, or an admin a member again',
    description: 'Only the owner may.',
    answer: successSchema,
    errors: ['room_not_found', 'not_found', 'forbidden', 'rate_limited'],
  })
  async setRole(
    @Param() { id, user_id }: MemberParams,
    @Body() { role }: RoleBody,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<Success> {
    await this.members.setRole(id, userId, user_id, role);
    return success;
  }

  @Delete('members/:user_id')
  @Operation({
    summary: 'End the membership of another',
    description: 'The owner may to all, admins may to plain members.',
    answer: successSchema,
    errors: ['room_not_found', 'forbidden', 'rate_limited'],
  })
  async kick(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.kick(id, userId, user_id);
    return success;
  }

  @Post('owner')
  @HttpCode(200)
  @Operation({
    summary: 'Make another member the owner',
    description: 'Only the owner may, and is an admin then.',
    answer: successSchema,
    errors: ['room_not_found', 'not_found', 'forbidden', 'rate_limited'],
  })
  async transfer(@Param() { id }: RoomParams, @Body() { user_id }: UserBody, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.transfer(id, userId, user_id);
    return success;
  }

  @Get('bans')
  @Operation({
    summary: 'List who is banned',
    description: 'In the order of their ids. Only the owner and admins may.',
    answer: Type.Array(banSchema),
    errors: ['room_not_found', 'forbidden'],
  })
  bans(@Param() { id }: RoomParams, @Query() { limit, after }: MembersQuery, @CurrentIdentity() { userId }: Identity): Promise<Ban[]> {
    return this.members.bans(id, userId, limit ?? membersPageMax, after);
  }

  @Put('bans/:user_id')
  @Operation({
    summary: 'Keep a user out',
    description: 'Ends its membership, if it is a member. The owner may to all, admins may to plain members.',
    answer: successSchema,
    errors: ['room_not_found', 'not_found', 'forbidden', 'rate_limited'],
  })
  async ban(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.ban(id, userId, user_id);
    return success;
  }

  @Delete('bans/:user_id')
  @Operation({
    summary: 'Let a user join again',
    description: 'Only the owner and admins may.',
    answer: successSchema,
    errors: ['room_not_found', 'forbidden', 'rate_limited'],
  })
  async unban(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.unban(id, userId, user_id);
    return success;
  }
}
