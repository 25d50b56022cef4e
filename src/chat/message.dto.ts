import { limits } from '../protocol/limits.js';
import { JudgedText, Means, Optional, Uuid, QueryWholeNumber } from '../rest/validation.js';

/** One less than the largest exact integer, so that the seq above it is exact too. */
const seqMax = Number.MAX_SAFE_INTEGER - 1;
export const historyPage = 50;

export class RoomParams {
  @Uuid()
  readonly id!: string;
}

export class HistoryQuery {
  @Optional()
  @QueryWholeNumber(1, Number.MAX_SAFE_INTEGER)
  @Means('Exclusive upper seq; the same as `before`. At most one of cursor, before, after and around may be given.')
  readonly cursor?: number;

  @Optional()
  @QueryWholeNumber(1, Number.MAX_SAFE_INTEGER)
  @Means('Exclusive upper seq: the page is the newest messages below it.')
  readonly before?: number;

  @Optional()
  @QueryWholeNumber(0, seqMax)
  @Means('Exclusive lower seq: the page is the oldest messages above it.')
  readonly after?: number;

  @Optional()
  @QueryWholeNumber(1, seqMax)
  @Means('The page has this seq in its middle.')
  readonly around?: number;

  @Optional()
  @Uuid()
  @Means('Only messages of this user. Then a page may have fewer than `limit`, even none: what tells the end is a cursor of null.')
  readonly author?: string;

  @Optional()
  @QueryWholeNumber(1, limits.historyPageMax)
  @Means('So many messages at most. A page ends at 1 MiB too: whether more follow is told by the cursors, not by the number.', {
    default: historyPage,
  })
  readonly limit?: number;
}

export class NewMessageBody {
  @JudgedText(1, limits.contentMaxCharacters)
  @Means('Any Unicode except NUL; a character is a code point.', { example: 'hello' })
  readonly content!: string;

  @Optional()
  @Uuid()
  @Means('Makes the send idempotent: a retry with the same id is answered with the message that the first one stored.')
  readonly client_msg_id?: string | null;
}
