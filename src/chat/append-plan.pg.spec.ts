import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { createPerson, createRoom } from '../../test/support/people.js';
import { createTestDatabase } from '../../test/support/test-database.js';
import { loadConfig } from '../config.js';
import { Database } from '../database/database.js';
import { appendMessages } from './message.store.js';

it.each(['were never analyzed', 'were analyzed while they were empty', 'were analyzed when they had a few rows'])(
  'finds a client_msg_id by its own index, also on tables that %s',
  async (state) => {
    const test = await createTestDatabase();
    const db = new Database(loadConfig({ DATABASE_URL: test.url, JWT_ACCESS_SECRET: 'x'.repeat(32) }), pino({ level: 'silent' }));
    try {
      // Or it may analyze them before the test has read what it wants to read.
      await test.sql.query('ALTER TABLE messages SET (autovacuum_enabled = off)');
      if (state.includes('empty')) await test.sql.query('ANALYZE');
      const ann = await createPerson(test.sql);
      const roomId = await createRoom(test.sql, [ann]);
      const send = (count: number, withKeys: boolean) =>
        appendMessages(
          db,
          Array.from({ length: count }, () => ({ userId: ann.id, roomId, content: 'x', clientMsgId: withKeys ? randomUUID() : undefined })),
        );
      if (state.includes('few')) {
        await send(60, false);
        await test.sql.query('ANALYZE');
      }
      for (let n = 0; n < 10; n++) await send(1, false); // the plan that is kept is made now
      for (let n = 0; n < 4; n++) await send(500, false);
      for (let n = 0; n < 20; n++) await send(10, true);
      for (let n = 0; n < 20; n++) await send(1, true);

      // What a backend has counted is shown when it goes, at the latest.
      await db.onApplicationShutdown();
      const { rows } = await test.sql.query<{ rows_read: number }>(
        `SELECT (idx_tup_read + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'messages'))::int AS rows_read
         FROM pg_stat_user_indexes WHERE indexrelname = 'messages_pkey'`,
      );
      expect(rows[0]?.rows_read).toBeLessThan(100);
    } finally {
      await test.drop();
    }
  },
);

it('finds and locks a room by its key, however many rooms there are', async () => {
  const test = await createTestDatabase();
  const db = new Database(loadConfig({ DATABASE_URL: test.url, JWT_ACCESS_SECRET: 'x'.repeat(32) }), pino({ level: 'silent' }));
  try {
    await test.sql.query('ALTER TABLE rooms SET (autovacuum_enabled = off)');
    await test.sql.query(
      `INSERT INTO rooms (bucket, id, name, created_by) SELECT room_bucket(u), u, 'one of many', u FROM (SELECT gen_random_uuid() AS u FROM generate_series(1, 20000)) AS made`,
    );
    const ann = await createPerson(test.sql);
    const rooms = await Promise.all(Array.from({ length: 5 }, () => createRoom(test.sql, [ann])));
    for (let n = 0; n < 20; n++) {
      const outcomes = await appendMessages(
        db,
        rooms.map((roomId) => ({ userId: ann.id, roomId, content: 'x', clientMsgId: randomUUID() })),
      );
      expect(outcomes.map(({ status }) => status)).toEqual(rooms.map(() => 'stored'));
    }
    await db.onApplicationShutdown();
    const { rows } = await test.sql.query<{ rows_read: number }>(
      `SELECT (idx_tup_read + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'rooms'))::int AS rows_read
       FROM pg_stat_user_indexes WHERE indexrelname = 'rooms_pkey'`,
    );
    // Each of 20 batches looks its 5 rooms up to lock, to bump and to check them; not all of what is read is a row that is still alive.
    expect(rows[0]?.rows_read).toBeLessThan(5_000);
  } finally {
    await test.drop();
  }
});
