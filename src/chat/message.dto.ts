import { IsOptional, IsString } from 'class-validator';
import { limits } from '../protocol/limits.js';
import { Uuid, WholeNumber } from '../rest/validation.js';

/** One less than the largest exact integer, so that the seq above it is exact too. */
const seqMax = Number.MAX_SAFE_INTEGER - 1;

export class RoomParams {
  @Uuid()
  readonly id!: string;
}

export class HistoryQuery {
  /** Exclusive upper seq; the same as `before`. At most one of these four may be given. */
  @IsOptional()
  @WholeNumber(1, Number.MAX_SAFE_INTEGER)
  readonly cursor?: number;

  @IsOptional()
  @WholeNumber(1, Number.MAX_SAFE_INTEGER)
  readonly before?: number;

  /** Exclusive lower seq: the page is the oldest messages above it. */
  @IsOptional()
  @WholeNumber(0, seqMax)
  readonly after?: number;

  /** The page has this seq in its middle. */
  @IsOptional()
  @WholeNumber(1, seqMax)
  readonly around?: number;

  /** Only messages of this user. Then a page may have fewer than `limit`, even none: what tells the end is a cursor of null. */
  @IsOptional()
  @Uuid()
  readonly author?: string;

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
