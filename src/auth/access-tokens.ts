import { createSecretKey } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { JwtService, TokenExpiredError } from '@nestjs/jwt';
import { validate as isUuid } from 'uuid';
import { CONFIG, type Config } from '../config.js';
import { ClientError } from '../protocol/errors.js';

/** Who is asking, as an access token says it. */
export interface Identity {
  /** UUID, lower case. */
  userId: string;
  username: string;
  /** UUID of the login that the token descends from. */
  sessionId: string;
  /** Until when the token is good, in ms since 1970. */
  expiresAtMs: number;
}

/** Claims of RFC 7519; `sid` as in OpenID Connect Front-Channel Logout, section 3. */
interface Claims {
  sub: string;
  name: string;
  sid: string;
  exp: number;
}

/**
 * Access tokens: short JWTs, verified without the database, so that any node can judge one. What they can't say is whether their session
 * was ended since: REST asks that in its guard, sockets are told.
 */
@Injectable()
export class AccessTokens {
  private readonly jwt: JwtService;

  constructor(@Inject(CONFIG) config: Config) {
    this.jwt = new JwtService({
      // A key object: what is given as text is tried as a public key first, each time, which costs forty times the check.
      secret: createSecretKey(config.JWT_ACCESS_SECRET, 'utf8'),
      signOptions: { algorithm: 'HS256', expiresIn: config.ACCESS_TOKEN_TTL_S },
      // One algorithm, so that a token can't choose how it is judged (RFC 8725, section 3.1).
      verifyOptions: { algorithms: ['HS256'] },
    });
  }

  /** A new token, good for ACCESS_TOKEN_TTL_S. */
  issue({ userId, username, sessionId }: Omit<Identity, 'expiresAtMs'>): Promise<string> {
    return this.jwt.signAsync({ sub: userId, name: username, sid: sessionId });
  }

  /**
   * Takes a fraction of a millisecond: safe to call on a socket's path.
   * @throws ClientError `token_expired`; `unauthenticated` for anything else that is no token of ours.
   */
  verify(token: string): Identity {
    const claims = this.claims(token);
    if (!hasAllClaims(claims)) throw new ClientError('unauthenticated');
    return { userId: claims.sub, username: claims.name, sessionId: claims.sid, expiresAtMs: claims.exp * 1_000 };
  }

  private claims(token: string): object {
    try {
      return this.jwt.verify<object>(token);
    } catch (error) {
      throw new ClientError(error instanceof TokenExpiredError ? 'token_expired' : 'unauthenticated');
    }
  }
}

const hasAllClaims = (claims: Partial<Claims>): claims is Claims =>
  isUuid(claims.sub) && isUuid(claims.sid) && typeof claims.name === 'string' && typeof claims.exp === 'number';
