import { Body, Controller, Get, Header, Param, Post, Query, UseGuards } from '@nestjs/common';
import Type from 'typebox';
import { AuthGuard, CurrentIdentity, type Identity } from '../auth/auth.guard.js';
import { Database } from '../database/database.js';
import { contentProblem } from '../protocol/commands.js';
import { ClientError } from '../protocol/errors.js';
import { messageSchema, type Message } from '../protocol/message.js';
import { Operation } from '../rest/operation.js';
import { findMembership } from '../rooms/room.store.js';
import { ChatService, type Stored } from './chat.service.js';
import { newest, readHistory, type Place } from './history.store.js';
import { historyPage, HistoryQuery, NewMessageBody, RoomParams } from './message.dto.js';

const namedMessageSchema = { ...messageSchema, title: 'Message' };

const seqOrNull = (description: string) =>
  Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], { description });

const historySchema = Type.Object(
  {
    messages: Type.Array(namedMessageSchema, { description: 'newest first' }),
    next_cursor: seqOrNull('the `before` of the next older page; null when there is nothing older'),
    newer_cursor: Type.Optional(seqOrNull('with after and around: the `after` of the next newer page; null when there is nothing newer')),
  },
  { title: 'History' },
);

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
  @Operation({ summary: 'Read a page of the messages of a room', answer: historySchema, isLarge: true, errors: ['room_not_found'] })
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
  @Operation({
    summary: 'Send a message',
    description: 'Answers when it is stored.',
    answer: namedMessageSchema,
    errors: ['room_not_found', 'conflict', 'rate_limited', 'overloaded'],
  })
  async send(
    @Param() { id }: RoomParams,
    @Body() body: NewMessageBody,
    @CurrentIdentity() { userId, username }: Identity,
  ): Promise<Message> {
    const { content } = body;
    const problem = contentProblem(content);
    if (problem !== undefined) throw problem;
    // Before the room's lock, which the writer takes: a stranger can neither hold the room up nor tell by the time that it is there.
    if ((await findMembership(this.db, id, userId)) === undefined) throw new ClientError('room_not_found');
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
