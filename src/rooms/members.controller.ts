import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, Query, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import type { Ban } from './ban.store.js';
import type { Member } from './member.store.js';
import { MemberParams, MembersQuery, RoleBody, RoomParams, UserBody } from './member.dto.js';
import { MembersService } from './members.service.js';

const membersPage = 1_000;

/** The answer to what is idempotent: true also when nothing changed. */
interface Success {
  success: true;
}
const success: Success = { success: true };

@Controller('rooms/:id')
@UseGuards(AuthGuard)
export class MembersController {
  constructor(private readonly members: MembersService) {}

  @Post('join')
  @HttpCode(200)
  async join(@Param() { id }: RoomParams, @CurrentIdentity() { userId, username }: Identity): Promise<Success> {
    await this.members.join(id, userId, username);
    return success;
  }

  @Post('leave')
  @HttpCode(200)
  async leave(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.leave(id, userId);
    return success;
  }

  @Get('members')
  list(@Param() { id }: RoomParams, @Query() { limit, after }: MembersQuery, @CurrentIdentity() { userId }: Identity): Promise<Member[]> {
    return this.members.list(id, userId, limit ?? membersPage, after);
  }

  @Post('members')
  @HttpCode(200)
  async add(@Param() { id }: RoomParams, @Body() { user_id }: UserBody, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.add(id, userId, user_id);
    return success;
  }

  @Put('members/:user_id')
  async setRole(
    @Param() { id, user_id }: MemberParams,
    @Body() { role }: RoleBody,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<Success> {
    await this.members.setRole(id, userId, user_id, role);
    return success;
  }

  @Delete('members/:user_id')
  async kick(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.kick(id, userId, user_id);
    return success;
  }

  @Post('owner')
  @HttpCode(200)
  async transfer(@Param() { id }: RoomParams, @Body() { user_id }: UserBody, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.transfer(id, userId, user_id);
    return success;
  }

  @Get('bans')
  bans(@Param() { id }: RoomParams, @Query() { limit, after }: MembersQuery, @CurrentIdentity() { userId }: Identity): Promise<Ban[]> {
    return this.members.bans(id, userId, limit ?? membersPage, after);
  }

  @Put('bans/:user_id')
  async ban(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.ban(id, userId, user_id);
    return success;
  }

  @Delete('bans/:user_id')
  async unban(@Param() { id, user_id }: MemberParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.members.unban(id, userId, user_id);
    return success;
  }
}
