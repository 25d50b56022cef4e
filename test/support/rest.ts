/** REST as a client of the tests sees it. */
export interface Answer {
  status: number;
  headers: Headers;
  /** The parsed body; undefined when there is none. */
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
}

/** One call to a node; throws only when there is no answer, or one that is not JSON. */
export async function call(url: string, path: string, { method, token, body, raw, headers = {} }: Call = {}): Promise<Answer> {
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const answer = await fetch(`${url}${path}`, {
    method: method ?? (payload === undefined ? 'GET' : 'POST'),
    headers: {
      ...(payload !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(payload !== undefined && { body: payload }),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : JSON.parse(text) };
}

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
