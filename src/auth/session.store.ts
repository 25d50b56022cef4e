/**
 * Sessions: one for each login, with one live refresh token. What ends a session ends every token that descends from its login.
 */
import Type, { type Static } from 'typebox';
import type { Queryable } from '../database/database.js';
import { time, uuid } from '../protocol/fields.js';
import type { User } from '../users/user.store.js';

/** Sessions that ended or expired are kept for so long, so that it can be looked up why somebody was logged out. */
const keptFor = '1 day';
/** Somebody with more logins than that sees those that were used last. */
const listedMax = 100;

/** A session as its user sees it. */
export const sessionRowSchema = Type.Object({
  id: uuid('UUID v7'),
  device_name: Type.String(),
  address: Type.Union([Type.String(), Type.Null()], { description: 'IPv4 or IPv6, from where the login came; null where it is not known' }),
  created_at: time('when it was logged in'),
  last_used_at: time('when it was used last, give or take a minute'),
});
export type SessionRow = Static<typeof sessionRowSchema>;

export interface SessionLife {
  /** How long a session lasts without a refresh. */
  idleS: number;
  /** How long it lasts at most, however often it is refreshed. */
  maxAgeS: number;
}

export interface NewSession extends SessionLife {
  /** UUID v7. */
  id: string;
  userId: string;
  /** Of the password that was checked for this login. */
  passwordVersion: number;
  refreshTokenHash: Buffer;
  deviceName: string;
  address: string | null;
  /** That the login came from, as `KeyedHash` makes it: from now on one that the user is known from. */
  network: Buffer;
}

/** Networks that a user is known from; the one that was used longest ago goes first. */
const knownNetworksMax = 20;

/**
 * Starts a session. The row lock makes it wait for a change of the password, and the change for it: which of the two comes first, the
 * other sees.
 * @returns false where the password was changed since it was checked, or the user is gone
 */
export async function insertSession(db: Queryable, session: NewSession): Promise<boolean> {
  const { id, userId, passwordVersion, refreshTokenHash, deviceName, address, network, idleS, maxAgeS } = session;
  const { rowCount } = await db.query(
    `WITH account AS (SELECT id FROM users WHERE id = $2 AND password_version = $3 FOR SHARE),
      known AS (
        INSERT INTO known_networks AS k (user_id, network) SELECT id, $9::bytea FROM account
        ON CONFLICT (user_id, network) DO UPDATE SET last_login_at = now() WHERE k.last_login_at < now() - interval '1 day'
      ),
      forgotten AS (
        DELETE FROM known_networks WHERE user_id = $2 AND network IN (
          SELECT network FROM known_networks WHERE user_id = $2 AND network IN (
            SELECT network FROM known_networks WHERE user_id = (SELECT id FROM account) AND network <> $9
            ORDER BY last_login_at DESC OFFSET $10
          ) FOR UPDATE SKIP LOCKED
        )
      )
      INSERT INTO sessions (id, user_id, refresh_token_hash, device_name, address, expires_at)
      SELECT $1, id, $4, $5, $6, now() + make_interval(secs => least($7::int, $8::int)) FROM account`,
    [id, userId, passwordVersion, refreshTokenHash, deviceName, address, idleS, maxAgeS, network, knownNetworksMax - 1],
  );
  return rowCount === 1;
}

/**
 * Exchanges a refresh token for another. One statement, so that of any number of uses at the same moment exactly one wins: the others wait
 * for its row lock, and then find that the hash is no longer there.
 * @returns the session's user, or undefined where the token is not the live one of a live session
 */
export async function rotateRefreshToken(
  db: Queryable,
  sessionId: string,
  oldHash: Buffer,
  newHash: Buffer,
  { idleS, maxAgeS }: SessionLife,
): Promise<User | undefined> {
  const { rows } = await db.query<User>(
    `WITH rotated AS (
        UPDATE sessions SET refresh_token_hash = $3, refreshed_at = now(), last_used_at = now(),
          expires_at = least(now() + make_interval(secs => $4), created_at + make_interval(secs => $5))
        WHERE id = $1 AND refresh_token_hash = $2 AND ended_at IS NULL AND expires_at > now() AND created_at + make_interval(secs => $5) > now()
        RETURNING user_id
      )
      SELECT users.id, users.username, users.email, users.created_at FROM rotated JOIN users ON users.id = rotated.user_id`,
    [sessionId, oldHash, newHash, idleS, maxAgeS],
  );
  return rows[0];
}

/** The user of a live session, where the token of that hash is its live one and became it within the last `graceS` seconds. */
export async function findJustRotated(db: Queryable, sessionId: string, hash: Buffer, graceS: number): Promise<User | undefined> {
  const { rows } = await db.query<User>(
    `SELECT users.id, users.username, users.email, users.created_at FROM sessions JOIN users ON users.id = sessions.user_id
      WHERE sessions.id = $1 AND refresh_token_hash = $2 AND refreshed_at > now() - make_interval(secs => $3)
        AND ended_at IS NULL AND expires_at > now()`,
    [sessionId, hash, graceS],
  );
  return rows[0];
}

