import Type from 'typebox';
import { roomId, seq, time, uuid, type Sent } from './fields.js';

/** Every event that a room's log can hold beside messages, with what a client's author needs to know of it. */
export const roomEventKinds = {
  joined: 'user_id is a member from here on; actor_id added it, or is itself.',
  left: 'user_id is no member any more, by its own wish.',
  kicked: 'user_id is no member any more, by actor_id.',
  banned: 'user_id is no member any more, if it was one, and can not join until it is unbanned.',
  unbanned: 'user_id may join again.',
  role_changed: 'user_id has the role in role.',
  owner_changed: 'user_id is the owner; who was the owner before is an admin.',
  renamed: 'The room has the name in name.',
  updated: 'The room has the description, the history and the private that are given.',
  deleted: 'The room is no more: this is the last of its log.',
} as const;

export type RoomEventKind = keyof typeof roomEventKinds;

export const roomEventSchema = Type.Object(
  {
    room_id: roomId,
    seq,
    kind: Type.Enum(Object.keys(roomEventKinds) as RoomEventKind[], { description: 'what happened; pass over a kind that you don’t know' }),
    actor_id: uuid('id of the user who did it'),
    user_id: Type.Optional(uuid('id of the user whom it is about, where it is about one')),
    username: Type.Optional(Type.String({ description: 'name of that user at that time' })),
    created_at: time('when it was stored'),
    role: Type.Optional(Type.Enum(['admin', 'member'], { description: 'with role_changed' })),
    name: Type.Optional(Type.String({ description: 'with renamed' })),
    description: Type.Optional(Type.String({ description: 'with updated, where it was changed' })),
    history: Type.Optional(
      Type.Enum(['shared', 'joined'], {
        description: 'with updated, where it was changed: whether a member may read what was before its join (shared) or not (joined)',
      }),
    ),
    private: Type.Optional(
      Type.Boolean({ description: 'with updated, where it was changed: whether only members and who is invited see the room' }),
    ),
  },
  { description: 'Something else than a message that has a seq of the room.' },
);

export type RoomEvent = Sent<typeof roomEventSchema>;

/** After such an event its user is no member, and hears no more of the room. */
export const endsMembership = (kind: RoomEventKind): boolean => kind === 'left' || kind === 'kicked' || kind === 'banned';
