type Keywords = Readonly<Record<string, unknown>>;

/** JSON Schema needs no `type` beside an `enum` or a `const` of strings, but generators of clients do. */
export function typedWords(schema: object): Keywords {
  const keywords = schema as Keywords;
  const { type, enum: words, const: word } = keywords;
  const values = Array.isArray(words) ? (words as unknown[]) : [word];
  return type !== undefined || !values.every((value) => typeof value === 'string') ? keywords : { type: 'string', ...keywords };
}
