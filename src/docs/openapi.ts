/**
 * The OpenAPI document, made of what the routes are made of: Nest's decorators, the rules of the bodies and queries, the schemas of the answers, the
 * error codes. Nothing here knows a route by name.
 */
import { readFileSync } from 'node:fs';
import { RequestMethod, type DynamicModule, type Type } from '@nestjs/common';
import { GUARDS_METADATA, HTTP_CODE_METADATA, METHOD_METADATA, PATH_METADATA, ROUTE_ARGS_METADATA } from '@nestjs/common/constants.js';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum.js';
import type { TSchema } from 'typebox';
import { AuthGuard, securitySchemes } from '../auth/auth.guard.js';
import { errorCodes, type ErrorCode } from '../protocol/errors.js';
import { fieldsOf, type Dto, type Field, type Keywords } from '../rest/fields.js';
import { descriptionOf, type Description } from '../rest/operation.js';
import { problemSchema } from '../rest/problem.filter.js';
import { typedWords } from './typed-words.js';

export interface OpenApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
  readonly components: Readonly<Record<'schemas' | 'responses' | 'securitySchemes', Readonly<Record<string, object>>>>;
  readonly [member: string]: unknown;
}

export interface OpenApiOperation {
  readonly operationId: string;
  readonly responses: Readonly<Record<string, object>>;
  readonly [member: string]: unknown;
}

/** @throws Error where a route has no `@Operation`, or two schemas the same name */
export function openApi(controllers: readonly Type[]): OpenApiDocument {
  const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Record<
    string,
    string
  >;
  const components = new Components();
  const paths: Record<string, Record<string, OpenApiOperation>> = {};
  for (const controller of controllers) {
    for (const route of routesOf(controller)) (paths[route.path] ??= {})[route.method] = operation(route, components);
  }
  return {
    openapi: '3.1.1',
    info: { title: 'Trunkline', version, description, license: { name: 'MIT', identifier: 'MIT' } },
    servers: [{ url: '/' }],
    tags: controllers.map((controller) => ({ name: tagOf(controller) })),
    paths,
    components: { schemas: components.schemas, responses: components.responses, securitySchemes },
  };
}

/** The controllers of a module and of those that it imports. */
export function controllersOf(module: Type | DynamicModule): Type[] {
  const { module: type, ...dynamic } = 'module' in module ? module : { module };
  const listed = <T>(key: 'imports' | 'controllers'): T[] => [
    ...((Reflect.getMetadata(key, type) ?? []) as T[]),
    ...(((dynamic as Record<string, unknown>)[key] as T[] | undefined) ?? []),
  ];
  const imported = listed<Type | DynamicModule>('imports').flatMap(controllersOf);
  return [...new Set([...imported, ...listed<Type>('controllers')])];
}

interface Route {
  /** As OpenAPI writes it: /rooms/{id}. */
  readonly path: string;
  readonly method: string;
  readonly tag: string;
  readonly operationId: string;
  readonly status: number;
  readonly isGuarded: boolean;
  readonly body: Dto | undefined;
  readonly query: Dto | undefined;
  readonly params: Dto | undefined;
  readonly description: Description;
}

const tagOf = (controller: Type): string => controller.name.replace(/Controller$/, '').toLowerCase();

function* routesOf(controller: Type): Iterable<Route> {
  const prototype = controller.prototype as Record<string, unknown>;
  for (const name of Object.getOwnPropertyNames(prototype)) {
    const handler = prototype[name];
    if (typeof handler !== 'function' || !Reflect.hasMetadata(METHOD_METADATA, handler)) continue;
    const description = descriptionOf(handler);
    if (description === undefined) throw new Error(`${controller.name}.${name} is a route without @Operation`);
    const method = RequestMethod[Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod];
    const guards = [controller, handler].flatMap((guarded) => (Reflect.getMetadata(GUARDS_METADATA, guarded) ?? []) as unknown[]);
    const tag = tagOf(controller);
    yield {
      path: joined(Reflect.getMetadata(PATH_METADATA, controller) as string, Reflect.getMetadata(PATH_METADATA, handler) as string),
      method: method.toLowerCase(),
      tag,
      operationId: tag + name[0]?.toUpperCase() + name.slice(1),
      status: (Reflect.getMetadata(HTTP_CODE_METADATA, handler) as number | undefined) ?? (method === 'POST' ? 201 : 200),
      isGuarded: guards.includes(AuthGuard),
      ...inputsOf(controller, name),
      description,
    };
  }
}

