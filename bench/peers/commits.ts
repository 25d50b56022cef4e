import pg from 'pg';

/** What bounds whoever commits each message alone: single-row transactions that wait for the disk one after the other. @returns commits a second */
export async function commitsPerSecond(databaseUrl: string, ms: number): Promise<number> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('CREATE TABLE IF NOT EXISTS commits (content text NOT NULL)');
    const started = performance.now();
    let commits = 0;
    for (; performance.now() - started < ms; commits++) {
      await client.query({
        name: 'commit',
        text: 'INSERT INTO commits (content) VALUES ($1)',
        values: ['This is what people say to each other in a room.'],
      });
    }
    return commits / ((performance.now() - started) / 1_000);
  } finally {
    await client.end();
  }
}
