import { closeCodes } from './close-codes.js';
import { commandSchemas } from './commands.js';
import { encodeError } from './encode.js';
import { ClientError, errorCodes, type ErrorCode } from './errors.js';
import { pushSchemas } from './pushes.js';
import { replySchemas, resyncReasons } from './replies.js';
import { endsMembership, roomEventKinds, type RoomEventKind } from './room-event.js';

describe.each(Object.entries(errorCodes))('the error code %s', (code, { status, temporary, meaning }) => {
  it('has a name in snake_case and a meaning that is a sentence', () => {
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(meaning).toMatch(/^[A-Z].+\.$/);
  });

  it('has a status that says the same as its temporary', () => {
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(600);
    expect(temporary).toBe(status >= 500 || status === 429);
  });

  it('reaches the client with its meaning, and with the id of the command', () => {
    expect(JSON.parse(encodeError(new ClientError(code as ErrorCode), 'mine'))).toEqual({
      event: 'error',
      id: 'mine',
      data: { code, temporary, message: meaning },
    });
  });
});

describe.each(Object.entries(closeCodes))('the close code %s', (_, { code, meaning }) => {
  it('has a meaning that is a sentence, and fits into a close frame (RFC 6455, section 5.5: 123 bytes)', () => {
    expect(meaning).toMatch(/^[A-Z].+\.$/);
    expect(Buffer.byteLength(meaning)).toBeLessThanOrEqual(123);
  });

  it('is a standard one, or in the range that tells the client whether to come back', () => {
    const standard = code === 1009 || code === 1012 || code === 1013;
    expect(standard || (code >= 4_400 && code < 4_600)).toBe(true);
    expect(/reconnect|connect again/i.test(meaning)).toBe(code !== 1009 && code < 4_500);
  });
});

it.each(Object.entries({ ...commandSchemas, ...replySchemas, ...pushSchemas }))(
  'the event %s has a name in snake_case and a description of sentences',
  (name, schema) => {
    expect(name).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect((schema as { description?: string }).description).toMatch(/^[A-Z].+[.?]$/);
  },
);

it.each(Object.entries(resyncReasons))('the reason %s of a resync has a meaning that is a sentence', (_, meaning) => {
  expect(meaning).toMatch(/^[A-Zl].+\.$/);
});

it.each(Object.entries(roomEventKinds))('the room event %s has a name in snake_case and a meaning that is a sentence', (kind, meaning) => {
  expect(kind).toMatch(/^[a-z]+(_[a-z]+)*$/);
  expect(meaning).toMatch(/^(The|user_id) .+\.$/);
});

it('a membership ends by going, being sent away and being kept out', () => {
  const kinds = Object.keys(roomEventKinds) as RoomEventKind[];
  expect(kinds.filter(endsMembership)).toEqual(['left', 'kicked', 'banned']);
});

it('no two close codes are the same', () => {
  const codes = Object.values(closeCodes).map(({ code }) => code);
  expect(new Set(codes).size).toBe(codes.length);
});

it('an error carries when to try again and which fields are wrong, where there is something to say', () => {
  const fields = [{ field: 'content', message: 'must not be empty' }];
  const text = encodeError(new ClientError('overloaded', 'Later.', { retryAfterMs: 250, fields, cause: new Error('secret') }));
  expect(JSON.parse(text)).toEqual({
    event: 'error',
    data: { code: 'overloaded', temporary: true, message: 'Later.', retry_after_ms: 250, fields },
  });
});
