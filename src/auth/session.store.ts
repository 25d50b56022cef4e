/**
 * Sessions: one for each login, with one live refresh token. What ends a session ends every token that descends from its login.
 */
import type { Queryable } from '../database/database.js';
import type { User } from '../users/user.store.js';

/** Sessions that ended or expired are kept for a day, so that it can be looked up why somebody was logged out. */
const keepEndedFor = '1 day';

export interface NewSession {
  /** UUID v7. */
  id: string;
  userId: string;
  refreshTokenHash: Buffer;
  lifeS: number;
}

/** Starts a session, and clears away what is left of the user's old ones. */
export async function insertSession(db: Queryable, { id, userId, refreshTokenHash, lifeS }: NewSession): Promise<void> {
  await db.query(
    `WITH old AS (
        DELETE FROM sessions WHERE user_id = $2 AND least(ended_at, expires_at) < now() - $5::interval
      )
      INSERT INTO sessions (id, user_id, refresh_token_hash, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4))`,
    [id, userId, refreshTokenHash, lifeS, keepEndedFor],
  );
}

/**
 * Exchanges a refresh token for another. One statement, so that of any number of uses at the same moment exactly one wins: the others wait
 * for its row lock, and then find that the hash is no longer there.
 * @returns the session's id and user, or undefined where the token is not the live one of a live session
 */
export async function rotateRefreshToken(
  db: Queryable,
  oldHash: Buffer,
  newHash: Buffer,
  lifeS: number,
): Promise<{ sessionId: string; user: User } | undefined> {
  const { rows } = await db.query<User & { session_id: string }>(
    `WITH rotated AS (
        UPDATE sessions SET refresh_token_hash = $2, refreshed_at = now(), expires_at = now() + make_interval(secs => $3)
        WHERE refresh_token_hash = $1 AND ended_at IS NULL AND expires_at > now()
        RETURNING id, user_id
      ), spent AS (
        INSERT INTO spent_refresh_tokens (hash, session_id) SELECT $1, id FROM rotated
      )
      SELECT rotated.id AS session_id, users.id, users.username, users.email, users.created_at
      FROM rotated JOIN users ON users.id = rotated.user_id`,
    [oldHash, newHash, lifeS],
  );
  const [row] = rows;
  if (row === undefined) return undefined;
  const { session_id: sessionId, ...user } = row;
  return { sessionId, user };
}

/**
 * Ends the session that a spent token belonged to: whoever uses it twice is two, and one of them has stolen it (RFC 9700, section 4.14.2).
 * @returns the id of the session, or undefined where nothing was to be ended
 */
export async function endSessionOfSpentToken(db: Queryable, hash: Buffer): Promise<string | undefined> {
  const { rows } = await db.query<{ id: string }>(
    `UPDATE sessions SET ended_at = now() FROM spent_refresh_tokens AS spent
      WHERE spent.hash = $1 AND sessions.id = spent.session_id AND sessions.ended_at IS NULL
      RETURNING sessions.id`,
    [hash],
  );
  return rows[0]?.id;
}

/** Ends a session of the user; does nothing where it is not the user's, or ended before. */
export async function endSession(db: Queryable, userId: string, sessionId: string): Promise<void> {
  await db.query('UPDATE sessions SET ended_at = now() WHERE id = $1 AND user_id = $2 AND ended_at IS NULL', [sessionId, userId]);
}

export async function endAllSessions(db: Queryable, userId: string): Promise<void> {
  await db.query('UPDATE sessions SET ended_at = now() WHERE user_id = $1 AND ended_at IS NULL', [userId]);
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
