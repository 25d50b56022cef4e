/**
 * What text may be: rules for names, descriptions and secrets. A character is a Unicode code point, as PostgreSQL counts.
 */

/**
 * The form in which names and addresses are compared: NFKC, lower case. Made here and not by a database, so that no locale of a server
 * decides whether two names are the same.
 */
export const comparisonKey = (text: string): string => text.normalize('NFKC').toLowerCase();

/**
 * Why a value is no text of so many characters that PostgreSQL can store, or undefined. The key of a text has to keep the limit too: some
 * characters become eighteen in NFKC, and what is indexed must stay small.
 * @returns a phrase that follows the field's name, such as 'must not contain NUL'
 */
export function textProblem(value: unknown, minCharacters: number, maxCharacters: number): string | undefined {
  if (typeof value !== 'string') return 'must be a string';
  if (value.includes('\0')) return 'must not contain NUL';
  if (!value.isWellFormed()) return 'must not contain a lone surrogate';
  // The first test keeps the counting short: no code point has more than two units.
  const tooLong = value.length > 2 * maxCharacters || characters(value) > maxCharacters || characters(comparisonKey(value)) > maxCharacters;
  if (tooLong || characters(value) < minCharacters) return `must have ${minCharacters} to ${maxCharacters} characters`;
  return undefined;
}

const characters = (text: string): number => Array.from(text).length;
