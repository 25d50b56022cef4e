/** Limits of the wire contract. Not settings: clients are written against them. `hello` has all of them. */
const table = {
  contentMaxCharacters: [65_536, 'characters (Unicode code points) of a message'],
  // A message of 65,536 characters fits in any script, also with every character escaped (12 bytes for one above U+FFFF).
  frameMaxBytes: [1_048_576, 'bytes of a frame from the client'],
  bodyMaxBytes: [524_288, 'bytes of the body of a REST request, escapes in its JSON not counted; as it is sent, no more than a frame'],
  authDeadlineMs: [5_000, 'time from opening the socket to valid credentials'],
  historyPageMax: [100, 'messages of a page of history over REST'],
  unansweredSendsMax: [256, 'sends of one socket that may wait for their commit; above it the node stops reading that socket'],
  badFramesMax: [100, 'frames in a row that are no commands, before the socket is closed'],
  roomsPerSocketMax: [1_000, 'rooms that one socket may follow; a node may be set to another number, which its hello has'],
  joinRoomsMax: [100, 'rooms in one join_rooms'],
  onlineListMax: [
    100,
    'members online whom a room’s sockets are told of by name, each as it comes and goes; of more they are told the number only',
  ],
  typingUsersMax: [20, 'members typing in one room who are shown at a time'],
  typingRepeatMs: [2_000, 'a typing_start that repeats the one before within this time is taken and not passed on'],
  typingExpiryMs: [6_000, 'typing ends so long after the last typing_start that was passed on'],
} as const satisfies Record<string, readonly [value: number, meaning: string]>;

type Limit = keyof typeof table;
type SnakeCase<S extends string> = S extends `${infer Head}${infer Tail}`
  ? Head extends Lowercase<Head>
    ? `${Head}${SnakeCase<Tail>}`
    : `_${Lowercase<Head>}${SnakeCase<Tail>}`
  : S;
type WireLimit = SnakeCase<Limit>;

const entries = Object.entries(table).map(([name, [value, meaning]]) => ({
  name,
  wireName: name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  value,
  meaning,
}));

export const limits = Object.fromEntries(entries.map(({ name, value }) => [name, value])) as {
  readonly [Name in Limit]: (typeof table)[Name][0];
};
/** As `hello` has them. */
export const wireLimits = Object.fromEntries(entries.map(({ wireName, value }) => [wireName, value])) as {
  readonly [Name in WireLimit]: number;
};
export const limitMeanings = Object.fromEntries(entries.map(({ wireName, meaning }) => [wireName, meaning])) as {
  readonly [Name in WireLimit]: string;
};
