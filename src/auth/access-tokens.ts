import { createSecretKey } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
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

/** The nodes of a deployment share one key: they are one issuer, and the only audience. */
const deployment = 'trunkline';
/** RFC 9068, section 2.1: a JWT that the same key signs for another use is no access token. */
const tokenType = 'at+jwt';
/** The clocks of two nodes may differ by so much. */
const clockSkewS = 60;
/** 9999-12-31T23:59:59Z, the last second that RFC 3339 can write. */
const lastSecond = 253_402_300_799;

const second = Type.Integer({ minimum: 0, maximum: lastSecond });
const uuid = Type.String({ pattern: '^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$' });

const headerSchema = Type.Object({
  alg: Type.Literal('HS256'),
  typ: Type.Literal(tokenType),
  // RFC 7515, section 4.1.11: a token with an extension that is not understood is refused, and none is understood here.
  crit: Type.Optional(Type.Never()),
});

/** Claims of RFC 7519 and RFC 9068; `sid` as in OpenID Connect Front-Channel Logout, section 3. */
const claimsSchema = Type.Object({
  iss: Type.Literal(deployment),
  aud: Type.Literal(deployment),
  sub: uuid,
  name: Type.String({ minLength: 1, maxLength: 256 }),
  sid: uuid,
  iat: second,
  exp: second,
  nbf: Type.Optional(second),
});

const tokenSchema = Compile(Type.Object({ header: headerSchema, payload: claimsSchema }));

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
      signOptions: {
        algorithm: 'HS256',
        header: { alg: 'HS256', typ: tokenType },
        issuer: deployment,
        audience: deployment,
        expiresIn: config.ACCESS_TOKEN_TTL_S,
      },
      // One algorithm, so that a token can't choose how it is judged (RFC 8725, section 3.1). The times are judged by the schema first.
      verifyOptions: { algorithms: ['HS256'], ignoreExpiration: true, ignoreNotBefore: true, complete: true },
    });
  }

  /** A new token, good for ACCESS_TOKEN_TTL_S. */
  issue({ userId, username, sessionId }: Omit<Identity, 'expiresAtMs'>): Promise<string> {
    return this.jwt.signAsync({ sub: userId, name: username, sid: sessionId });
  }

  /**
   * Takes a fraction of a millisecond: safe to call on a socket's path.
   * @throws ClientError `token_expired`; `unauthenticated` for anything else that is no token of ours. Nothing else.
   */
  verify(token: string): Identity {
    const { sub, name, sid, iat, exp, nbf = iat } = this.claims(token);
    const now = Date.now() / 1_000;
    if (Math.max(iat, nbf) > now + clockSkewS) throw new ClientError('unauthenticated');
    if (exp <= now) throw new ClientError('token_expired');
    return { userId: sub, username: name, sessionId: sid, expiresAtMs: exp * 1_000 };
  }

  /** The session that a token is or was of, whether or not it has expired; undefined where it is no token of ours. */
  sessionOf(token: string): string | undefined {
    try {
      return this.claims(token).sid;
    } catch {
      return undefined;
    }
  }

  /** @throws ClientError `unauthenticated` */
  private claims(token: string): Static<typeof claimsSchema> {
    let signed: unknown;
    try {
      signed = this.jwt.verify<object>(token);
    } catch {
      throw new ClientError('unauthenticated');
    }
    if (!tokenSchema.Check(signed) || !signed.payload.name.isWellFormed() || signed.payload.name.includes('\0'))
      throw new ClientError('unauthenticated');
    return signed.payload;
  }
}
