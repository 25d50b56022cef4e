/**
 * What text may be: rules for names, descriptions and secrets. A character is a Unicode code point, as PostgreSQL counts.
 */
import { formerKey } from './names.js';

/**
 * Why a value is no text of so many characters that PostgreSQL can store, or undefined. In NFKC it has to keep the limit too: some
 * characters become eighteen there, and what is indexed must stay small.
 * @returns a phrase that follows the field's name, such as 'must not contain NUL'
 */
export function textProblem(value: unknown, minCharacters: number, maxCharacters: number): string | undefined {
  if (typeof value !== 'string') return 'must be a string';
  if (value.includes('\0')) return 'must not contain NUL';
  if (!value.isWellFormed()) return 'must not contain a lone surrogate';
  // The first test keeps the counting short: no code point has more than two units.
  const tooLong = value.length > 2 * maxCharacters || characters(value) > maxCharacters || characters(formerKey(value)) > maxCharacters;
  if (tooLong || characters(value) < minCharacters) return `must have ${minCharacters} to ${maxCharacters} characters`;
  return undefined;
}

const characters = (text: string): number => Array.from(text).length;
