/** Uses the types that modelina makes of the AsyncAPI document, as a client of the socket would. */
import type { JoinRoomFrame } from './models/JoinRoomFrame.js';
import type { Message } from './models/Message.js';
import type { NewMessageBatchFrame } from './models/NewMessageBatchFrame.js';

export const join: JoinRoomFrame = {
  event: 'join_room',
  id: 1,
  data: { room_id: '0193a5c0-0000-7000-8000-000000000004', last_seen_seq: 0 },
};

export const contents = ({ data }: NewMessageBatchFrame): string[] => data.map(({ seq, content }: Message) => `${seq} ${content}`);