const joined = (...parts: string[]): string =>
  `/${parts
    .flatMap((part) => part.split('/'))
    .filter((segment) => segment !== '')
    .map((segment) => segment.replace(/^:(.*)$/, '{$1}'))
    .join('/')}`;

/** The classes of the parameters with @Body, @Query and @Param. */
function inputsOf(controller: Type, name: string): Pick<Route, 'body' | 'query' | 'params'> {
  const types = Reflect.getMetadata('design:paramtypes', controller.prototype as object, name) as Dto[];
  const args = (Reflect.getMetadata(ROUTE_ARGS_METADATA, controller, name) ?? {}) as Record<string, { index: number }>;
  const typeOf = (kind: RouteParamtypes): Dto | undefined => {
    const [, argument] = Object.entries(args).find(([key]) => key.startsWith(`${kind}:`)) ?? [];
    return argument && types[argument.index];
  };
  return { body: typeOf(RouteParamtypes.BODY), query: typeOf(RouteParamtypes.QUERY), params: typeOf(RouteParamtypes.PARAM) };
}

function operation(route: Route, components: Components): OpenApiOperation {
  const { tag, operationId, isGuarded, body, query, params, description } = route;
  const parameters = [...(params ? parametersIn('path', params) : []), ...(query ? parametersIn('query', query) : [])];
  return {
    operationId,
    tags: [tag],
    summary: description.summary,
    ...(description.description !== undefined && { description: description.description }),
    security: isGuarded ? Object.keys(securitySchemes).map((scheme) => ({ [scheme]: [] })) : [],
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: requestBody(body, components) }),
    responses: responses(route, components),
  };
}

function parametersIn(place: 'path' | 'query', dto: Dto): object[] {
  return Array.from(fieldsOf(dto), ([name, { keywords, isOptional }]) => {
    const { description, examples, allowEmptyValue, ...schema } = keywords;
    const [example] = Array.isArray(examples) ? (examples as unknown[]) : [];
    return {
      name,
      in: place,
      required: !isOptional,
      ...(allowEmptyValue !== undefined && { allowEmptyValue }),
      ...(description !== undefined && { description }),
      schema,
      ...(example !== undefined && { example }),
    };
  });
}

function requestBody(dto: Dto, components: Components): object {
  const fields = [...fieldsOf(dto)];
  const required = fields.filter(([, { isOptional }]) => !isOptional).map(([name]) => name);
  const schema = components.schema(dto.name, {
    type: 'object',
    properties: Object.fromEntries(fields.map(([name, field]) => [name, inBody(field)])),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  });
  // Like a field that may be left out, such a body may be null.
  const isOptional = required.length === 0;
  return {
    required: !isOptional,
    content: { 'application/json': { schema: isOptional ? { anyOf: [schema, { type: 'null' }] } : schema } },
  };
}

function inBody({ keywords, isOptional }: Field): Keywords {
  if (!isOptional) return keywords;
  // As words and not as a keyword: of a field with a default, openapi-typescript makes one that a client has to give.
  const { type, enum: words, default: fallback, description, ...others } = keywords;
  const meaning = [description, fallback !== undefined && `Left out, it is ${JSON.stringify(fallback)}.`].filter(Boolean).join(' ');
  return {
    ...others,
    type: [type, 'null'],
    ...(Array.isArray(words) && { enum: [...(words as unknown[]), null] }),
    ...(meaning !== '' && { description: meaning }),
  };
}

