/** Holds what a node answers to REST against the OpenAPI document: what the document doesn't declare is as wrong as what is missing. */
import { Compile, type Validator } from 'typebox/compile';
import { parse } from 'yaml';
import { AppModule } from '../../src/app.module.js';
import { controllersOf, openApi } from '../../src/docs/openapi.js';
import { problemSchema } from '../../src/rest/problem.filter.js';
import { closed } from './closed-schema.js';

export const document = openApi(controllersOf(AppModule));

interface Response {
  headers: Record<string, { required?: boolean }>;
  content: Record<string, { schema: object }>;
}

interface Route {
  name: string;
  path: RegExp;
  responses: Record<string, Response>;
}

/** A path without parameters goes before one with. */
const routes: Route[] = Object.entries(document.paths)
  .toSorted(([a], [b]) => a.split('{').length - b.split('{').length)
  .flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { responses }]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path: new RegExp(`^${method.toUpperCase()} ${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
      responses: resolved(responses) as Record<string, Response>,
    })),
  );

/** With what is referred to in the place of the reference. */
function resolved(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(resolved);
  if (typeof part !== 'object' || part === null) return part;
  if (!('$ref' in part)) return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, resolved(value)]));
  const [, , kind, name] = String(part.$ref).split('/') as [string, string, keyof typeof document.components, string];
  return resolved(document.components[kind][name]);
}

const validators = new Map<object, Validator>();
function validatorOf(schema: object): Validator {
  const validator = validators.get(schema) ?? Compile(closed(schema));
  validators.set(schema, validator);
  return validator;
}

interface Checked {
  status: number;
  headers: Headers;
  body: unknown;
}

/** What is wrong with an answer, in words; empty where it is as the document says. To what is no route, it has to be a problem. */
export function answerProblems(method: string, address: string, { status, headers, body }: Checked): string[] {
  const [path = ''] = address.split('?');
  const route = isRefused(path) ? undefined : routes.find((candidate) => candidate.path.test(`${method} ${path}`));
  const response = route === undefined && status >= 400 ? noRoute : route?.responses[status];
  const name = `${route?.name ?? `${method} ${path}, which is no route,`} answered ${status}`;
  if (response === undefined) return [`${name}: not in the document: ${JSON.stringify(body)}`];
  const [type = ''] = headers.get('content-type')?.split(';') ?? [];
  const schema = response.content[type]?.schema;
  if (schema === undefined) return [`${name}: as ${type}, which is not in the document`];
  const problems = Object.entries(response.headers)
    .filter(([header, { required }]) => required === true && !headers.has(header))
    .map(([header]) => `${name}: without ${header}`);
  const validator = validatorOf(schema);
  const value: unknown = type === 'application/yaml' ? parse(String(body)) : body;
  for (const { instancePath, message } of validator.Check(value) ? [] : validator.Errors(value))
    problems.push(`${name}: ${instancePath || 'the body'} ${message}: ${JSON.stringify(body)}`);
  return problems;
}

const noRoute: Response = { headers: {}, content: { 'application/problem+json': { schema: problemSchema } } };

/** Such an address never comes to a route. */
function isRefused(path: string): boolean {
  try {
    return decodeURIComponent(path)
      .split('/')
      .some((segment) => segment.length > 100);
  } catch {
    return true;
  }
}
