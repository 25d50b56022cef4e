/** What befalls single transactions. */
import { seconds } from '../world.js';
import type { Fault } from './scene.js';
import { inSession, withDatabaseSetting } from './sql.js';

export const transactionFaults = {
  'row locks held': (scene) =>
    inSession(scene, async (client) => {
      for (let n = 0; n < 3; n++) {
        await client.query('BEGIN');
        await client.query('SELECT id FROM rooms WHERE id = ANY ($1::uuid[]) FOR UPDATE', [scene.rooms]);
        await seconds(2);
        await client.query('COMMIT');
        await seconds(0.3);
      }
    }),
  deadlocks: async (scene) => {
    const rooms = scene.rooms.toSorted().toReversed(); // against the writer's order
    const until = Date.now() + 8_000;
    await inSession(scene, async (client) => {
      while (Date.now() < until) {
        await client.query('BEGIN');
        try {
          for (const room of rooms) {
            await client.query('SELECT id FROM rooms WHERE id = $1 FOR UPDATE', [room]);
            await seconds(0.05);
          }
          await client.query('COMMIT');
        } catch {
          await client.query('ROLLBACK');
        }
      }
    });
  },
  'lock_timeout of 20 ms': (scene) => withDatabaseSetting(scene, 'lock_timeout', '20ms', 6),
  'statement_timeout of 20 ms': (scene) => withDatabaseSetting(scene, 'statement_timeout', '20ms', 6),
  'serializable by default': (scene) => withDatabaseSetting(scene, 'default_transaction_isolation', 'serializable', 6),
} as const satisfies Record<string, Fault>;
