import type { Logger } from 'pino';
import type { Sessions } from '../auth/sessions.js';
import { ClientError } from '../protocol/errors.js';
import type { Connection } from './connection.js';

/** Commands wait for the next check where one failed. */
const retryMs = 250;

/**
 * Looks up once a second, for all sockets of the node in one statement, which sessions are over, and closes their sockets. It needs no bus. Sockets whose
 * session is live are told as of when that is known: while the database can't be asked nothing is closed, and by itself each socket accepts nothing on
 * behalf of a session that was looked up too long ago.
 */
export class SessionWatch {
  private checking = false;

  constructor(
    private readonly sessions: Pick<Sessions, 'overAmong'>,
    private readonly log: Logger,
  ) {}

  /** Does nothing while the check before it is still under way. */
  async check(connections: Iterable<Pick<Connection, 'sessionId' | 'close' | 'proven'>>): Promise<void> {
    if (this.checking) return;
    const ids = new Set<string>();
    for (const { sessionId } of connections) if (sessionId !== undefined) ids.add(sessionId);
    if (ids.size === 0) return;
    this.checking = true;
    const askedAt = performance.now();
    try {
      const over = await this.sessions.overAmong([...ids]);
      for (const connection of connections) {
        // By the session that a socket has now: it may have been renewed with another one's token.
        const { sessionId } = connection;
        if (sessionId === undefined || !ids.has(sessionId)) continue;
        if (over.has(sessionId)) connection.close('sessionRevoked');
        else connection.proven(askedAt);
      }
    } catch (error) {
      this.log[error instanceof ClientError && error.temporary ? 'debug' : 'error'](
        { err: error },
        'the sessions of the sockets could not be checked',
      );
      setTimeout(() => void this.check(connections), retryMs).unref();
    } finally {
      this.checking = false;
    }
  }
}
