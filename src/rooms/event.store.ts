import type { Queryable } from '../database/database.js';
import type { RoomEvent } from '../protocol/room-event.js';

/** An event as it is appended: the fields of its kind beside the actor, and the user whom it is about, if any. */
export type NewRoomEvent = Omit<RoomEvent, 'room_id' | 'seq' | 'created_at'>;

/** Appends to the room's log, whose next seq the event takes. The room is locked hereby, until the end of the transaction. */
export async function appendEvent(db: Queryable, roomId: string, event: NewRoomEvent): Promise<void> {
  const { kind, actor_id, user_id, username, ...data } = event;
  await db.query('SELECT append_room_event($1, $2, $3, $4, $5, $6)', [
    roomId,
    kind,
    actor_id,
    user_id,
    username,
    Object.keys(data).length === 0 ? null : JSON.stringify(data),
  ]);
}
