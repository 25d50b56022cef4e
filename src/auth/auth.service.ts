/**
 * Accounts and logins. Promises: a name or address belongs to one account in whatever case it is written; of any number of uses of a
 * refresh token one wins, and a second use ends the session. Knows nothing of HTTP.
 */
import { Inject, Injectable } from '@nestjs/common';
import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { CONFIG, type Config } from '../config.js';
import { Database, type Queryable } from '../database/database.js';
import { isUniqueViolation } from '../database/sql-error.js';
import { LOGGER } from '../logger.js';
import { ClientError } from '../protocol/errors.js';
import {
  findAccountByEmail,
  findAccountByUsername,
  findTaken,
  findUser,
  insertUser,
  replacePasswordHash,
  type User,
} from '../users/user.store.js';
import { AccessTokens, type Identity } from './access-tokens.js';
import { Passwords } from './passwords.js';
import { hashRefreshToken, makeRefreshToken } from './refresh-tokens.js';
import { endAllSessions, endSession, endSessionOfSpentToken, insertSession, rotateRefreshToken } from './session.store.js';

/** Who somebody is, and the tokens that prove it. */
export interface Grant {
  user: User;
  tokens: { accessToken: string; refreshToken: string };
}

/** The name that somebody logs in with: one of the two. */
export type LoginName = { email: string } | { username: string };

@Injectable()
export class AuthService {
  constructor(
    private readonly db: Database,
    private readonly passwords: Passwords,
    private readonly accessTokens: AccessTokens,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly log: Logger,
  ) {}

  /** @throws ClientError `conflict` naming the fields that are taken, `overloaded`, `unavailable` */
  async register(username: string, email: string, password: string): Promise<Grant> {
    await this.refuseTaken(username, email); // a hash is dear: don't make one in vain
    const passwordHash = await this.passwords.hash(password);
    try {
      return await this.db.transaction(async (db) => {
        const user = await insertUser(db, { id: uuidv7(), username, email, passwordHash });
        return this.startSession(db, user);
      });
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      await this.refuseTaken(username, email);
      throw new ClientError('conflict');
    }
  }

  /** @throws ClientError `unauthenticated` alike for an unknown name and a wrong password; `overloaded`, `unavailable` */
  async login(name: LoginName, password: string): Promise<Grant> {
    const account = await ('email' in name ? findAccountByEmail(this.db, name.email) : findAccountByUsername(this.db, name.username));
    const { matches, newHash } = await this.passwords.check(password, account?.passwordHash);
    if (account === undefined || !matches) throw new ClientError('unauthenticated', 'The name or the password is wrong.');
    if (newHash !== undefined) await replacePasswordHash(this.db, account.user.id, account.passwordHash, newHash);
    return this.startSession(this.db, account.user);
  }

  /** @throws ClientError `unauthenticated` when the token is unknown, spent, or of a session that ended; `unavailable` */
  async refresh(refreshToken: string): Promise<Grant> {
    const oldHash = hashRefreshToken(refreshToken);
    const newToken = makeRefreshToken();
    const rotated = await rotateRefreshToken(this.db, oldHash, hashRefreshToken(newToken), this.config.REFRESH_TOKEN_TTL_S);
    if (rotated !== undefined) return this.grant(rotated.user, rotated.sessionId, newToken);

    const ended = await endSessionOfSpentToken(this.db, oldHash);
    if (ended !== undefined) this.log.warn({ session_id: ended }, 'a refresh token was used twice: its session was ended');
    throw new ClientError('unauthenticated', 'The refresh token is not valid: log in again.');
  }

  /** Ends a session of the user, by default the one that asks. One that is not the user's, or ended before, is passed over. */
  async logout({ userId, sessionId }: Identity, which: { sessionId?: string; all?: boolean } = {}): Promise<void> {
    if (which.all === true) return endAllSessions(this.db, userId);
    return endSession(this.db, userId, which.sessionId ?? sessionId);
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
    const fields = taken.map((field) => ({ field, message: 'is taken' }));
    throw new ClientError('conflict', fields.map(({ field, message }) => `${field}: ${message}`).join('; '), { fields });
  }

  private async startSession(db: Queryable, user: User): Promise<Grant> {
    const sessionId = uuidv7();
    const refreshToken = makeRefreshToken();
    const session = {
      id: sessionId,
      userId: user.id,
      refreshTokenHash: hashRefreshToken(refreshToken),
      lifeS: this.config.REFRESH_TOKEN_TTL_S,
    };
    await insertSession(db, session);
    return this.grant(user, sessionId, refreshToken);
  }

  private async grant(user: User, sessionId: string, refreshToken: string): Promise<Grant> {
    const accessToken = await this.accessTokens.issue({ userId: user.id, username: user.username, sessionId });
    return { user, tokens: { accessToken, refreshToken } };
  }
}