const requestId = { required: true, description: 'Finds the request in the log.', schema: { type: 'string' } };
const headersOfStatus: Readonly<Record<number, Record<string, Keywords>>> = {
  401: { 'WWW-Authenticate': { required: true, schema: { type: 'string' } } },
  429: { 'Retry-After': { required: true, description: 'Seconds to wait.', schema: { type: 'integer' } } },
  503: { 'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } } },
};

function responses(route: Route, components: Components): Record<string, object> {
  const { status, description } = route;
  const { answer, contentTypes = ['application/json'], alsoWith = [], headers = {} } = description;
  const content = Object.fromEntries(contentTypes.map((type) => [type, { schema: components.hoisted(answer) }]));
  const ofSuccess = Object.fromEntries(
    Object.entries(headers).map(([name, text]) => [name, { description: text, schema: { type: 'string' } }]),
  );
  return {
    [status]: { description: 'Done.', headers: { 'X-Request-Id': requestId, ...ofSuccess }, content },
    ...Object.fromEntries(alsoWith.map((other) => [other, { description: 'Not so.', headers: { 'X-Request-Id': requestId }, content }])),
    ...Object.fromEntries(
      Array.from(errorsOf(route), ([error, codes]) => [
        error,
        components.response(`${error}.${codes.join('.')}`, problem(error, codes, components)),
      ]),
    ),
  };
}

function problem(status: number, codes: readonly ErrorCode[], components: Components): object {
  const schema = {
    allOf: [
      components.hoisted(problemSchema),
      { properties: { status: { type: 'integer', const: status }, code: { type: 'string', enum: codes } } },
    ],
  };
  return {
    description: codes.map((code) => `\`${code}\`: ${errorCodes[code].meaning}`).join('\n\n'),
    headers: { 'X-Request-Id': requestId, ...headersOfStatus[status] },
    content: { 'application/problem+json': { schema } },
  };
}

/** The codes that a route can give, by status. */
function errorsOf({ method, isGuarded, body, query, params, description }: Route): Map<number, ErrorCode[]> {
  const isReading = method === 'get';
  const codes = new Set<ErrorCode>(['internal', ...(description.errors ?? [])]);
  if (isGuarded) codes.add('unauthenticated').add('token_expired').add('unavailable').add('overloaded');
  if (isGuarded && !isReading) codes.add('forbidden'); // with the cookie, from a foreign page
  if (!isReading) codes.add('message_too_long');
  if (!isReading || body || query || params) codes.add('invalid_payload');
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of [...codes].toSorted()) byStatus.set(errorCodes[code].status, [...(byStatus.get(errorCodes[code].status) ?? []), code]);
  if (params) byStatus.set(414, ['invalid_payload']); // a part of the path that is longer than any id
  if (!isReading) byStatus.set(415, ['invalid_payload']); // a body that isn't JSON
  return byStatus;
}

/** What has a name, each written once. */
class Components {
  readonly schemas: Record<string, Keywords> = {};
  readonly responses: Record<string, object> = {};

  /** @returns a reference to it */
  schema(name: string, schema: Keywords): Keywords {
    const known = this.schemas[name];
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`two schemas have the name ${name}`);
    this.schemas[name] = schema;
    return { $ref: `#/components/schemas/${name}` };
  }

  /** @param name says all that is in it */
  response(name: string, response: object): object {
    this.responses[name] = response;
    return { $ref: `#/components/responses/${name}` };
  }

  /** What has a title becomes a schema of that name. */
  hoisted(schema: TSchema | Keywords): Keywords {
    const { title, ...untitled } = typedWords(schema);
    const keywords = typeof title === 'string' ? untitled : typedWords(schema); // a field may have that name too
    const inner = Object.fromEntries(Object.entries(keywords).map(([keyword, value]) => [keyword, this.within(value)]));
    return typeof title === 'string' ? this.schema(title, inner) : inner;
  }

  private within(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((item) => this.within(item));
    return typeof value === 'object' && value !== null ? this.hoisted(value) : value;
  }
}
