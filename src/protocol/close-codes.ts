/**
 * Every code with which a node closes a socket. From 4000 to 4499 the client reconnects and resumes; from 4500 on it does not. The standard
 * codes (RFC 6455, section 7.4) mean reconnect, except 1009.
 */
export const closeCodes = {
  serviceRestart: { code: 1012, meaning: 'This node is going away: reconnect and resume, to any node.' },
  tooBig: { code: 1009, meaning: 'A frame of more than 1 MiB: do not send it again.' },
  tryAgainLater: { code: 1013, meaning: 'The node has as many sockets as it may: reconnect with back-off.' },
  badFrames: { code: 4400, meaning: 'Too many frames that are no commands: mend the client, reconnect.' },
  tokenExpired: { code: 4401, meaning: 'The access token has expired: refresh it, reconnect and resume.' },
  authTimeout: { code: 4408, meaning: 'No valid credentials within 5 seconds: connect again and authenticate at once.' },
  slowConsumer: { code: 4409, meaning: 'The socket took nothing for too long: reconnect and resume.' },
  rateLimited: { code: 4429, meaning: 'You have too many sockets on this node: close some, then reconnect with back-off.' },
  sessionRevoked: { code: 4501, meaning: 'The session was ended: log in again.' },
} as const satisfies Record<string, { code: number; meaning: string }>;

export type CloseReason = keyof typeof closeCodes;
