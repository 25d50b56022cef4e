/**
 * What a client may send: each command's schema, from which its type, its check and its documentation come. A frame is parsed once, here,
 * and what the rest of the node sees is valid.
 */
import Type, { type Static, type TObject } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { ClientError } from './errors.js';
import { limits } from './limits.js';

const uuid = (description: string) =>
  Type.String({ pattern: '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$', description });
const roomId = uuid('id of the room');
const token = Type.String({ minLength: 1, maxLength: 8_192, description: 'an access token' });
const seqOrNull = Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], {
  description: 'the highest seq that the client holds of the room',
});

const joinFields = {
  room_id: roomId,
  last_seen_seq: Type.Optional(seqOrNull),
  epoch: Type.Optional(Type.Union([Type.String({ maxLength: 64 }), Type.Null()], { description: 'the epoch that came with it' })),
};

export const commandSchemas = {
  auth: Type.Object(
    { token },
    {
      description:
        'Says who you are: the first frame. It wins over a cookie that the browser added, and may be sent again for the same user.',
    },
  ),
  join_room: Type.Object(joinFields, { description: 'Begins the stream of a room; with last_seen_seq, after what the client holds.' }),
  join_rooms: Type.Object(
    {
      rooms: Type.Array(Type.Object(joinFields), {
        minItems: 1,
        maxItems: limits.joinRoomsMax,
        description: 'each as in join_room; no room twice',
      }),
    },
    {
      description:
        'As a join_room for each of the rooms, at the cost of about one. Each is answered by itself, in any order, with the id of this command; one that is refused does not stop the others.',
    },
  ),
  leave_room: Type.Object({ room_id: roomId }, { description: 'Ends the stream of a room, not the membership.' }),
  send_message: Type.Object(
    {
      room_id: roomId,
      content: Type.String({ description: '1 to 65,536 characters, any Unicode except NUL' }),
      client_msg_id: Type.Optional(
        Type.Union([uuid('makes the send idempotent: a retry with the same id is answered with the first one’s seq'), Type.Null()]),
      ),
    },
    { description: 'Stores a message and delivers it to all who follow the room, you too.' },
  ),
  typing_start: Type.Object(
    { room_id: roomId },
    { description: 'You type in a room that this connection follows; repeat it while you do.' },
  ),
  typing_stop: Type.Object({ room_id: roomId }, { description: 'You don’t type any more; a message says the same.' }),
  refresh_token: Type.Object(
    { token },
    { description: 'Lengthens the life of the connection to that of a new access token of the same user.' },
  ),
  ping: Type.Object({}, { description: 'Is anybody there? Also before authentication.' }),
} as const satisfies Record<string, TObject>;

export type CommandName = keyof typeof commandSchemas;
/** The client's own name for a command; every reply to it carries the same. */
export type CommandId = string | number;
type CommandOf<Name extends CommandName> = { event: Name; data: Static<(typeof commandSchemas)[Name]>; id?: CommandId };
export type Command = { [Name in CommandName]: CommandOf<Name> }[CommandName];

const validators = new Map<string, Validator>(Object.entries(commandSchemas).map(([name, schema]) => [name, Compile(schema)]));

/** A frame that is refused, with the id it carried, so that the error can say which command it answers. */
export class RefusedFrame extends Error {
  constructor(
    readonly error: ClientError,
    readonly id?: CommandId,
  ) {
    super(error.message);
  }
}

const plainUuid = '([\\da-f]{8}-[\\da-f]{4}-[\\da-f]{4}-[\\da-f]{4}-[\\da-f]{12})';
/** What JSON lets stand for itself in a string: all but the controls, the quote and the backslash. */
const plainCharacter = '[ !#-[\\]-\\uffff]';
/** A send_message as most clients write it: no blanks, the fields in this order, UUIDs in lower case, nothing escaped. */
const plainSend = new RegExp(
  `^\\{"event":"send_message",(?:"id":(?:(0|[1-9]\\d{0,14})|"(${plainCharacter}{0,256})"),)?` +
    `"data":\\{"room_id":"${plainUuid}","content":"(${plainCharacter}+)"(?:,"client_msg_id":"${plainUuid}")?\\}\\}$`,
);

/**
 * Reads one text frame. Fields that the contract doesn't know are ignored, so that newer clients can talk to older nodes.
 * UUIDs come out in lower case.
 * @throws RefusedFrame with invalid_frame, unknown_event, invalid_payload or message_too_long
 */
export function parseCommand(text: string): Command {
  return readPlainSend(text) ?? readAnyCommand(text);
}

