import { Body, Controller, Delete, Get, HttpCode, Param, Post, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { CodeParams, InviteParams, NewInviteBody } from './invite.dto.js';
import type { Invite } from './invite.store.js';
import { InvitesService, type InviteWithCode } from './invites.service.js';
import { RoomParams } from './member.dto.js';

const inviteLifeS = 7 * 24 * 3_600;

@Controller()
@UseGuards(AuthGuard)
export class InvitesController {
  constructor(private readonly invites: InvitesService) {}

  @Post('rooms/:id/invites')
  create(
    @Param() { id }: RoomParams,
    @Body() { expires_in_s, max_uses }: NewInviteBody,
    @CurrentIdentity() { userId }: Identity,
  ): Promise<InviteWithCode> {
    return this.invites.create(id, userId, {
      expiresInS: expires_in_s ?? inviteLifeS,
      ...(typeof max_uses === 'number' && { maxUses: max_uses }),
    });
  }

  @Get('rooms/:id/invites')
  list(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Invite[]> {
    return this.invites.list(id, userId);
  }

  @Delete('rooms/:id/invites/:invite_id')
  async delete(@Param() { id, invite_id }: InviteParams, @CurrentIdentity() { userId }: Identity): Promise<{ success: true }> {
    await this.invites.delete(id, userId, invite_id);
    return { success: true };
  }

  @Post('invites/:code/join')
  @HttpCode(200)
  async join(
    @Param() { code }: CodeParams,
    @CurrentIdentity() { userId, username }: Identity,
  ): Promise<{ success: true; room_id: string }> {
    return { success: true, room_id: await this.invites.join(code, userId, username) };
  }
}
