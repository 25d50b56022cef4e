import { Controller, Get, Module, Post, Query, UseGuards, Body } from '@nestjs/common';
import { Compile } from 'typebox/compile';
import Type from 'typebox';
import { AuthGuard } from '../auth/auth.guard.js';
import { Operation } from '../rest/operation.js';
import {
  EmailAddress,
  Means,
  OneOf,
  Optional,
  QueryWholeNumber,
  RestValidationPipe,
  Text,
  TrueOrFalse,
  Uuid,
  WholeNumber,
} from '../rest/validation.js';
import { document } from '../../test/support/openapi.js';
import { controllersOf, openApi } from './openapi.js';

const uuid = '0197f0a2-0000-7000-8000-000000000001';

class WordBody {
  @Text(2, 4, { pattern: /^\p{L}+$/u, problem: (text) => (/^\p{L}+$/u.test(text) ? undefined : 'may have letters') })
  @Means('A word.', { example: 'abc' })
  readonly word!: string;

  @EmailAddress(20)
  readonly email!: string;

  @Uuid()
  readonly id!: string;

  @OneOf(['a', 'b'])
  readonly letter!: 'a' | 'b';

  @WholeNumber(1, 9)
  readonly digit!: number;

  @Optional()
  @OneOf(['x'])
  readonly maybe?: 'x' | null;

  @Optional()
  @TrueOrFalse()
  readonly flag?: boolean | null;
}

class PageQuery {
  @Optional()
  @QueryWholeNumber(1, 100)
  @Means('So many.', { default: 50 })
  readonly limit?: number;
}

const thing = Type.Object({ title: Type.String() }, { title: 'Thing' });

@Controller('things')
class ThingsController {
  @Get(':id/parts')
  @UseGuards(AuthGuard)
  @Operation({ summary: 'List', answer: Type.Array(thing), errors: ['room_not_found'] })
  list(@Query() _query: PageQuery): { title: string }[] {
    return [];
  }

  @Post()
  @Operation({ summary: 'Make', answer: thing })
  make(@Body() _body: WordBody): { title: string } {
    return { title: '' };
  }
}

@Module({ controllers: [ThingsController] })
class Inner {}
@Module({ imports: [Inner] })
class Outer {}

const made = JSON.parse(JSON.stringify(openApi(controllersOf(Outer)))) as ReturnType<typeof openApi>;

it('a body is described by the rules that check it', async () => {
  const validator = Compile(made.components.schemas['WordBody'] ?? {});
  const pipe = new RestValidationPipe();
  const good = { word: 'abc', email: 'a@b.example', id: uuid, letter: 'a', digit: 1 };
  const wrong = [
    { word: 'a' },
    { word: 'abcde' },
    { word: 'a1' },
    { word: 1 },
    { email: 'a' },
    { email: `${'a'.repeat(20)}@b.example` },
    { id: 'a' },
    { letter: 'c' },
    { letter: null },
    { digit: 0 },
    { digit: 10 },
    { digit: 1.5 },
    { maybe: 'y' },
    { flag: 'true' },
    { unknown: 1 },
    { word: undefined },
  ];
  const right = [{}, { word: '𝒶𝒶' }, { maybe: null }, { maybe: 'x' }, { flag: null }, { flag: false }, { digit: 9 }];
  for (const [changes, accepted] of [...right.map((one) => [one, true] as const), ...wrong.map((one) => [one, false] as const)]) {
    const body = JSON.parse(JSON.stringify({ ...good, ...changes })) as object;
    const byRules = await pipe.transform(body, { type: 'body', metatype: WordBody }).then(
      () => true,
      () => false,
    );
    expect([changes, byRules, validator.Check(body)]).toEqual([changes, accepted, accepted]);
  }
});

it('a query has its limits, its default and its meaning', () => {
  expect(made.paths['/things/{id}/parts']?.['get']).toMatchObject({
    operationId: 'thingsList',
    security: [{ bearer: [] }, { cookie: [] }],
    parameters: [
      {
        name: 'limit',
        in: 'query',
        required: false,
        description: 'So many.',
        allowEmptyValue: true,
        schema: { type: 'integer', minimum: 1, maximum: 100, default: 50 },
      },
    ],
  });
});

it('a route has the errors of its kind, and its own', () => {
  const statuses = (path: string, method: string) => Object.keys(made.paths[path]?.[method]?.responses ?? {}).map(Number);
  expect(statuses('/things/{id}/parts', 'get')).toEqual([200, 400, 401, 404, 500, 503]);
  expect(statuses('/things', 'post')).toEqual([201, 400, 413, 415, 500]);
  expect(made.components.responses['401.token_expired.unauthenticated']).toMatchObject({
    content: { 'application/problem+json': { schema: { allOf: [{ $ref: '#/components/schemas/Problem' }, {}] } } },
  });
});

it('what has a title is a schema of its own, and may have a field of that name', () => {
  expect(made.components.schemas['Thing']).toEqual({ type: 'object', properties: { title: { type: 'string' } }, required: ['title'] });
});

it('a route without a description is refused, and so are two schemas of one name', () => {
  @Controller()
  class Undescribed {
    @Get()
    get(): void {}
  }
  @Controller()
  class Second {
    @Get()
    @Operation({ summary: 'Get', answer: Type.Object({}, { title: 'Thing' }) })
    get(): object {
      return {};
    }
  }
  expect(() => openApi([Undescribed])).toThrow('Undescribed.get is a route without @Operation');
  expect(() => openApi([ThingsController, Second])).toThrow('two schemas have the name Thing');
});

it('each operation of ours has an id of its own, a line of summary, and the parameters of its path', () => {
  const ids: string[] = [];
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      ids.push(operation.operationId);
      const { summary, parameters = [] } = operation as unknown as { summary: string; parameters?: { name: string; in: string }[] };
      expect(summary).toMatch(/^[^\n]{4,72}[^\n.]$/);
      const inPath = parameters.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
      expect([path, method, inPath.toSorted()]).toEqual([
        path,
        method,
        Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => String(name)).toSorted(),
      ]);
    }
  }
  expect(new Set(ids).size).toBe(ids.length);
});

/** Every schema of a document, with where it is. */
function* schemasIn(part: unknown, at = '#'): Iterable<[at: string, schema: Record<string, unknown>]> {
  if (typeof part !== 'object' || part === null) return;
  if ('type' in part || 'enum' in part || 'const' in part || 'anyOf' in part || 'oneOf' in part) yield [at, part];
  for (const [name, inner] of Object.entries(part)) yield* schemasIn(inner, `${at}/${name}`);
}

it('generators of clients find a type beside every list of words, and no union in a parameter or an answer', () => {
  const schemas = [...schemasIn(document.paths), ...schemasIn(document.components)];
  expect(schemas.length).toBeGreaterThan(100);
  const untyped = schemas.filter(([, schema]) => ('enum' in schema || 'const' in schema) && !('type' in schema));
  expect(untyped.map(([at]) => at)).toEqual([]);
  const isUnion = ({ anyOf, oneOf }: Record<string, unknown>): boolean =>
    ([anyOf, oneOf].flat() as ({ type?: string } | undefined)[]).filter((part) => part !== undefined && part.type !== 'null').length > 1;
  const unions = schemas.filter(([at, schema]) => isUnion(schema) && !at.includes('/requestBody/'));
  expect(unions.map(([at]) => at)).toEqual([]);
});
