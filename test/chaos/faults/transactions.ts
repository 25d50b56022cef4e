/** What befalls single transactions. */
import type { Link } from '../../support/proxy.js';
import { readyForQuery } from '../postgres-wire.js';
import { seconds } from '../world.js';
import { Skipped, type Fault, type Scene } from './scene.js';
import { inSession, withDatabaseSetting } from './sql.js';

const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);

/** A program of the user's that writes to two rooms in a transaction, until `until`; @returns how often it was the victim of a deadlock */
function writesToBoth(scene: Scene, rooms: readonly [string, string], name: string, until: number): Promise<number> {
  const userId = scene.clients[0]?.user.id;
  return inSession(scene, async (client) => {
    let deadlocks = 0;
    for (let n = 0; Date.now() < until; n++) {
      await client.query('BEGIN');
      try {
        for (const room of rooms) {
          await client.query('INSERT INTO messages (room_id, user_id, content) VALUES ($1, $2, $3)', [
            room,
            userId,
            `${room} ${name} ${n}`,
          ]);
          await seconds(0.05);
        }
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK');
        if ((error as { code?: string }).code === '40P01') deadlocks++;
      }
    }
    return deadlocks;
  });
}

export const transactionFaults = {
  'answers to COMMIT lost': async ({ world: { nodes }, dice }) => {
    let lost = 0;
    for (const { database } of nodes) {
      const unheard = new WeakSet<Link>();
      database.onClientData = (chunk, link) => {
        if (/append_(batch|lone)/.test(chunk.toString('latin1')) && dice.below(10) === 0) unheard.add(link);
      };
      database.onServerData = (chunk, link) => {
        if (!unheard.has(link)) return true;
        if (!chunk.subarray(-readyForQuery.length).equals(readyForQuery)) return Buffer.alloc(0);
        lost++;
        return false; // it is committed now
      };
    }
    await seconds(8);
    for (const { database } of nodes) {
      database.onClientData = undefined;
      database.onServerData = undefined;
    }
    if (lost === 0) throw new Skipped('no answer was lost');
  },
  'row locks held': (scene) =>
    inSession(scene, async (client) => {
      for (let n = 0; n < 3; n++) {
        await client.query('BEGIN');
        await client.query('SELECT id FROM rooms WHERE id = ANY ($1::uuid[]) FOR UPDATE', [scene.rooms]);
        await seconds(2.6); // beyond the nodes' lock_timeout
        await client.query('COMMIT');
        await seconds(0.3);
      }
    }),
  'a storm of row locks': async (scene) => {
    const until = Date.now() + 8_000;
    const storm = Array.from({ length: 16 }, () =>
      inSession(scene, async (client) => {
        while (Date.now() < until) {
          await client.query('BEGIN');
          await client.query('SELECT id FROM rooms WHERE id = $1 FOR UPDATE', [scene.rooms[scene.dice.below(scene.rooms.length)]]);
          await seconds(scene.dice.below(40) / 1_000);
          await client.query('COMMIT');
        }
      }),
    );
    await Promise.all(storm);
  },
  deadlocks: async (scene) => {
    const until = Date.now() + 10_000;
    const [a = '', b = '', ...others] = scene.rooms.toSorted();
    const last = others.at(-1) ?? b;
    const deadlocks = await Promise.all([
      writesToBoth(scene, [a, b], 'ascending', until),
      writesToBoth(scene, [b, a], 'descending', until),
      writesToBoth(scene, [last, a], 'from the last', until), // against the writer's order
    ]);
    if (sum(deadlocks) === 0) throw new Skipped('there was no deadlock');
  },
  'statement time-outs': async (scene) => {
    const { sql } = scene.world.postgres;
    // A trigger of the user's own that is too slow at times.
    await sql.query(`
      CREATE FUNCTION chaos_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF random() < 0.05 THEN PERFORM pg_sleep(5.5); END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER chaos_slow BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION chaos_slow()`);
    await seconds(12);
    await sql.query('DROP TRIGGER chaos_slow ON messages; DROP FUNCTION chaos_slow()');
  },
  'serializable by default': (scene) => withDatabaseSetting(scene, 'default_transaction_isolation', 'serializable', 6),
  'payloads at the edge': async ({ clients, rooms, dice }) => {
    // Of one to four bytes in UTF-8, and of two and six in JSON.
    const fillers = ['x', 'é', '漢', '😀', '"', '\u0001'];
    for (let n = 0; n < 500; n++) {
      const filler = fillers[dice.below(fillers.length)] ?? 'x';
      const bytes = Buffer.byteLength(JSON.stringify(filler)) - 2;
      const share = 1 + dice.below(3); // of a payload: alone, or two or three together
      const padding = Math.floor((8_000 / share - dice.below(450)) / bytes);
      const room = rooms[dice.below(rooms.length)] ?? '';
      for (let k = 0; k < share; k++) clients[dice.below(clients.length)]?.send(room, padding, filler);
      await seconds(0.016);
    }
  },
} as const satisfies Record<string, Fault>;
