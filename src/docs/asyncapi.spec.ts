import { asyncApiJson } from './asyncapi.js';

const document = JSON.parse(asyncApiJson()) as {
  asyncapi: string;
  components: { messages: Record<string, { payload: object }>; schemas: object };
};

const keywordsWithSchemas = ['items', 'properties', 'anyOf', 'oneOf'] as const;

/** The schemas below one, itself with them, with where each is. */
function* schemasBelow(schema: object, at: string): Iterable<[at: string, schema: Record<string, unknown>]> {
  const keywords = schema as Record<string, unknown>;
  if ('$ref' in schema) return;
  yield [at, keywords];
  for (const keyword of keywordsWithSchemas) {
    const value = keywords[keyword] as object | undefined;
    if (keyword === 'items' && value !== undefined) yield* schemasBelow(value, `${at}/items`);
    else for (const [name, part] of Object.entries(value ?? {})) yield* schemasBelow(part as object, `${at}/${keyword}/${name}`);
  }
}

it('is of the version that generators read', () => {
  expect(document.asyncapi).toBe('3.0.0');
});

it('has a title on every schema, each another one, and a type beside every list of words', () => {
  const roots = [
    ...Object.entries(document.components.schemas),
    ...Object.entries(document.components.messages).map(([name, { payload }]) => [`${name}/payload`, payload] as const),
  ];
  const schemas = roots.flatMap(([name, schema]) => [...schemasBelow(schema as object, name)]);
  expect(schemas.length).toBeGreaterThan(100);
  expect(schemas.filter(([, { title }]) => typeof title !== 'string').map(([at]) => at)).toEqual([]);
  const titles = schemas.map(([, { title }]) => title);
  expect(titles.filter((title, n) => titles.indexOf(title) !== n)).toEqual([]);
  expect(schemas.filter(([, schema]) => ('enum' in schema || 'const' in schema) && !('type' in schema)).map(([at]) => at)).toEqual([]);
});
