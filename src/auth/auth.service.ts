/**
 * Accounts and logins. Promises: a name or address belongs to one account however it is written; of any number of uses of a
 * refresh token one wins; a session that ended stays ended; after a change of the password, no other login of before it goes on. Knows nothing
 * of HTTP.
 */
import { Inject, Injectable } from '@nestjs/common';
import type { Logger } from 'pino';
import Type, { type Static } from 'typebox';
import { v7 as uuidv7 } from 'uuid';
import { CONFIG, type Config } from '../config.js';
import { Database, type Queryable } from '../database/database.js';
import { isUniqueViolation } from '../database/sql-error.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import { emailKey, nameKey } from '../protocol/names.js';
import {
  changePassword,
  findAccountByEmail,
  findAccountById,
  findAccountByUsername,
  findTaken,
  findUser,
  insertUser,
  replacePasswordHash,
  userSchema,
  type User,
} from '../users/user.store.js';
import { AccessTokens, type Identity } from './access-tokens.js';
import { networksOf, type Caller } from './caller.js';
import { KeyedHash } from './keyed-hash.js';
import { isKnownNetwork } from './known-network.store.js';
import { Passwords } from './passwords.js';
import { fromNetworks, RateLimits, type Counted } from './rate-limits.js';
import { hashRefreshToken, RefreshTokens } from './refresh-tokens.js';
import {
  endSession,
  endSessionOfSpentToken,
  endSessions,
  findJustRotated,
  holdLiveSession,
  insertSession,
  readSessions,
  rotateRefreshToken,
  sessionRowSchema,
  type SessionLife,
} from './session.store.js';
import { sessionEnded } from './sessions.js';

/** Looked up in the place of an account that is not there. */
const nobody = '00000000-0000-0000-0000-000000000000';

/** For so long a refresh token may be used again: its first answer may have been lost. */
const lostAnswerGraceS = 10;

/** Who somebody is, and the tokens that prove it. */
export const grantSchema = Type.Object(
  {
    user: userSchema,
    tokens: Type.Object({
      accessToken: Type.String({ description: 'a JWT, for Authorization: Bearer and for the socket' }),
      refreshToken: Type.String({ description: 'for POST /auth/refresh, once: the answer has another one' }),
    }),
  },
  { title: 'Grant' },
);
export type Grant = Static<typeof grantSchema>;

/** The name that somebody logs in with: one of the two. */
export type LoginName = { email: string } | { username: string };

export const sessionSchema = Type.Object(
  { ...sessionRowSchema.properties, current: Type.Boolean({ description: 'whether it is the one that asks' }) },
  { title: 'Session' },
);
export type Session = Static<typeof sessionSchema>;

@Injectable()
export class AuthService {
  private readonly life: SessionLife;

