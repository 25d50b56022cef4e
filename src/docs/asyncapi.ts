/** The AsyncAPI document of the socket, made from the schemas and codes in src/protocol; it says nothing of its own about a command or an event. */
import { stringify } from 'yaml';
import { closeCodes } from '../protocol/close-codes.js';
import { commandSchemas, type CommandName } from '../protocol/commands.js';
import { errorCodes } from '../protocol/errors.js';
import { limitMeanings, wireLimits } from '../protocol/limits.js';
import { messageSchema } from '../protocol/message.js';
import { pushSchemas } from '../protocol/pushes.js';
import { repliesTo, replySchemas } from '../protocol/replies.js';
import { roomEventKinds, roomEventSchema } from '../protocol/room-event.js';
import { contractVersions } from '../protocol/versions.js';
import { typedWords } from './typed-words.js';

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };
type Fields = Record<string, Json>;

const id = {
  title: 'CommandId',
  description: 'The client’s own name for a command; every reply to it, and the error in its place, carries the same.',
  oneOf: [{ type: 'string', maxLength: 256 }, { type: 'number' }],
};
/** Schemas that stand once, and are referred to from wherever they are part of another. */
const shared = new Map<object, string>([
  [messageSchema, 'message'],
  [roomEventSchema, 'room_event'],
]);

const pascal = (name: string): string => name.replaceAll(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, first: string) => first.toUpperCase());

/**
 * A schema as it stands in the document. Each one has a title, because generators name their types by it.
 * @param title of the schema, from which those of its parts are made
 */
function schemaJson(schema: object, title: string): Json {
  const { properties, items, anyOf, oneOf, ...keywords } = typedWords(schema);
  const within = (part: object, name: string): Json => sharedOr(part, title + pascal(name));
  const all = (parts: unknown): Json => (parts as object[]).map((part, n) => within(part, `_${n + 1}`));
  return {
    title,
    ...(JSON.parse(JSON.stringify(keywords)) as Fields),
    ...(properties !== undefined && { properties: mapped(properties as Record<string, object>, within) }),
    ...(items !== undefined && { items: within(items as object, 'item') }),
    ...(anyOf !== undefined && { anyOf: all(anyOf) }),
    ...(oneOf !== undefined && { oneOf: all(oneOf) }),
  };
}

function sharedOr(schema: object, title: string): Json {
  const name = shared.get(schema);
  return name === undefined ? schemaJson(schema, title) : ref(`components/schemas/${name}`);
}

const sentenceOf = (schema: object) => (schema as { description?: string }).description;
const ref = (path: string) => ({ $ref: `#/${path}` });
const mapped = <T>(entries: Readonly<Record<string, T>>, to: (value: T, name: string) => Json): Fields =>
  Object.fromEntries(Object.entries(entries).map(([name, value]) => [name, to(value, name)]));

function message(schema: object, event: string, withId: boolean): Json {
  const mayLackData = event in commandSchemas && !('required' in schema);
  return {
    name: event,
    title: event,
    summary: sentenceOf(schema),
    contentType: 'application/json',
    ...(withId && { correlationId: ref('components/correlationIds/command') }),
    payload: {
      title: `${pascal(event)}Frame`,
      type: 'object',
      required: ['event', ...(mayLackData ? [] : ['data'])],
      properties: {
        event: { title: `${pascal(event)}Event`, type: 'string', const: event },
        ...(withId && { id: ref('components/schemas/id') }),
        data: sharedOr(schema, `${pascal(event)}Data`),
      },
    },
  };
}

const channelMessages = (channel: string, names: readonly string[]) => names.map((name) => ref(`channels/${channel}/messages/${name}`));

function commandOperation(name: CommandName): Json {
  return {
    action: 'receive',
    channel: ref('channels/socket'),
    summary: sentenceOf(commandSchemas[name]),
    messages: channelMessages('socket', [name]),
    reply: { channel: ref('channels/socket'), messages: channelMessages('socket', [...repliesTo[name], 'error']) },
  };
}