/** Ends a session whose token of that hash is spent. @returns false where it is over already, or the token is not spent */
export async function endSessionOfSpentToken(db: Queryable, sessionId: string, hash: Buffer): Promise<boolean> {
  const { rowCount } = await db.query(
    'UPDATE sessions SET ended_at = now() WHERE id = $1 AND refresh_token_hash <> $2 AND ended_at IS NULL AND expires_at > now()',
    [sessionId, hash],
  );
  return rowCount === 1;
}

/** Ends a session of the user. @returns false where it is not the user's, or over already */
export async function endSession(db: Queryable, userId: string, sessionId: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'UPDATE sessions SET ended_at = now() WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now()',
    [sessionId, userId],
  );
  return rowCount === 1;
}

/** Ends every session of the user, but the one to be kept. @returns those that it ended */
export async function endSessions(db: Queryable, userId: string, keptId: string | null = null): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    'UPDATE sessions SET ended_at = now() WHERE user_id = $1 AND id IS DISTINCT FROM $2 AND ended_at IS NULL RETURNING id',
    [userId, keptId],
  );
  return rows.map(({ id }) => id);
}

/**
 * Keeps a session from ending before the transaction does.
 * @returns false where it is not the user's, or over already
 */
export async function holdLiveSession(db: Queryable, { userId, sessionId }: SessionKey): Promise<boolean> {
  const { rowCount } = await db.query(
    'SELECT FROM sessions WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now() FOR SHARE',
    [sessionId, userId],
  );
  return rowCount === 1;
}

/** The live sessions of a user, the one that was used last first. */
export async function readSessions(db: Queryable, userId: string): Promise<SessionRow[]> {
  const { rows } = await db.query<SessionRow>(
    `SELECT id, device_name, host(address) AS address, created_at, last_used_at FROM sessions
      WHERE user_id = $1 AND ended_at IS NULL AND expires_at > now() ORDER BY last_used_at DESC, id DESC LIMIT $2`,
    [userId, listedMax],
  );
  return rows;
}

/** False where the session was ended, has expired, or was never the user's. */
export async function isSessionLive(db: Queryable, userId: string, sessionId: string): Promise<boolean> {
  const { rows } = await db.query({
    name: 'is-session-live',
    text: 'SELECT 1 FROM sessions WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now()',
    values: [sessionId, userId],
  });
  return rows.length > 0;
}

export interface SessionKey {
  readonly sessionId: string;
  readonly userId: string;
}

/** Of each, as `isSessionLive`. */
export async function areSessionsLive(db: Queryable, keys: readonly SessionKey[]): Promise<boolean[]> {
  const { rows } = await db.query<{ n: number }>({
    name: 'are-sessions-live',
    // LATERAL with a LIMIT keeps the planner on the primary key.
    text: `SELECT asked.n::int FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS asked (id, user_id, n)
      CROSS JOIN LATERAL (
        SELECT FROM sessions AS s WHERE s.id = asked.id AND s.user_id = asked.user_id AND s.ended_at IS NULL AND s.expires_at > now() LIMIT 1
      ) AS live`,
    values: [keys.map(({ sessionId }) => sessionId), keys.map(({ userId }) => userId)],
  });
  const live = keys.map(() => false);
  for (const { n } of rows) live[n - 1] = true;
  return live;
}

/** Those of the sessions that are over, or were never there. The answer is as short as the news, however many are asked for. */
export async function findOver(db: Queryable, sessionIds: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'find-over',
    text: `SELECT id FROM pg_catalog.unnest($1::uuid[]) AS asked (id)
      WHERE NOT EXISTS (SELECT FROM sessions WHERE sessions.id = asked.id AND ended_at IS NULL AND expires_at > now())`,
    values: [sessionIds],
  });
  return rows.map(({ id }) => id);
}

/** Notes that the sessions are in use, those for which that was not noted within a minute. What somebody else changes just now is left to him. */
export async function touchSessions(db: Queryable, sessionIds: readonly string[]): Promise<void> {
  await db.query(
    `WITH used AS (
        SELECT id FROM sessions WHERE id = ANY ($1::uuid[]) AND last_used_at < now() - interval '1 minute' FOR NO KEY UPDATE SKIP LOCKED
      )
      UPDATE sessions SET last_used_at = now() FROM used WHERE sessions.id = used.id`,
    [sessionIds],
  );
}

/** Deletes at most `max` sessions that have been over for a day, and returns how many. Any number of nodes may do it at once. */
export async function deleteOldSessions(db: Queryable, max: number): Promise<number> {
  const { rowCount } = await db.query(
    `DELETE FROM sessions WHERE id = ANY (ARRAY(
        SELECT id FROM sessions WHERE least(ended_at, expires_at) < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED
      ))`,
    [keptFor, max],
  );
  return rowCount ?? 0;
}
