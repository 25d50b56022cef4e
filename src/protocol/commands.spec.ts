import fc from 'fast-check';
import { commandSchemas, contentProblem, parseCommand, readAnyCommand, RefusedFrame } from './commands.js';
import { ClientError, errorCodes } from './errors.js';
import { limits } from './limits.js';

const room = '01890000-0000-7000-8000-00000000000a';
const key = '0189aaaa-0000-7000-8000-00000000000b';
const frame = (event: unknown, data?: unknown, more: object = {}) => JSON.stringify({ event, data, ...more });
const send = (content: unknown, more: object = {}) => frame('send_message', { room_id: room, content, ...more });

function refusal(text: string): { code: string; message: string; id: unknown } {
  try {
    parseCommand(text);
  } catch (error) {
    if (error instanceof RefusedFrame) return { code: error.error.code, message: error.error.message, id: error.id };
    throw error;
  }
  return { code: 'accepted', message: '', id: undefined };
}

describe('a frame is taken', () => {
  it.each([
    ['auth', frame('auth', { token: 'x' }), { event: 'auth', data: { token: 'x' } }],
    ['join_room', frame('join_room', { room_id: room }), { event: 'join_room', data: { room_id: room } }],
    [
      'join_room with what the client holds',
      frame('join_room', { room_id: room, last_seen_seq: 7, epoch: 'e' }),
      { event: 'join_room', data: { room_id: room, last_seen_seq: 7, epoch: 'e' } },
    ],
    [
      'join_room of a client that holds nothing and says so',
      frame('join_room', { room_id: room, last_seen_seq: null, epoch: null }),
      { event: 'join_room', data: { room_id: room, last_seen_seq: null, epoch: null } },
    ],
    [
      'join_rooms, with its UUIDs in lower case',
      frame('join_rooms', { rooms: [{ room_id: room.toUpperCase(), last_seen_seq: 7 }, { room_id: key }] }),
      { event: 'join_rooms', data: { rooms: [{ room_id: room, last_seen_seq: 7 }, { room_id: key }] } },
    ],
    ['leave_room', frame('leave_room', { room_id: room }), { event: 'leave_room', data: { room_id: room } }],
    ['send_message', send('hello'), { event: 'send_message', data: { room_id: room, content: 'hello' } }],
    ['ping without data', frame('ping'), { event: 'ping', data: {} }],
    ['ping with a number as its id', frame('ping', {}, { id: 0 }), { event: 'ping', data: {}, id: 0 }],
    ['ping with a text as its id', frame('ping', {}, { id: '' }), { event: 'ping', data: {}, id: '' }],
    ['refresh_token', frame('refresh_token', { token: 'x'.repeat(8_192) }), { event: 'refresh_token', data: { token: 'x'.repeat(8_192) } }],
    [
      'one of a newer client, with fields that this contract doesn’t know',
      frame('ping', { new: 1 }, { also: 2 }),
      { event: 'ping', data: { new: 1 } },
    ],
  ])('%s', (_, text, command) => {
    expect(parseCommand(text)).toEqual(command);
  });

  it('with its UUIDs in lower case, so that one room has one name', () => {
    const command = parseCommand(send('X', { room_id: room.toUpperCase(), client_msg_id: key.toUpperCase() }));
    expect(command.data).toEqual({ room_id: room, client_msg_id: key, content: 'X' });
  });

  it('where client_msg_id is null as where it is missing', () => {
    expect(parseCommand(send('x', { client_msg_id: null })).data).toMatchObject({ client_msg_id: null });
  });

  it.each([
    ['one character', 'x'],
    ['65,536 characters of one byte', 'x'.repeat(65_536)],
    ['65,536 characters of four bytes', '💥'.repeat(65_536)],
    ['every kind of character but NUL', '\u0001\t\n"\\\u007f\u2028\ufeff\uffff💥'],
  ])('with %s of content', (_, content) => {
    expect(parseCommand(send(content)).data).toMatchObject({ content });
  });
});

