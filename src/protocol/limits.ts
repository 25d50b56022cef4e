/** Limits of the wire contract. Not settings: clients are written against them. */
export const limits = {
  contentMaxCharacters: 65_536,
  /** A message of 65,536 characters fits in any script, also with every character escaped (12 bytes for one above U+FFFF). */
  frameMaxBytes: 1_048_576,
  /** Of a REST request, escapes in its JSON not counted; as it is sent, no more than a frame. */
  bodyMaxBytes: 524_288,
  authDeadlineMs: 5_000,
  historyPageMax: 100,
  /** Sends of one socket that may wait for their commit; above it the node stops reading that socket. */
  unansweredSendsMax: 256,
  /** Frames in a row that are no commands before the socket is closed. */
  badFramesMax: 100,
  roomsPerSocketMax: 1_000,
  /** Members online whom a room's sockets are told of by name, each as it comes and goes; of more they are told the number only. */
  onlineListMax: 100,
  /** Members typing in one room who are shown at a time. */
  typingUsersMax: 20,
  /** A typing_start that repeats the one before within this time is taken and not passed on. */
  typingRepeatMs: 2_000,
  /** Typing ends so long after the last typing_start that was passed on. */
  typingExpiryMs: 6_000,
} as const;
