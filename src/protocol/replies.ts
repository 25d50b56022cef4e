/**
 * What answers a command: it carries the id that the command had, if it had one. `hello` and `resync` also come unasked, and then carry none, as
 * does the `error` of what is no command.
 */
import Type, { type TInteger, type TSchema } from 'typebox';
import type { CommandName } from './commands.js';
import { errorCodes, type ErrorCode } from './errors.js';
import { count, epoch, lastSeq, roomId, seq, time, userId, username, uuid, type Sent } from './fields.js';
import { limitMeanings } from './limits.js';
import { messageSchema } from './message.js';
import { roomEventSchema } from './room-event.js';

const online = Type.Array(Type.Object({ user_id: userId, username }), {
  description: 'the members who are online, up to limits.online_list_max of them',
});
const onlineCount = count('how many members are online');
/** Where a list and a number of who is online go together. */
export const onlineFields = { online: Type.Optional(online), online_count: onlineCount };

/** Why what the client holds of a room is not what the room is. */
export const resyncReasons = {
  epoch_changed: 'The database may have lost commits: forget what you hold of the room, and read its history anew.',
  ahead_of_room: 'last_seen_seq is above the room’s last seq: forget what you hold of the room, and read its history anew.',
  history_hidden:
    'The room does not show you what is at or below last_seq, such as what was said before your join: the stream goes on after last_seq.',
  gap_in_log: 'A seq is missing from the database, which only tampering makes: read the history anew.',
} as const;
export type ResyncReason = keyof typeof resyncReasons;

const limitFields = Object.fromEntries(Object.entries(limitMeanings).map(([name, meaning]) => [name, count(meaning)])) as Record<
  keyof typeof limitMeanings,
  TInteger
>;

export const replySchemas = {
  hello: Type.Object(
    {
      connection_id: uuid('names this connection in the log of the node'),
      user_id: uuid('who you are'),
      node: Type.String({ description: 'name of the node' }),
      epoch,
      heartbeat_ms: count('interval of the node’s WebSocket pings'),
      token_expires_at: time('when the socket is closed unless refresh_token renews it'),
      limits: Type.Object(limitFields, { description: 'the limits that a client is held to' }),
    },
    {
      description:
        'You are authenticated. Comes before anything of a room; answers each auth, or comes by itself when the handshake had the credentials. With another user_id than the one before, nothing is followed any more.',
    },
  ),
  joined_room: Type.Object(
    {
      room_id: roomId,
      last_seq: lastSeq('last seq of the room: the stream goes on after it, unless history or resync follows'),
      epoch,
      online: Type.Optional(online),
      online_count: Type.Optional(onlineCount),
    },
    {
      description:
        'The room’s stream has begun. online and online_count are missing where they are not known yet: room_online follows then.',
    },
  ),
  history: Type.Object(
    {
      room_id: roomId,
      messages: Type.Array(messageSchema, { description: 'ascending' }),
      events: Type.Array(roomEventSchema, { description: 'ascending; merge them with messages by seq' }),
      next_cursor: lastSeq('the last_seen_seq with which to go on after this page'),
      has_more: Type.Boolean({ description: 'false on the last page, after which the stream is live' }),
    },
    {
      description:
        'A page of what came after last_seen_seq. At least one comes after joined_room where last_seen_seq was given, unless resync does.',
    },
  ),
  resync: Type.Object(
    {
      room_id: roomId,
      reason: Type.Enum(Object.keys(resyncReasons) as ResyncReason[], {
        description: Object.entries(resyncReasons)
          .map(([reason, meaning]) => `${reason}: ${meaning}`)
          .join(' '),
      }),
      last_seq: lastSeq('the stream goes on after it'),
      epoch,
    },
    {
      description:
        'What you hold of the room does not go on: take last_seq as what you saw last, and read by REST what you need of before.',
    },
  ),
  left_room: Type.Object(
    { room_id: roomId },
    { description: 'The room’s stream has ended, or there was none. Your membership is as it was.' },
  ),
  message_ack: Type.Object(
    {
      room_id: roomId,
      client_msg_id: Type.Optional(uuid('as the command had it')),
      id: messageSchema.properties.id,
      seq,
      created_at: time('when it was stored'),
      duplicate: Type.Boolean({ description: 'true where an earlier send with this client_msg_id stored it; the fields are of that one' }),
      epoch: Type.Optional(Type.String({ description: 'of seq, where it is not the epoch that hello told' })),
    },
    { description: 'The message is stored for good. Comes where the command had an id or a client_msg_id.' },
  ),
  token_refreshed: Type.Object(
    { token_expires_at: time('when the socket is closed unless refresh_token renews it again') },
    { description: 'The socket lives as long as the new token.' },
  ),
  pong: Type.Object({}, { description: 'The node is there.' }),
  error: Type.Object(
    {
      message: Type.String({ description: 'for the client’s author, not for its user' }),
      code: Type.Enum(Object.keys(errorCodes) as ErrorCode[], {
        description: 'what to decide by; take one that you don’t know by temporary',
      }),
      temporary: Type.Boolean({ description: 'true where the same command may succeed later' }),
      retry_after_ms: Type.Optional(count('wait at least so long before it')),
      room_id: Type.Optional(uuid('the room whose stream did not begin, or has ended')),
      fields: Type.Optional(
        Type.Array(Type.Object({ field: Type.String(), message: Type.String() }), { description: 'one entry for each bad field' }),
      ),
    },
    {
      description:
        'The command with this id was refused, and nothing of it was done, unless the code says otherwise. Without an id: see Errors.',
    },
  ),
} as const satisfies Record<string, TSchema>;

export type ReplyName = keyof typeof replySchemas;
export type Reply = { readonly [Name in ReplyName]: Sent<(typeof replySchemas)[Name]> };
export type OnlineUser = Sent<(typeof online)['items']>;

/** What answers each command, in order; an `error` may come in its place. */
export const repliesTo = {
  auth: ['hello'],
  join_room: ['joined_room', 'history', 'resync'],
  join_rooms: ['joined_room', 'history', 'resync'],
  leave_room: ['left_room'],
  send_message: ['message_ack'],
  typing_start: [],
  typing_stop: [],
  refresh_token: ['token_refreshed'],
  ping: ['pong'],
} as const satisfies Record<CommandName, readonly ReplyName[]>;