describe('a frame is refused', () => {
  it.each([
    ['empty', '', 'invalid_frame'],
    ['no JSON', '{"event":"ping"', 'invalid_frame'],
    ['two texts', '{"event":"ping"}{"event":"ping"}', 'invalid_frame'],
    ['null', 'null', 'invalid_frame'],
    ['a number', '7', 'invalid_frame'],
    ['a text', '"ping"', 'invalid_frame'],
    ['a list', '[{"event":"ping"}]', 'invalid_frame'],
    ['without an event', '{"data":{}}', 'invalid_frame'],
    ['an event that is no text', frame(7), 'invalid_frame'],
    ['an event that nobody knows', frame('pong'), 'unknown_event'],
    ['an event that every object has', frame('toString'), 'unknown_event'],
    ['an event named __proto__', '{"event":"__proto__"}', 'unknown_event'],
    ['an event in other letters', frame('PING'), 'unknown_event'],
    ['data that is null', frame('ping', null), 'invalid_payload'],
    ['data that is a list', frame('ping', []), 'invalid_payload'],
    ['data that is a text', frame('ping', 'x'), 'invalid_payload'],
    ['an id that is an object', frame('ping', {}, { id: {} }), 'invalid_payload'],
    ['an id that is null', frame('ping', {}, { id: null }), 'invalid_payload'],
    ['an id that is too long', frame('ping', {}, { id: 'x'.repeat(257) }), 'invalid_payload'],
    ['an id that is no number JSON can carry back', '{"event":"ping","id":1e999}', 'invalid_payload'],
    ['a room that is missing', frame('leave_room', {}), 'invalid_payload'],
    ['a room that is no UUID', frame('leave_room', { room_id: 'lobby' }), 'invalid_payload'],
    ['a room that has a line break behind it', frame('leave_room', { room_id: `${room}\n` }), 'invalid_payload'],
    ['a room in a list', frame('leave_room', { room_id: [room] }), 'invalid_payload'],
    ['no rooms to join', frame('join_rooms', { rooms: [] }), 'invalid_payload'],
    ['101 rooms to join', frame('join_rooms', { rooms: Array.from({ length: 101 }, () => ({ room_id: room })) }), 'invalid_payload'],
    ['a room to join twice', frame('join_rooms', { rooms: [{ room_id: room }, { room_id: room.toUpperCase() }] }), 'invalid_payload'],
    ['a room to join that is no UUID', frame('join_rooms', { rooms: [{ room_id: 'lobby' }] }), 'invalid_payload'],
    ['a seq below 0', frame('join_room', { room_id: room, last_seen_seq: -1 }), 'invalid_payload'],
    ['half a seq', frame('join_room', { room_id: room, last_seen_seq: 1.5 }), 'invalid_payload'],
    ['a seq in a text', frame('join_room', { room_id: room, last_seen_seq: '1' }), 'invalid_payload'],
    ['a seq beyond 2^53', frame('join_room', { room_id: room, last_seen_seq: 2 ** 53 }), 'invalid_payload'],
    ['a token that is empty', frame('auth', { token: '' }), 'invalid_payload'],
    ['a token that is too long', frame('auth', { token: 'x'.repeat(8_193) }), 'invalid_payload'],
    ['no content', send(undefined), 'invalid_payload'],
    ['a content that is empty', send(''), 'invalid_payload'],
    ['a content that is a number', send(7), 'invalid_payload'],
    ['a content with NUL', send('a\0b'), 'invalid_payload'],
    [
      'a content with half a surrogate pair',
      `{"event":"send_message","data":{"room_id":"${room}","content":"\\ud83d"}}`,
      'invalid_payload',
    ],
    ['a client_msg_id that is no UUID', send('x', { client_msg_id: '1' }), 'invalid_payload'],
    ['a content of 65,537 characters', send('x'.repeat(65_537)), 'message_too_long'],
    ['a content of 65,537 characters of two units', send('💥'.repeat(65_537)), 'message_too_long'],
  ])('%s', (_, text, code) => {
    expect(refusal(text)).toMatchObject({ code, message: expect.stringMatching(/\.$/) });
  });

  it('with the id that it carried, so that its sender knows which one it was', () => {
    for (const text of [
      frame('pong', {}, { id: 'mine' }),
      frame('leave_room', {}, { id: 'mine' }),
      frame(undefined, {}, { id: 'mine' }),
      send('', {}).replace('{', '{"id":"mine",'),
    ]) {
      expect(refusal(text).id).toBe('mine');
    }
  });

  it('with the name of the field that is wrong', () => {
    expect(refusal(frame('leave_room', {})).message).toBe('room_id: is required.');
    expect(refusal(frame('leave_room', { room_id: 'x' })).message).toBe('room_id: must be a UUID.');
    expect(refusal(send('x', { client_msg_id: 7 })).message).toMatch(/^client_msg_id: /);
  });
});

const anyValue = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(room, key, '', 'x', 0, -1, 1.5, 2 ** 60, null, true, [], {}, '\0', '\ud800'),
);
const names = [...Object.keys(commandSchemas), 'toString', '__proto__', 'constructor', 'nothing'];
const nearlyCommand = fc
  .record(
    {
      event: fc.oneof(fc.constantFrom(...names), anyValue),
      id: anyValue,
      data: fc.oneof(
        fc.record(
          { room_id: anyValue, content: anyValue, client_msg_id: anyValue, token: anyValue, last_seen_seq: anyValue, epoch: anyValue },
          { requiredKeys: [] },
        ),
        anyValue,
      ),
    },
    { requiredKeys: [] },
  )
  .map((value) => JSON.stringify(value));

