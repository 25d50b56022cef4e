/** The text of what a node sends. Not checked as it is sent: the tests hold every frame that they receive against its schema. */
import type { CommandId } from './commands.js';
import type { ClientError } from './errors.js';
import type { Push } from './pushes.js';
import type { Reply } from './replies.js';

export type ServerEvents = Reply & Push;

/** A frame's text up to its data. */
const head = (event: keyof ServerEvents, id?: CommandId): string =>
  id === undefined ? `{"event":"${event}","data":` : `{"event":"${event}","id":${JSON.stringify(id)},"data":`;

/** One frame's text. */
export function encode<Event extends keyof ServerEvents>(event: Event, data: ServerEvents[Event], id?: CommandId): string {
  return JSON.stringify(id === undefined ? { event, data } : { event, id, data });
}

/**
 * The reply that every send has: written out, for JSON.stringify and the object for it cost twice as much.
 * @param ack its room, key and time are UUIDs and ISO 8601, which JSON leaves as they are
 */
export function encodeAck(ack: ServerEvents['message_ack'], id?: CommandId): string {
  const idField = id === undefined ? '' : `"id":${typeof id === 'number' ? id : JSON.stringify(id)},`;
  const keyField = ack.client_msg_id === undefined ? '' : `"client_msg_id":"${ack.client_msg_id}",`;
  const epochField = ack.epoch === undefined ? '' : `,"epoch":${JSON.stringify(ack.epoch)}`;
  return `{"event":"message_ack",${idField}"data":{"room_id":"${ack.room_id}",${keyField}"id":${ack.id},"seq":${ack.seq},"created_at":"${ack.created_at}","duplicate":${ack.duplicate}${epochField}}}`;
}

/** @param roomId the room that it is about, where the command does not say it or is none */
export function encodeError(error: ClientError, id?: CommandId, roomId?: string): string {
  const { retryAfterMs, fields } = error.details;
  return encode(
    'error',
    {
      message: error.message,
      code: error.code,
      temporary: error.temporary,
      ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }),
      ...(roomId !== undefined && { room_id: roomId }),
      ...(fields !== undefined && { fields }),
    },
    id,
  );
}

/** Who is online in a room: the members `online`, of which it is the JSON text, and `online_count` of the frames that tell it. */
export interface OnlineText {
  readonly online: string;
  readonly count: number;
}

/** @param online undefined where it is not known */
export function encodeJoinedRoom(
  { room_id, last_seq, epoch }: Pick<Reply['joined_room'], 'room_id' | 'last_seq' | 'epoch'>,
  online: OnlineText | undefined,
  id?: CommandId,
): string {
  const members = online === undefined ? '' : `,${membersOf(online)}`;
  return `${head('joined_room', id)}{"room_id":"${room_id}","last_seq":${last_seq},"epoch":${JSON.stringify(epoch)}${members}}}`;
}

export const encodeRoomOnline = (roomId: string, online: OnlineText): string =>
  `${head('room_online')}{"room_id":"${roomId}",${membersOf(online)}}}`;

const membersOf = ({ online, count }: OnlineText): string => `"online":${online},"online_count":${count}`;

/** @param messages each the JSON text of a message, as PostgreSQL made it */
export const encodeBatch = (messages: readonly string[]): string => `{"event":"new_message_batch","data":[${messages.join(',')}]}`;

/** @param event the JSON text of an event, as PostgreSQL made it */
export const encodeRoomEvent = (event: string): string => `{"event":"room_event","data":${event}}`;

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
  return `${head('history', id)}{"room_id":"${roomId}","messages":[${messages.join(',')}],"events":[${events.join(',')}],"next_cursor":${nextCursor},"has_more":${hasMore}}}`;
}
