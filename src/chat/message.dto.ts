import { IsOptional, IsString } from 'class-validator';
import { limits } from '../protocol/limits.js';
import { Uuid, WholeNumber } from '../rest/validation.js';

export class RoomParams {
  @Uuid()
  readonly id!: string;
}

export class HistoryQuery {
  /** Exclusive upper seq. */
  @IsOptional()
  @WholeNumber(1, Number.MAX_SAFE_INTEGER)
  readonly cursor?: number;

  @IsOptional()
  @WholeNumber(1, limits.historyPageMax)
  readonly limit?: number;
}

export class NewMessageBody {
  // What is in it is judged by the rule that sockets have too, which answers a long one with a code of its own.
  @IsString({ message: 'must be a string' })
  readonly content!: string;

  @IsOptional()
  @Uuid()
  readonly client_msg_id?: string | null;
}
