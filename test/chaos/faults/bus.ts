/** What befalls LISTEN and NOTIFY. */
import { seconds } from '../world.js';
import { oneNode, type Fault } from './scene.js';
import { inSession, terminate } from './sql.js';

export const busFaults = {
  'LISTEN ended': async (scene) => {
    for (let n = 0; n < 4; n++) {
      await terminate(scene, 'LISTEN');
      await seconds(2);
    }
  },
  'LISTEN half-open': async (scene) => {
    const { listen } = oneNode(scene);
    listen.swallow();
    await seconds(8);
    listen.heal();
  },
  'NOTIFY queue full': (scene) =>
    inSession(scene, async (client) => {
      await client.query('LISTEN trunkline_chaos');
      await client.query('BEGIN');
      await client.query('SELECT 1'); // a listener in a transaction holds the queue's tail
      await seconds(12);
      await client.query('COMMIT');
    }),
  'notifications forged and doubled': (scene) =>
    inSession(scene, async (client) => {
      const heard: string[] = [];
      client.on('notification', ({ payload }) => heard.push(payload ?? ''));
      await client.query('LISTEN trunkline');
      for (let n = 0; n < 300; n++) {
        await seconds(0.02);
        const again = heard[scene.dice.below(Math.max(1, heard.length))] ?? '';
        const forged = `${again.slice(0, 40)}${'{'.repeat(scene.dice.below(20))}${again.slice(41)}`;
        await client.query("SELECT pg_notify('trunkline', $1), pg_notify('trunkline', $2)", [again, forged.slice(0, 7_900)]);
        if (heard.length > 500) heard.splice(0, 250);
      }
    }),
} as const satisfies Record<string, Fault>;
