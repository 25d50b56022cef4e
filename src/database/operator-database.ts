import type { Config } from '../config.js';
import { AlreadyServedError, embeddedUrl, startEmbeddedPostgres } from './embedded-postgres.js';

/** The database for a command of an operator: the one that is given, or the embedded one, which is used where it runs and else started meanwhile. */
export async function operatorDatabase({ DATABASE_URL, DATA_DIR }: Config): Promise<{ url: string; stop: () => Promise<void> }> {
  if (DATABASE_URL !== '') return { url: DATABASE_URL, stop: () => Promise.resolve() };
  try {
    const embedded = await startEmbeddedPostgres(DATA_DIR);
    return { url: embedded.connectionString, stop: () => embedded.stop() };
  } catch (error) {
    const url = error instanceof AlreadyServedError ? await embeddedUrl(DATA_DIR) : undefined;
    if (url === undefined) throw error;
    return { url, stop: () => Promise.resolve() };
  }
}
