/** The schema without room for other fields, in any depth. */
export function closed(schema: object): object {
  return JSON.parse(
    JSON.stringify(schema, (_, part: unknown) =>
      typeof part === 'object' && part !== null && 'properties' in part && 'type' in part ? { ...part, additionalProperties: false } : part,
    ),
  ) as object;
}