/** What nearly every frame is, in one pass and a third of the time. Undefined where that one has to say what it is. */
function readPlainSend(text: string): Command | undefined {
  const match = plainSend.exec(text);
  if (match === null) return undefined;
  const [, number, name, room_id = '', content = '', client_msg_id] = match;
  if (content.length > limits.contentMaxCharacters || !content.isWellFormed()) return undefined;
  const data = client_msg_id === undefined ? { room_id, content } : { room_id, content, client_msg_id };
  const id = number === undefined ? name : Number(number);
  return id === undefined ? { event: 'send_message', data } : { event: 'send_message', data, id };
}

/** `parseCommand` without its short cut, which must say the same of every text. */
export function readAnyCommand(text: string): Command {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    throw new RefusedFrame(new ClientError('invalid_frame', 'The frame is not JSON.'));
  }
  if (typeof frame !== 'object' || frame === null || Array.isArray(frame)) {
    throw new RefusedFrame(new ClientError('invalid_frame', 'The frame must be a JSON object {event, data}.'));
  }
  const { event, data = {}, id } = frame as { event?: unknown; data?: unknown; id?: unknown };
  const given = (typeof id === 'number' && Number.isFinite(id)) || (typeof id === 'string' && id.length <= 256);
  if (id !== undefined && !given)
    throw new RefusedFrame(new ClientError('invalid_payload', 'id: must be a number or a string of at most 256 characters.'));
  const commandId = given ? id : undefined;
  if (typeof event !== 'string') throw new RefusedFrame(new ClientError('invalid_frame', 'The frame has no event.'), commandId);
  const validator = validators.get(event);
  if (validator === undefined)
    throw new RefusedFrame(new ClientError('unknown_event', `There is no command ${JSON.stringify(event.slice(0, 64))}.`), commandId);
  if (event === 'join_rooms' && isLongList((data as { rooms?: unknown } | null)?.rooms)) {
    throw new RefusedFrame(invalidField('rooms', `must not have more than ${limits.joinRoomsMax} items`), commandId);
  }
  if (!validator.Check(data)) throw new RefusedFrame(invalidPayload(validator, data), commandId);

  const command = { event, data, ...(given && { id: commandId }) } as Command;
  // Asked of the schema too: where the command has no such field, an unknown one of that name may be anything.
  if ('room_id' in commandSchemas[command.event].properties && 'room_id' in command.data)
    command.data.room_id = command.data.room_id.toLowerCase();
  if (command.event === 'join_rooms') {
    const ids = new Set<string>();
    for (const [n, room] of command.data.rooms.entries()) {
      room.room_id = room.room_id.toLowerCase();
      if (ids.has(room.room_id)) throw new RefusedFrame(invalidField(`rooms.${n}.room_id`, 'stands there twice'), commandId);
      ids.add(room.room_id);
    }
  }
  if (command.event === 'send_message') {
    const problem = contentProblem(command.data.content);
    if (problem !== undefined) throw new RefusedFrame(problem, commandId);
    if (command.data.client_msg_id) command.data.client_msg_id = command.data.client_msg_id.toLowerCase();
  }
  return command;
}

/** Why a content can't be stored, or undefined. A character is a Unicode code point, as PostgreSQL counts. */
export function contentProblem(content: string): ClientError | undefined {
  if (content.length === 0) return new ClientError('invalid_payload', 'content: must have at least 1 character.');
  if (content.length > limits.contentMaxCharacters && characters(content) > limits.contentMaxCharacters) {
    return new ClientError('message_too_long', `content: must have at most ${limits.contentMaxCharacters} characters.`);
  }
  if (content.includes('\0')) return new ClientError('invalid_payload', 'content: must not contain NUL.');
  if (!content.isWellFormed()) return new ClientError('invalid_payload', 'content: must not contain a lone surrogate.');
  return undefined;
}

function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Asked before the schema, which would name what is wrong with each item: with those that a frame can hold, for a second. */
const isLongList = (rooms: unknown): boolean => Array.isArray(rooms) && rooms.length > limits.joinRoomsMax;

const invalidField = (field: string, message: string): ClientError =>
  new ClientError('invalid_payload', `${field}: ${message}.`, { fields: [{ field, message }] });

function invalidPayload(validator: Validator, data: unknown): ClientError {
  const fields = validator.Errors(data).map(({ instancePath, message, keyword, params }) => {
    const missing = keyword === 'required' ? params.requiredProperties[0] : undefined;
    return {
      field: missing ?? (instancePath.slice(1).replaceAll('/', '.') || 'data'),
      message: missing ? 'is required' : keyword === 'pattern' ? 'must be a UUID' : message,
    };
  });
  const first = fields[0] ?? { field: 'data', message: 'is not valid' };
  return new ClientError('invalid_payload', `${first.field}: ${first.message}.`, { fields });
}
