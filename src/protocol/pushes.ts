/** What a node sends: replies, which carry the id of their command, and pushes, which carry none. */
import type { CommandId } from './commands.js';
import { errorCodes, type ClientError } from './errors.js';
import type { limits } from './limits.js';

export interface Hello {
  connection_id: string;
  user_id: string;
  node: string;
  /** Changes when the database may have lost commits; give it back in join_room. */
  epoch: string;
  heartbeat_ms: number;
  /** ISO 8601. */
  token_expires_at: string;
  limits: { [Name in keyof typeof limits as SnakeCase<Name>]: number };
}

type SnakeCase<S extends string> = S extends `${infer Head}${infer Tail}`
  ? Head extends Lowercase<Head>
    ? `${Head}${SnakeCase<Tail>}`
    : `_${Lowercase<Head>}${SnakeCase<Tail>}`
  : S;

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

export interface RoomEvent {
  room_id: string;
  seq: number;
  kind: RoomEventKind;
  actor_id: string;
  /** Whom it is about, where it is about a user. */
  user_id?: string;
  username?: string;
  created_at: string;
  role?: 'admin' | 'member';
  name?: string;
  description?: string;
  history?: 'shared' | 'joined';
  private?: boolean;
}

/** After such an event its user is no member, and hears no more of the room. */
export const endsMembership = (kind: RoomEventKind): boolean => kind === 'left' || kind === 'kicked' || kind === 'banned';

/** Why what the client holds of a room is not what the room is: it keeps nothing, and reads the history anew. */
export type ResyncReason =
  /** The database may have lost commits. */
  | 'epoch_changed'
  /** last_seen_seq is above the room's last seq. */
  | 'ahead_of_room'
  /** The part asked for was before this user's join, in a room that doesn't show it. */
  | 'history_hidden'
  /** A seq is missing from the database; only tampering makes this. */
  | 'gap_in_log';

export interface OnlineUser {
  user_id: string;
  username: string;
}

export interface Push {
  hello: Hello;
  /** `online` has the members online, up to online_list_max; both are left out where they are not known yet, then room_online follows. */
  joined_room: { room_id: string; last_seq: number; epoch: string; online?: readonly OnlineUser[]; online_count?: number };
  left_room: { room_id: string };
  resync: { room_id: string; reason: ResyncReason; last_seq: number; epoch: string };
  message_ack: { room_id: string; client_msg_id?: string; id: number; seq: number; created_at: string; duplicate: boolean };
  room_event: RoomEvent;
  user_joined: { room_id: string; user_id: string; username: string; seq: number };
  user_left: { room_id: string; user_id: string; username: string; seq: number };
  presence: { room_id: string; user_id: string; username: string; status: 'online' | 'offline' };
  /**
   * Where single presences can't tell it. With `online`: what the client held of the room's presence and typing is void, and this is the case
   * now. Without: so many are online that only their number is told.
   */
  room_online: { room_id: string; online?: readonly OnlineUser[]; online_count: number };
  typing: { room_id: string; user_id: string; username: string; is_typing: boolean };
  token_refreshed: { token_expires_at: string };
  pong: Record<string, never>;
  error: {
    message: string;
    code: ClientError['code'];
    temporary: boolean;
    retry_after_ms?: number;
    fields?: readonly { field: string; message: string }[];
  };
  reconnect: { after_ms: number; reason: string };
}

/** One frame's text. */
export function encode<Event extends keyof Push>(event: Event, data: Push[Event], id?: CommandId): string {
  return JSON.stringify(id === undefined ? { event, data } : { event, id, data });
}

export function encodeError(error: ClientError, id?: CommandId): string {
  const { retryAfterMs, fields } = error.details;
  return encode(
    'error',
    {
      message: error.message,
      code: error.code,
      temporary: errorCodes[error.code].temporary,
      ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }),
      ...(fields !== undefined && { fields }),
    },
    id,
  );
}

/** @param messages each the JSON text of a message, as PostgreSQL made it */
export const encodeBatch = (messages: readonly string[]): string => `{"event":"new_message_batch","data":[${messages.join(',')}]}`;

/**
 * One page of what a client missed, ascending: messages, and the events among them.
 * @param nextCursor the seq to give as last_seen_seq next time
 */
export function encodeHistory(
  roomId: string,
  messages: readonly string[],
  events: readonly string[],
  nextCursor: number,
  hasMore: boolean,
  id?: CommandId,
): string {
  const head = id === undefined ? '{"event":"history","data":{' : `{"event":"history","id":${JSON.stringify(id)},"data":{`;
  return `${head}"room_id":"${roomId}","messages":[${messages.join(',')}],"events":[${events.join(',')}],"next_cursor":${nextCursor},"has_more":${hasMore}}}`;
}
