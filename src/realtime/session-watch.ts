import type { Logger } from 'pino';
import type { Sessions } from '../auth/sessions.js';
import type { Connection } from './connection.js';

/**
 * Closes the sockets whose session is over, wherever and by whatever means it was ended. Asks once a second for all sockets of the node in one
 * statement, so it needs no bus, and neither a handshake nor a frame needs a query. While the database is away nothing is closed.
 */
export class SessionWatch {
  private checking = false;

  constructor(
    private readonly sessions: Pick<Sessions, 'overAmong'>,
    private readonly log: Logger,
  ) {}

  /** Does nothing while the check before it is still under way. */
  async check(connections: Iterable<Pick<Connection, 'sessionId' | 'close'>>): Promise<void> {
    if (this.checking) return;
    const ids = new Set<string>();
    for (const { sessionId } of connections) if (sessionId !== undefined) ids.add(sessionId);
    if (ids.size === 0) return;
    this.checking = true;
    try {
      const over = await this.sessions.overAmong([...ids]);
      if (over.size === 0) return;
      // By the session that a socket has now: it may have been renewed with another one's token.
      for (const connection of connections) {
        if (connection.sessionId !== undefined && over.has(connection.sessionId)) connection.close('sessionRevoked');
      }
    } catch (error) {
      this.log.debug({ err: error }, 'the sessions of the sockets could not be checked');
    } finally {
      this.checking = false;
    }
  }
}
