/** Users and rooms as any client makes them: registered, joined by REST. */
import { randomBytes } from 'node:crypto';
import pLimit from 'p-limit';
import { Unusable } from './unusable.js';

export interface User {
  readonly name: string;
  /** An access token that outlives the run. */
  readonly token: string;
  readonly room: number;
}

export interface Room {
  readonly id: string;
  /** Its seq when everybody had joined: the run begins after it. */
  readonly head: number;
}

interface Tokens {
  readonly accessToken: string;
  readonly refreshToken: string;
}

/** A password costs the node a tenth of a CPU second; more at once only wait for each other. */
const atOnce = 8;
const answerDeadlineMs = 30_000;
const attempts = 6;

/** @throws Unusable when nobody answers there */
export async function expectServing(baseUrl: string): Promise<void> {
  const answer = await fetch(`${baseUrl}/health`, { signal: AbortSignal.timeout(5_000) }).catch((error: unknown) => error as Error);
  if (answer instanceof Error)
    throw new Unusable(`Nobody answers at ${baseUrl} (${reasonOf(answer)}): start it with RATE_LIMITS=off, or set BASE_URL.`);
  if (!answer.ok) throw new Unusable(`${baseUrl}/health answers ${answer.status}: it does not serve, or it is something else.`);
}

/**
 * @param places room of each user
 * @param lifeMs how long the tokens must live from the end of the set-up on
 * @param progress told how many of the users are done
 */
export async function setUp(
  baseUrl: string,
  runId: string,
  places: readonly number[],
  lifeMs: number,
  progress: (done: number) => void,
): Promise<{ users: User[]; rooms: Room[] }> {
  const limit = pLimit(atOnce);
  const password = randomBytes(18).toString('base64url');
  const names = places.map((_, n) => `${runId}-${n}`);
  let done = 0;
  const tokens = await limit.map(names, async (username) => {
    const answer = await post<{ tokens: Tokens }>(baseUrl, '/auth/register', { username, email: `${username}@example.org`, password });
    progress(++done);
    return answer.tokens;
  });

  const roomCount = Math.max(...places) + 1;
  const firstOf = (room: number): Tokens => tokens[places.indexOf(room)] as Tokens;
  const ids = await limit.map(
    Array.from({ length: roomCount }, (_, room) => room),
    async (room) => {
      const { id } = await post<{ id: string }>(baseUrl, '/rooms', { name: `${runId} ${room}` }, firstOf(room).accessToken);
      return id;
    },
  );
  await limit.map(tokens, ({ accessToken }, n) => post(baseUrl, `/rooms/${ids[places[n] ?? 0]}/join`, {}, accessToken));
  const rooms = await limit.map(ids, async (id, room) => {
    const content = `Load test ${runId} begins here.`;
    const { seq } = await post<{ seq: number }>(baseUrl, `/rooms/${id}/messages`, { content }, firstOf(room).accessToken);
    return { id, head: seq };
  });

  const users = await limit.map(tokens, async (pair, n) => ({
    name: names[n] ?? '',
    token: await longLived(baseUrl, pair, lifeMs),
    room: places[n] ?? 0,
  }));
  return { users, rooms };
}

/** The access token, or a new one when it would not live long enough. */
async function longLived(baseUrl: string, { accessToken, refreshToken }: Tokens, lifeMs: number): Promise<string> {
  if (msLeft(accessToken) > lifeMs) return accessToken;
  const { tokens } = await post<{ tokens: Tokens }>(baseUrl, '/auth/refresh', { refreshToken });
  const left = msLeft(tokens.accessToken);
  if (left <= lifeMs)
    throw new Unusable(
      `Access tokens live ${Math.round(left / 1_000)} s, the run needs ${Math.ceil(lifeMs / 1_000)} s: start the nodes with a greater ACCESS_TOKEN_TTL_S.`,
    );
  return tokens.accessToken;
}

/** By the claim `exp` of a JWT (RFC 7519, section 4.1.4). */
function msLeft(token: string): number {
  const { exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { exp: number };
  return exp * 1_000 - Date.now();
}

/** Repeats what is refused as temporary. */
async function post<Body>(baseUrl: string, path: string, body: object, token?: string): Promise<Body> {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(`${baseUrl}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(answerDeadlineMs),
    }).catch((error: unknown) => {
      throw new Unusable(`${baseUrl} did not answer POST ${path}: ${reasonOf(error as Error)}`);
    });
    if (answer.ok) return (await answer.json()) as Body;
    if (answer.status === 429) throw new Unusable(`${baseUrl} limits how often one may register: start its nodes with RATE_LIMITS=off.`);
    if (answer.status !== 503 || attempt === attempts)
      throw new Unusable(`${baseUrl} answered POST ${path} with ${answer.status}: ${(await answer.text()).slice(0, 300)}`);
    await new Promise((soon) => setTimeout(soon, 250 * 2 ** attempt * Math.random()));
  }
}

/** fetch itself says no more than that it failed. */
function reasonOf({ message, cause }: Error): string {
  return (cause as { code?: string } | undefined)?.code ?? message;
}