/** What comes without a command: all pushes, and the replies that have no command to answer. */
function pushOperation(name: string, schema: object): Json {
  return { action: 'send', channel: ref('channels/socket'), summary: sentenceOf(schema), messages: channelMessages('socket', [name]) };
}

const introduction = `Frames are JSON texts {event, data} both ways. A command may have an id, and what answers it carries the same; what comes unasked has none.
Ignore fields, events and kinds that you do not know: they may be added without a new major version. docs/protocol.md is the guide.
The lists x-room-event-kinds, x-error-codes, x-close-codes and x-limits have what the schemas can not say.`;

const inHandshake = 'The handshake is refused with 401 where it is not valid.';

function asyncApi(): Json {
  const messages = {
    ...mapped(commandSchemas, (schema, event) => message(schema, event, true)),
    ...mapped(replySchemas, (schema, event) => message(schema, event, true)),
    ...mapped(pushSchemas, (schema, event) => message(schema, event, false)),
  };
  const ofChannel = mapped(messages, (_, event) => ref(`components/messages/${event}`));
  return {
    // Not 3.1.0: generators of today make empty models of it, without a word.
    asyncapi: '3.0.0',
    info: {
      title: 'Trunkline, the socket',
      version: contractVersions[0].version,
      description: introduction,
      license: { name: 'MIT' },
    },
    defaultContentType: 'application/json',
    servers: {
      node: {
        host: 'localhost:3000',
        protocol: 'ws',
        description:
          'Any node; wss behind a proxy that ends TLS. The handshake may also have no credentials: then the first frame is auth, within limits.auth_deadline_ms. That is the preferred way.',
        security: ['bearer', 'cookie', 'token'].map((scheme) => ref(`components/securitySchemes/${scheme}`)),
      },
    },
    channels: {
      socket: { address: '/ws', servers: [ref('servers/node')], messages: ofChannel },
      room_socket: {
        address: '/ws/{room_id}',
        description: 'The same, and as if a join_room without last_seen_seq for that room came first, right after hello.',
        servers: [ref('servers/node')],
        parameters: { room_id: { description: 'id of the room' } },
        messages: ofChannel,
      },
    },
    operations: {
      ...mapped(commandSchemas, (_, name) => commandOperation(name as CommandName)),
      ...mapped({ ...pushSchemas, hello: replySchemas.hello, resync: replySchemas.resync, error: replySchemas.error }, (schema, name) =>
        pushOperation(name, schema),
      ),
      join_by_address: {
        action: 'send',
        channel: ref('channels/room_socket'),
        summary: 'What comes first on this address: hello, then joined_room, or the error that says why not.',
        messages: channelMessages('room_socket', ['hello', 'joined_room', 'error']),
      },
    },
    components: {
      messages,
      schemas: {
        id: schemaJson(id, id.title),
        ...Object.fromEntries([...shared].map(([schema, name]) => [name, schemaJson(schema, pascal(name))])),
      },
      correlationIds: { command: { location: '$message.payload#/id', description: 'Where the command had one.' } },
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description: `An access token in the header Authorization. ${inHandshake}`,
        },
        cookie: {
          type: 'httpApiKey',
          in: 'cookie',
          name: 'trunkline_access',
          description: `For browsers; taken from pages of an allowed origin only. ${inHandshake}`,
        },
        token: {
          type: 'httpApiKey',
          in: 'query',
          name: 'token',
          description: `An access token in the address, for load tests and the simplest of clients. ${inHandshake}`,
        },
      },
    },
    'x-room-event-kinds': roomEventKinds,
    'x-error-codes': mapped(errorCodes, ({ temporary, meaning }) => ({ temporary, meaning })),
    'x-close-codes': Object.values(closeCodes)
      .toSorted((a, b) => a.code - b.code)
      .map(({ code, meaning }) => ({ code, meaning })),
    'x-limits': mapped(wireLimits, (value, name) => ({ value, meaning: limitMeanings[name as keyof typeof limitMeanings] })),
  };
}

export const asyncApiYaml = (): string => stringify(asyncApi(), { lineWidth: 0, aliasDuplicateObjects: false });

export const asyncApiJson = (): string => JSON.stringify(asyncApi());