it.each([
  ['any text', fc.string({ unit: 'binary' })],
  ['any JSON', fc.json()],
  ['what is nearly a command', nearlyCommand],
  [
    'a command that lost or changed a character',
    fc
      .tuple(nearlyCommand, fc.nat(), fc.string({ maxLength: 2 }))
      .map(([text, at, by]) => text.slice(0, at % (text.length + 1)) + by + text.slice((at % (text.length + 1)) + 1)),
  ],
])('of %s comes either a command of the contract or a refusal, never anything else', (_, texts: fc.Arbitrary<string>) => {
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const command = parseCommand(text);
        expect(Object.keys(commandSchemas)).toContain(command.event);
        expect(JSON.stringify(parseCommand(JSON.stringify(command)))).toBe(JSON.stringify(command)); // with an id that goes back as it came
        if (command.event === 'send_message') expect(contentProblem(command.data.content)).toBeUndefined();
      } catch (error) {
        if (!(error instanceof RefusedFrame)) throw error;
        expect(error.error).toBeInstanceOf(ClientError);
        expect(Object.keys(errorCodes)).toContain(error.error.code);
        expect(error.error.temporary).toBe(false);
      }
    }),
    { numRuns: 2_000 },
  );
});

const rawText = fc.oneof(
  { weight: 3, arbitrary: fc.string({ minLength: 1, unit: 'grapheme' }) },
  fc.string({ unit: 'binary' }),
  fc.constantFrom('\\n', '\\u00e9', '"', '\\"', '\t', '\u007f', '\u2028', 'x","content":"y', '\ud83d', '\0', 'x'.repeat(257)),
);
const rawUuid = fc.oneof(
  { weight: 8, arbitrary: fc.constant(room) },
  fc.constantFrom(room.toUpperCase(), `${room}\n`, room.slice(1), 'lobby'),
);
const rawId = fc.oneof(
  fc.constant(''),
  fc
    .oneof(
      fc.nat().map(String),
      fc.constantFrom('0', '00', '-0', '1.0', '1e3', `${2 ** 53 - 1}`, '999999999999999', '9'.repeat(20), '9'.repeat(400)),
    )
    .map((id) => `"id":${id},`),
  rawText.map((id) => `"id":"${id}",`),
);
const nearlyPlainSend = fc
  .tuple(rawId, rawUuid, rawText, fc.option(rawUuid), fc.nat(), fc.option(fc.string({ maxLength: 2 }), { freq: 4 }))
  .map(([id, roomId, content, clientMsgId, at, by]) => {
    const more = clientMsgId === null ? '' : `,"client_msg_id":"${clientMsgId}"`;
    const text = `{"event":"send_message",${id}"data":{"room_id":"${roomId}","content":"${content}"${more}}}`;
    return by === null ? text : text.slice(0, at % text.length) + by + text.slice((at % text.length) + 1);
  });

it('a send that is read in one pass is the one that the schema would have let through, and no other', () => {
  const reading = (read: (text: string) => unknown, text: string): unknown => {
    try {
      return JSON.stringify(read(text));
    } catch (error) {
      if (!(error instanceof RefusedFrame)) throw error;
      const { code, message, details } = error.error;
      return { code, message, details, id: error.id };
    }
  };
  const texts = fc.oneof({ weight: 4, arbitrary: nearlyPlainSend }, fc.constantFrom(send('x'.repeat(65_537)), send('💥'.repeat(40_000))));
  fc.assert(
    fc.property(texts, (text) => {
      expect(reading(parseCommand, text)).toEqual(reading(readAnyCommand, text));
    }),
    { numRuns: 2_000 },
  );
});

it('a nesting as deep as a frame can hold is refused like any other', () => {
  const deep = '['.repeat(limits.frameMaxBytes / 2 - 40) + ']'.repeat(limits.frameMaxBytes / 2 - 40);
  expect(refusal(deep).code).toBe('invalid_frame');
  expect(refusal(`{"event":"leave_room","data":{"room_id":${deep}}}`).code).toBe('invalid_payload');
  expect(refusal(`{"event":"ping","data":{"more":${deep}}}`).code).toBe('accepted');
});

it('a list of rooms as long as a frame can hold is refused for its length, and its items are not looked at', () => {
  const list = `[${Array.from({ length: limits.frameMaxBytes / 2 - 40 }, () => '1').join()}]`;
  expect(refusal(`{"event":"join_rooms","data":{"rooms":${list}}}`).message).toBe('rooms: must not have more than 100 items.');
});

it('the longest content that is allowed fits in a frame, in any script, also with every character escaped', () => {
  for (const content of ['💥', '漢', 'é', '"']) {
    expect(Buffer.byteLength(send(content.repeat(limits.contentMaxCharacters), { client_msg_id: key }))).toBeLessThanOrEqual(
      limits.frameMaxBytes,
    );
  }
  const escaped = `{"id":"${'x'.repeat(256)}","event":"send_message","data":{"room_id":"${room}","client_msg_id":"${key}","content":"${'\\u6f22'.repeat(limits.contentMaxCharacters)}"}}`;
  expect(Buffer.byteLength(escaped)).toBeLessThanOrEqual(limits.frameMaxBytes);
  expect(refusal(escaped).code).toBe('accepted');
});
