import fc from 'fast-check';
import { formerKey } from './names.js';
import { textProblem } from './text.js';

it('counts code points, not the units of UTF-16', () => {
  expect(textProblem('💥'.repeat(64), 1, 64)).toBeUndefined();
  expect(textProblem('💥'.repeat(65), 1, 64)).toBe('must have 1 to 64 characters');
  expect(textProblem('', 1, 64)).toBe('must have 1 to 64 characters');
});

it('refuses what PostgreSQL can not store, what is no text, and what grows beyond the limit in its key', () => {
  expect(textProblem('a\0b', 1, 64)).toBe('must not contain NUL');
  expect(textProblem('\ud800', 1, 64)).toBe('must not contain a lone surrogate');
  expect(textProblem('ﷺ'.repeat(64), 1, 64)).toBe('must have 1 to 64 characters');
  for (const value of [undefined, null, 7, true, {}, ['a']]) expect(textProblem(value, 1, 64)).toBe('must be a string');
});

it('no text that is accepted has a key of more characters than the limit', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 20 }), (text) => {
      if (textProblem(text, 1, 10) === undefined) expect(Array.from(formerKey(text)).length).toBeLessThanOrEqual(10);
    }),
  );
});
