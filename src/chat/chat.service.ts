import { Injectable } from '@nestjs/common';

export interface Send {
  roomId: string;
  userId: string;
  content: string;
  /** Lower case; makes the send idempotent for this sender and room. */
  clientMsgId?: string;
}

export interface Stored {
  id: number;
  seq: number;
  /** ISO 8601, milliseconds, UTC. */
  createdAt: string;
  /** True when an earlier send with the same client_msg_id was found; then id, seq and createdAt are the earlier one's. */
  duplicate: boolean;
}

@Injectable()
export class ChatService {
  /**
   * Stores a message; resolves after the commit.
   * @throws ClientError room_not_found, not_a_member, conflict, overloaded, unavailable
   */
  send(_send: Send): Promise<Stored> {
    throw new Error('to be written');
  }
}
