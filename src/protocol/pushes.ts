/** What a node sends unasked; it never carries an id. */
import Type, { type TSchema } from 'typebox';
import { count, roomId, seq, userId, username, type Sent } from './fields.js';
import { messageSchema } from './message.js';
import { onlineFields } from './replies.js';
import { roomEventSchema } from './room-event.js';

export const pushSchemas = {
  new_message_batch: Type.Array(messageSchema, {
    minItems: 1,
    description: 'Messages of one room, ascending; the first follows what came before of that room. Your own are among them.',
  }),
  room_event: roomEventSchema,
  user_joined: Type.Object(
    { room_id: roomId, user_id: userId, username, seq },
    { description: 'Right after the room_event of this seq, and says the same: a membership began.' },
  ),
  user_left: Type.Object(
    { room_id: roomId, user_id: userId, username, seq },
    { description: 'Right after the room_event of this seq, and says the same: a membership ended.' },
  ),
  presence: Type.Object(
    { room_id: roomId, user_id: userId, username, status: Type.Enum(['online', 'offline']) },
    { description: 'A member has come online or gone offline.' },
  ),
  room_online: Type.Object(
    { room_id: roomId, ...onlineFields },
    {
      description:
        'With online: forget what you held of the room’s presence and typing, this is the case now. Without: so many are online that only their number is told.',
    },
  ),
  typing: Type.Object(
    { room_id: roomId, user_id: userId, username, is_typing: Type.Boolean() },
    { description: 'A member has begun or ended to type. Never of yourself.' },
  ),
  reconnect: Type.Object(
    { after_ms: count('when the socket is closed, with 1012, if you don’t do it before'), reason: Type.String() },
    { description: 'This node is going away: connect anew, to any node, and resume.' },
  ),
} as const satisfies Record<string, TSchema>;

export type PushName = keyof typeof pushSchemas;
export type Push = { readonly [Name in PushName]: Sent<(typeof pushSchemas)[Name]> };
