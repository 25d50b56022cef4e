/** REST as a client of the tests sees it. */
import { answerProblems } from './openapi.js';

export interface Answer {
  status: number;
  headers: Headers;
  /** The parsed body, text where it isn't JSON; undefined when there is none. */
  body: unknown;
}

export interface Call {
  method?: string;
  token?: string;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, in the place of `body`. */
  raw?: string | Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** One call to a node; throws when there is no answer, or one that the OpenAPI document doesn't have. */
export async function call(url: string, path: string, request: Call = {}): Promise<Answer> {
  const answer = await callAnything(url, path, request);
  const problems = answerProblems(methodOf(request), path, answer);
  if (problems.length > 0) throw new Error(problems.join('\n'));
  return answer;
}

/** One call to what may be no node of ours, but stand in front of it, or in its place. */
export async function callAnything(url: string, path: string, request: Call = {}): Promise<Answer> {
  const { token, headers = {} } = request;
  const payload = payloadOf(request);
  const answer = await fetch(`${url}${path}`, {
    method: methodOf(request),
    headers: {
      ...(payload !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(payload !== undefined && { body: payload }),
    ...(request.signal !== undefined && { signal: request.signal }),
  });
  const text = await answer.text();
  const isJson = answer.headers.get('content-type')?.includes('json') === true;
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : isJson ? JSON.parse(text) : text };
}

const payloadOf = ({ raw, body }: Call) => raw ?? (body === undefined ? undefined : JSON.stringify(body));
const methodOf = (request: Call): string => request.method ?? (payloadOf(request) === undefined ? 'GET' : 'POST');

export interface TestUser {
  id: string;
  username: string;
  email: string;
  token: string;
  refreshToken: string;
}

export const testPassword = 'a password of the tests';

/** Registers a user; @throws when the node refuses. */
export async function registerUser(url: string, username: string): Promise<TestUser> {
  const email = `${username}@test.local`;
  const { status, body } = await call(url, '/auth/register', { body: { username, email, password: testPassword } });
  if (status !== 201) throw new Error(`register answered ${status}: ${JSON.stringify(body)}`);
  const { user, tokens } = body as { user: { id: string }; tokens: { accessToken: string; refreshToken: string } };
  return { id: user.id, username, email, token: tokens.accessToken, refreshToken: tokens.refreshToken };
}

/** Makes a room of the user's and returns its id. */
export async function createRoom(url: string, token: string, name: string, more: Record<string, unknown> = {}): Promise<string> {
  const { status, body } = await call(url, '/rooms', { token, body: { name, ...more } });
  if (status !== 201) throw new Error(`creating a room answered ${status}: ${JSON.stringify(body)}`);
  return (body as { id: string }).id;
}
