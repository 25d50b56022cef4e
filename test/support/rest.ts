/** REST as a client of the tests sees it. */
import { callAnything, methodOf, type Answer, type Call } from './any-call.js';
import { answerProblems } from './openapi.js';

/** One call to a node; throws when there is no answer, or one that the OpenAPI document doesn't have. */
export async function call(url: string, path: string, request: Call = {}): Promise<Answer> {
  const answer = await callAnything(url, path, request);
  const problems = answerProblems(methodOf(request), path, answer);
  if (problems.length > 0) throw new Error(problems.join('\n'));
  return answer;
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
