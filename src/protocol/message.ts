import Type from 'typebox';
import { roomId, seq, time, username, uuid, type Sent } from './fields.js';

/** A message, as the socket and REST have it: PostgreSQL makes its JSON once (`message_json`), and that text is what everybody gets. */
export const messageSchema = Type.Object(
  {
    room_id: roomId,
    seq,
    id: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'unique, in no order: sort by seq' }),
    user_id: uuid('id of its sender'),
    username,
    content: Type.String({ description: '1 to 65,536 characters (Unicode code points), any but NUL' }),
    client_msg_id: Type.Optional(uuid('as its sender gave it')),
    created_at: time('when it was stored'),
  },
  { description: 'A message. One of a room and a seq never changes.' },
);

export type Message = Sent<typeof messageSchema>;
