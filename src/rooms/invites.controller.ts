import { Body, Controller, Delete, Get, HttpCode, Param, Post, UseGuards } from '@nestjs/common';
import Type, { type Static } from 'typebox';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { uuid } from '../protocol/fields.js';
import { Operation } from '../rest/operation.js';
import { success, successSchema, type Success } from '../rest/success.js';
import { CodeParams, inviteLifeS, InviteParams, NewInviteBody } from './invite.dto.js';
import { inviteSchema, type Invite } from './invite.store.js';
import { InvitesService, inviteWithCodeSchema, type InviteWithCode } from './invites.service.js';
import { RoomParams } from './member.dto.js';

const enteredSchema = Type.Object({ ...successSchema.properties, room_id: uuid('id of the room') }, { title: 'Entered' });

@Controller()
@UseGuards(AuthGuard)
export class InvitesController {
  constructor(private readonly invites: InvitesService) {}

  @Post('rooms/:id/invites')
  @Operation({
    summary: 'Make an invitation',
    description: 'Any member may.',
    answer: inviteWithCodeSchema,
    errors: ['room_not_found', 'conflict', 'rate_limited'],
  })
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
  @Operation({
    summary: 'List the invitations that can still be used',
    description: 'Oldest first; to the owner and admins all, to a plain member its own.',
    answer: Type.Array(inviteSchema),
    errors: ['room_not_found'],
  })
  list(@Param() { id }: RoomParams, @CurrentIdentity() { userId }: Identity): Promise<Invite[]> {
    return this.invites.list(id, userId);
  }

  @Delete('rooms/:id/invites/:invite_id')
  @Operation({
    summary: 'Delete an invitation',
    description: 'The owner and admins may with all, a plain member with its own.',
    answer: successSchema,
    errors: ['room_not_found'],
  })
  async delete(@Param() { id, invite_id }: InviteParams, @CurrentIdentity() { userId }: Identity): Promise<Success> {
    await this.invites.delete(id, userId, invite_id);
    return success;
  }

  @Post('invites/:code/join')
  @HttpCode(200)
  @Operation({
    summary: 'Join a room by an invitation',
    description: 'For a member it does nothing, and uses nothing up.',
    answer: enteredSchema,
    errors: ['not_found', 'room_not_found', 'forbidden', 'rate_limited'],
  })
  async join(@Param() { code }: CodeParams, @CurrentIdentity() { userId, username }: Identity): Promise<Static<typeof enteredSchema>> {
    return { success: true, room_id: await this.invites.join(code, userId, username) };
  }
}
