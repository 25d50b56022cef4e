import { Body, Controller, Get, Header, Param, Post, Query, UseGuards } from '@nestjs/common';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { Database } from '../database/database.js';
import { contentProblem } from '../protocol/commands.js';
import { ClientError } from '../protocol/errors.js';
import { findMembership } from '../rooms/room.store.js';
import { ChatService, type Stored } from './chat.service.js';
import { newest, readHistory, type Place } from './history.store.js';
import { HistoryQuery, NewMessageBody, RoomParams } from './message.dto.js';

const historyPage = 50;

/** A message as REST answers it; history has the same, made by PostgreSQL. */
interface MessageAnswer {
  id: number;
  seq: number;
  room_id: string;
  user_id: string;
  username: string;
  content: string;
  client_msg_id?: string;
  created_at: string;
}

/** To who is no member, a room's messages answer as if there were no such room. */
@Controller('rooms/:id/messages')
@UseGuards(AuthGuard)
export class MessagesController {
  constructor(
    private readonly db: Database,
    private readonly chat: ChatService,
  ) {}

  /** @returns JSON text: the messages are passed through as PostgreSQL made them */
  @Get()
  @Header('content-type', 'application/json; charset=utf-8')
  async history(@Param() { id }: RoomParams, @Query() query: HistoryQuery, @CurrentIdentity() { userId }: Identity): Promise<string> {
    const place = placeOf(query);
    const membership = await findMembership(this.db, id, userId);
    if (membership === undefined) throw new ClientError('room_not_found');
    const { messages, nextCursor, newerCursor } = await readHistory(
      this.db,
      id,
      membership,
      query.limit ?? historyPage,
      place,
      query.author,
    );
    const newer = newerCursor === undefined ? '' : `,"newer_cursor":${newerCursor}`;
    return `{"messages":[${messages.join(',')}],"next_cursor":${nextCursor}${newer}}`;
  }

  @Post()
  async send(
    @Param() { id }: RoomParams,
    @Body() body: NewMessageBody,
    @CurrentIdentity() { userId, username }: Identity,
  ): Promise<MessageAnswer> {
    const { content } = body;
    const problem = contentProblem(content);
    if (problem !== undefined) throw problem;
    const clientMsgId = body.client_msg_id ?? undefined;
    const stored = await this.chat.send({ roomId: id, userId, content, ...(clientMsgId !== undefined && { clientMsgId }) }).catch(hideRoom);
    return {
      id: stored.id,
      seq: stored.seq,
      room_id: id,
      user_id: userId,
      username,
      content,
      ...(clientMsgId !== undefined && { client_msg_id: clientMsgId }),
      created_at: stored.createdAt,
    };
  }
}

/** @throws ClientError `invalid_payload` where more than one place is given */
function placeOf({ cursor, before, after, around }: HistoryQuery): Place {
  const given = Object.entries({ cursor, before, after, around }).filter(([, seq]) => seq !== undefined);
  if (given.length > 1) {
    const fields = given.map(([field]) => ({ field, message: 'must be given alone: one of cursor, before, after, around' }));
    throw new ClientError('invalid_payload', fields.map(({ field, message }) => `${field}: ${message}`).join('; '), { fields });
  }
  if (around !== undefined) return { around };
  if (after !== undefined) return { after };
  const upTo = cursor ?? before;
  return upTo === undefined ? newest : { before: upTo };
}

function hideRoom(error: unknown): Stored {
  throw error instanceof ClientError && error.code === 'not_a_member' ? new ClientError('room_not_found') : error;
}
