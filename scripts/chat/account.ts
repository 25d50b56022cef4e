/** What the chat asks by REST: who one is, which room, what was said last. */
import { createHash } from 'node:crypto';
import type { Message } from '../../src/protocol/message.js';
import { nameKey, roomKey } from '../../src/protocol/names.js';
import { plainText } from './text.js';

const recentMessages = 20;
const roomsPage = 100;
const requestTimeoutMs = 15_000;
const logOutTimeoutMs = 1_000;

/** Why the chat can't go on, in one line for the person at the terminal. */
export class Unusable extends Error {}

/** A refusal by the server. */
export class Refused extends Unusable {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

interface Tokens {
  accessToken: string;
  refreshToken: string;
}

interface User {
  readonly id: string;
  readonly username: string;
}

interface Grant {
  readonly user: User;
  readonly tokens: Tokens;
}

export interface Credentials {
  readonly username: string;
  /** For who is new; undefined makes one up. */
  readonly email: string | undefined;
  readonly password: string;
}

/** Somebody who is logged in. */
export class Account {
  constructor(
    readonly url: string,
    readonly user: User,
    private tokens: Tokens,
    readonly isNew: boolean,
  ) {}

  get accessToken(): string {
    return this.tokens.accessToken;
  }

  /** Exchanges the refresh token, which can be used once. @throws Refused with 401 when the login is over, Unusable */
  async refresh(): Promise<void> {
    this.tokens = (await ask<Grant>(this.url, 'POST', '/auth/refresh', { body: { refreshToken: this.tokens.refreshToken } })).tokens;
  }

  /** Ends this login, if the server is there. */
  async logOut(): Promise<void> {
    await this.request('POST', '/auth/logout', {}, logOutTimeoutMs).catch(() => undefined);
  }

  /** @throws Refused, Unusable when there is no answer */
  request<Answer>(method: string, path: string, body?: object, timeoutMs?: number): Promise<Answer> {
    return ask<Answer>(this.url, method, path, { token: this.accessToken, body, timeoutMs });
  }
}

/** Registers a name that is new, and logs in with one that is known. */
export async function signIn(url: string, { username, email, password }: Credentials): Promise<Account> {
  try {
    const { user, tokens } = await ask<Grant>(url, 'POST', '/auth/register', {
      body: { username, email: email ?? madeUpEmail(username), password },
    });
    return new Account(url, user, tokens, true);
  } catch (error) {
    if (!(error instanceof Refused) || error.code !== 'conflict') throw error;
  }
  try {
    const { user, tokens } = await ask<Grant>(url, 'POST', '/auth/login', { body: { username, password } });
    return new Account(url, user, tokens, false);
  } catch (error) {
    if (!(error instanceof Refused) || error.code !== 'unauthenticated') throw error;
    throw new Unusable(`Wrong password for ${plainText(username)} (or the email belongs to somebody else).`);
  }
}

/** An address needs a local part of at most 64 plain characters (RFC 5321); a name may have any letters. */
function madeUpEmail(username: string): string {
  const isPlain = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(username);
  const local = isPlain ? username : `user-${createHash('sha256').update(nameKey(username)).digest('hex').slice(0, 24)}`;
  return `${local}@localhost`;
}

export interface Room {
  readonly id: string;
  readonly name: string;
  readonly created_at: string;
  readonly last_seq: number;
}

/** Finds a room by its name, or makes it, and becomes a member. */
export async function openRoom(account: Account, name: string): Promise<Room> {
  const room = (await findRoom(account, name)) ?? (await createRoom(account, name));
  await account.request('POST', `/rooms/${room.id}/join`, {});
  return room;
}

async function createRoom(account: Account, name: string): Promise<Room> {
  try {
    return await account.request<Room>('POST', '/rooms', { name });
  } catch (error) {
    // Somebody may have made it at the same moment.
    const room = error instanceof Refused && error.code === 'conflict' ? await findRoom(account, name) : undefined;
    if (room === undefined) throw error;
    return room;
  }
}

async function findRoom(account: Account, name: string): Promise<Room | undefined> {
  const wanted = roomKey(name);
  let before = '';
  for (;;) {
    const page = await account.request<Room[]>('GET', `/rooms?limit=${roomsPage}&q=${encodeURIComponent(name.trim())}${before}`);
    const room = page.find((candidate) => roomKey(candidate.name) === wanted);
    const last = page.at(-1);
    if (room !== undefined || last === undefined || page.length < roomsPage) return room;
    before = `&before=${last.id}`;
  }
}

/** @returns the last messages, ascending, and the seq up to which they are the room's last */
export async function readRecent(account: Account, roomId: string): Promise<{ messages: Message[]; lastSeq: number }> {
  // The head first: what comes after it is either among the messages or above lastSeq.
  const { last_seq } = await account.request<Room>('GET', `/rooms/${roomId}`);
  const { messages } = await account.request<{ messages: Message[] }>('GET', `/rooms/${roomId}/messages?limit=${recentMessages}`);
  return { messages: messages.toReversed(), lastSeq: Math.max(last_seq, messages[0]?.seq ?? 0) };
}

interface Request {
  readonly token?: string;
  readonly body?: object | undefined;
  readonly timeoutMs?: number | undefined;
}

async function ask<Answer>(
  url: string,
  method: string,
  path: string,
  { token, body, timeoutMs = requestTimeoutMs }: Request,
): Promise<Answer> {
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(url.replace(/\/+$/, '') + path, {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
    text = await answer.text();
  } catch (error) {
    throw new Unusable(`${url} can't be reached: ${reasonOf(error)}.`, { cause: error });
  }
  const parsed = parse(text);
  if (answer.ok && parsed !== undefined) return parsed as Answer;
  const { code, detail, errors } = (parsed ?? {}) as { code?: string; detail?: string; errors?: { field: string; message: string }[] };
  if (code === undefined) throw new Unusable(`${url} does not answer like Trunkline (${method} ${path}: ${answer.status}).`);
  throw new Refused(
    answer.status,
    code,
    plainText(errors?.map(({ field, message }) => `${field}: ${message}`).join('; ') ?? detail ?? code),
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  const { name, message, cause } = error as Error & { cause?: { code?: string; message?: string; errors?: { code?: string }[] } };
  if (name === 'TimeoutError') return 'no answer in time';
  const code = cause?.code ?? cause?.errors?.[0]?.code;
  if (code === 'ECONNREFUSED') return 'nothing listens there';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'there is no such host';
  return code ?? cause?.message ?? message;
}
