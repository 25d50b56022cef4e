import pg from 'pg';
import { ClientError } from '../protocol/errors.js';
import { classify, DatabaseAway, isUniqueViolation, NoAnswer, toClientError } from './sql-error.js';

const sqlError = (code: string) => Object.assign(new pg.DatabaseError('as the server says', 1, 'error'), { code });

it.each([
  ['23505', 'a unique violation', 'refused'],
  ['23514', 'a check violation', 'refused'],
  ['22021', 'a character that can’t be stored', 'refused'],
  ['22P02', 'a text that is no UUID', 'refused'],
  ['42P01', 'a missing table', 'refused'],
  ['P0001', 'RAISE EXCEPTION', 'refused'],
  ['XX000', 'an internal error', 'refused'],
  ['40001', 'a serialisation failure', 'contended'],
  ['40P01', 'a deadlock', 'contended'],
  ['55P03', 'a lock that was not to be had in time', 'contended'],
  ['57014', 'a statement that took too long', 'contended'],
  ['08006', 'a lost connection', 'unavailable'],
  ['57P01', 'a server that goes down', 'unavailable'],
  ['57P03', 'a server that starts', 'unavailable'],
  ['53100', 'a full disk', 'unavailable'],
  ['53300', 'too many connections', 'unavailable'],
  ['25006', 'a server that only reads', 'unavailable'],
  ['28P01', 'a changed password', 'unavailable'],
  ['ZZ999', 'something that nobody knows yet', 'unavailable'],
])('%s, %s, is %s', (code, _, meaning) => {
  expect(classify(sqlError(code))).toBe(meaning);
});

it('what the connections call away is unavailable; an error without SQLSTATE is a bug, and its words are not hidden', () => {
  for (const error of [new DatabaseAway('no connection'), new NoAnswer('none within 7 s'), new ClientError('unavailable')]) {
    expect(classify(error)).toBe('unavailable');
  }
  for (const error of [new TypeError('of ours'), new RangeError('Invalid time value'), new ClientError('conflict'), undefined, 'text']) {
    expect(classify(error)).toBe('internal');
    expect(toClientError(error)).toBe(error);
  }
});

it('a client is told of a failure that may pass, and of nothing else', () => {
  for (const code of ['40001', '55P03', '57P01']) {
    const cause = sqlError(code);
    expect(toClientError(cause)).toMatchObject({
      code: 'unavailable',
      temporary: true,
      cause,
      details: { retryAfterMs: expect.any(Number) },
    });
  }
  const bug = sqlError('42601');
  expect(toClientError(bug)).toBe(bug);
  const told = new ClientError('conflict');
  expect(toClientError(told)).toBe(told);
});

it('a unique violation is told from every other error', () => {
  expect(isUniqueViolation(sqlError('23505'))).toBe(true);
  for (const error of [sqlError('23503'), Object.assign(new Error('like one'), { code: '23505' }), undefined])
    expect(isUniqueViolation(error)).toBe(false);
});