  constructor(
    private readonly db: Database,
    private readonly passwords: Passwords,
    private readonly limits: RateLimits,
    private readonly hash: KeyedHash,
    private readonly accessTokens: AccessTokens,
    private readonly refreshTokens: RefreshTokens,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) private readonly log: Logger,
  ) {
    this.life = { idleS: config.REFRESH_TOKEN_TTL_S, maxAgeS: config.SESSION_MAX_AGE_S };
  }

  /** @throws ClientError `conflict` naming the fields that are taken, `rate_limited`, `overloaded`, `unavailable` */
  async register(username: string, email: string, password: string, caller: Caller): Promise<Grant> {
    const networks = networksOf(caller);
    const limits = fromNetworks('registerFromNetwork', networks);
    this.limits.refuseFlood(limits);
    return this.passwords.inTurn(networks, async () => {
      for (const limit of limits) await this.limits.count(limit);
      await this.refuseTaken(username, email); // a hash is dear: don't make one in vain
      const passwordHash = await this.passwords.hash(password);
      try {
        return await this.db.transaction(async (db) => {
          const user = await insertUser(db, { id: uuidv7(), username, email, passwordHash });
          return this.startSession(db, user, 0, caller);
        });
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        await this.refuseTaken(username, email);
        throw new ClientError('conflict');
      }
    });
  }

  /** @throws ClientError `unauthenticated` alike for an unknown name and a wrong password; `rate_limited`, `overloaded`, `unavailable` */
  async login(name: LoginName, password: string, caller: Caller): Promise<Grant> {
    // As it was typed: counted by account, the answer would say which address belongs to which name.
    const typed = 'email' in name ? emailKey(name.email) : nameKey(name.username);
    const networks = networksOf(caller);
    const { network } = networks;
    const site = networks.sites.at(-1) ?? network;
    // In this order: a device that goes on with an old password uses up nothing of its network's, and what a network may not try does not count
    // against the name, or anybody could lock out anybody.
    const ofNameFromNetwork: Counted = { limit: 'loginOfNameFromNetwork', key: `${network} ${typed}` };
    const ofStrangers: Counted[] = [
      ...(site.endsWith('/48') ? [{ limit: 'loginOfNameFromSite', key: `${site} ${typed}` } as const] : []),
      ...fromNetworks('loginFromNetwork', networks),
      { limit: 'loginOfName', key: typed },
    ];
    this.limits.refuseFlood([ofNameFromNetwork]);
    return this.passwords.inTurn(networks, async () => {
      const account = await ('email' in name ? findAccountByEmail(this.db, name.email) : findAccountByUsername(this.db, name.username));
      // Others' guesses don't lock the user out of a network of before. From there, a name can be tried as often as from any one network.
      const isKnown = await isKnownNetwork(this.db, account?.user.id ?? nobody, this.hash.of(network));
      return this.limits.guess([ofNameFromNetwork, ...(isKnown ? [] : ofStrangers)], async () => {
        const { matches, newHash } = await this.passwords.check(password, account?.passwordHash);
        if (account === undefined || !matches) throw wrongPassword();
        const { user, passwordHash, passwordVersion } = account;
        if (newHash !== undefined) await replacePasswordHash(this.db, user.id, passwordHash, newHash);
        return this.startSession(this.db, user, passwordVersion, caller);
      });
    });
  }

  /**
   * A second use ends the session: whoever uses a token twice is two, and one of them has stolen it (RFC 9700, section 4.14.2). But one
   * whose answer was lost asks again too: for a few seconds the token that was spent last gives the same successor as before.
   * @throws ClientError `unauthenticated` when the token is unknown, spent, or of a session that is over; `rate_limited`, `unavailable`
   */
  async refresh(refreshToken: string, caller: Caller): Promise<Grant> {
    for (const limit of fromNetworks('refreshFromNetwork', networksOf(caller))) await this.limits.count(limit);
    const sessionId = this.refreshTokens.sessionOf(refreshToken);
    if (sessionId === undefined) throw invalidRefreshToken();
    await this.limits.count({ limit: 'refreshOfSession', key: sessionId });

    const successor = this.refreshTokens.successor(refreshToken);
    const [oldHash, newHash] = [hashRefreshToken(refreshToken), hashRefreshToken(successor)];
    const user =
      (await rotateRefreshToken(this.db, sessionId, oldHash, newHash, this.life)) ??
      (await findJustRotated(this.db, sessionId, newHash, lostAnswerGraceS));
    if (user !== undefined) return this.grant(user, sessionId, successor);

    if (await endSessionOfSpentToken(this.db, sessionId, oldHash))
      this.log.warn({ session: sessionId, address: caller.address }, 'a refresh token was used twice: its session was ended');
    throw invalidRefreshToken();
  }

  /**
   * Ends a session of the user, by default the one that asks, or all. One that is not the user's, or is over, is passed over.
   * @returns the sessions that it ended
   */
  async logout({ userId, sessionId }: Identity, which: { sessionId?: string; all?: boolean } = {}): Promise<string[]> {
    if (which.all === true) return endSessions(this.db, userId);
    const id = which.sessionId ?? sessionId;
    return (await endSession(this.db, userId, id)) ? [id] : [];
  }

  /** The user's live sessions, the one that was used last first. */
  async sessions({ userId, sessionId }: Identity): Promise<Session[]> {
    const sessions = await readSessions(this.db, userId);
    return sessions.map((session) => ({ ...session, current: session.id === sessionId }));
  }

  /** @throws ClientError `not_found` where the user has no live session of that id; `unavailable` */
  async endSession({ userId }: Identity, sessionId: string): Promise<void> {
    if (!(await endSession(this.db, userId, sessionId))) throw new ClientError('not_found', 'You have no such session.');
  }

  /**
   * Changes the password and ends every session of the user but the one that asks.
   * @throws ClientError `forbidden` where the current password is another; `unauthenticated` where the session ended while the password
   *   waited to be hashed; `rate_limited`, `overloaded`, `unavailable`
   * @returns the sessions that it ended
   */
  async changePassword({ userId, sessionId }: Identity, currentPassword: string, newPassword: string, caller: Caller): Promise<string[]> {
    const limits: Counted[] = [{ limit: 'passwordOfUser', key: userId }];
    this.limits.refuseFlood(limits);
    const work = async (): Promise<string[]> => {
      const account = await findAccountById(this.db, userId);
      const { matches } = await this.passwords.check(currentPassword, account?.passwordHash);
      if (account === undefined || !matches) throw new ClientError('forbidden', 'The current password is wrong.');
      const newHash = await this.passwords.hash(newPassword);
      const ended = await this.db.transaction(async (db) => {
        // The sessions in a statement of their own, after the row of the user is locked: see insertSession.
        const changed = await changePassword(db, userId, account.passwordVersion, newHash);
        if (!changed) throw new ClientError('forbidden', 'The password was changed just now by another session.');
        if (!(await holdLiveSession(db, { userId, sessionId }))) throw sessionEnded();
        return endSessions(db, userId, sessionId);
      });
      this.log.info({ user: userId }, 'a password was changed');
      return ended;
    };
    return this.passwords.inTurn(networksOf(caller), () => this.limits.guess(limits, work));
  }

  /** @throws ClientError `unauthenticated` when the account is gone; `unavailable` */
  async me({ userId }: Identity): Promise<User> {
    const user = await findUser(this.db, userId);
    if (user === undefined) throw new ClientError('unauthenticated');
    return user;
  }

  private async refuseTaken(username: string, email: string): Promise<void> {
    const taken = await findTaken(this.db, username, email);
    if (taken.length === 0) return;
    const fields = taken.map(({ field, looksAlike }) => ({
      field,
      message: looksAlike === true ? 'looks like a name that is taken' : 'is taken',
    }));
    throw new ClientError('conflict', fields.map(({ field, message }) => `${field}: ${message}`).join('; '), { fields });
  }

  private async startSession(db: Queryable, user: User, passwordVersion: number, { deviceName, address }: Caller): Promise<Grant> {
    const id = uuidv7();
    const refreshToken = this.refreshTokens.first(id);
    const network = this.hash.of(networksOf({ address }).network);
    const session = {
      id,
      userId: user.id,
      passwordVersion,
      refreshTokenHash: hashRefreshToken(refreshToken),
      deviceName,
      address,
      network,
    };
    if (!(await insertSession(db, { ...session, ...this.life }))) throw wrongPassword();
    return this.grant(user, id, refreshToken);
  }

  private async grant(user: User, sessionId: string, refreshToken: string): Promise<Grant> {
    const accessToken = await this.accessTokens.issue({ userId: user.id, username: user.username, sessionId });
    return { user, tokens: { accessToken, refreshToken } };
  }
}

const wrongPassword = (): ClientError => new ClientError('unauthenticated', 'The name or the password is wrong.');
const invalidRefreshToken = (): ClientError => new ClientError('unauthenticated', 'The refresh token is not valid: log in again.');
