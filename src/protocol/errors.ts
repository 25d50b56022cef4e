/**
 * Every error that a client can receive, each with the sentence for the client's author and, where the same request may succeed later, `temporary`.
 * The one list for both REST (problem documents) and the socket (`error` frames).
 */
export const errorCodes = {
  unauthenticated: { status: 401, temporary: false, meaning: 'There are no credentials, or they are not valid.' },
  token_expired: { status: 401, temporary: false, meaning: 'The access token has expired: refresh it and try again.' },
  forbidden: { status: 403, temporary: false, meaning: 'You are known, and may not do this.' },
  not_a_member: { status: 403, temporary: false, meaning: 'Only members of the room may do this: join it first.' },
  room_not_found: { status: 404, temporary: false, meaning: 'There is no such room, or it is hidden from you.' },
  not_found: { status: 404, temporary: false, meaning: 'There is nothing at this address.' },
  conflict: {
    status: 409,
    temporary: false,
    meaning: 'It exists already: the name or email is taken, or the client_msg_id was used with another content.',
  },
  invalid_frame: { status: 400, temporary: false, meaning: 'The frame is not a JSON text object with an event.' },
  unknown_event: { status: 400, temporary: false, meaning: 'There is no command of this name.' },
  invalid_payload: {
    status: 400,
    temporary: false,
    meaning: 'A field is missing, unknown or not allowed; the message says which, and why.',
  },
  message_too_long: {
    status: 413,
    temporary: false,
    meaning: 'The content has more than 65,536 characters, or a REST body more than 512 KiB.',
  },
  rate_limited: { status: 429, temporary: true, meaning: 'Too many requests: wait retry_after_ms.' },
  overloaded: {
    status: 503,
    temporary: true,
    meaning: 'The node has more waiting than it may hold; nothing was stored: send again after retry_after_ms.',
  },
  unavailable: {
    status: 503,
    temporary: true,
    meaning: 'The database is away. The command may have taken effect: repeat a send with the same client_msg_id to learn it.',
  },
  internal: { status: 500, temporary: true, meaning: 'A bug on our side; the request id finds it in the log.' },
} as const satisfies Record<string, { status: number; temporary: boolean; meaning: string }>;

export type ErrorCode = keyof typeof errorCodes;

export interface FieldError {
  field: string;
  message: string;
}

/** What goes wrong for a client. Thrown anywhere, turned into a problem document or an `error` frame in one place each. */
export class ClientError extends Error {
  readonly temporary: boolean;

  /** @param fields one entry for each bad field of the input. */
  constructor(
    readonly code: ErrorCode,
    message: string = errorCodes[code].meaning,
    readonly details: { readonly retryAfterMs?: number; readonly fields?: readonly FieldError[]; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
    this.temporary = errorCodes[code].temporary;
  }
}
