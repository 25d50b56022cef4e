/** What befalls LISTEN and NOTIFY. */
import { eventually } from '../../support/eventually.js';
import type { Link } from '../../support/proxy.js';
import { changeMessages, simpleQuery } from '../postgres-wire.js';
import { seconds } from '../world.js';
import { oneNode, Skipped, type Fault, type Scene } from './scene.js';
import { inSession, terminate } from './sql.js';

/** Puts in place of each notification on its way to a node what `change` makes of it. */
async function withNotifications(
  { world: { nodes } }: Scene,
  lastsS: number,
  change: (notification: Buffer, link: Link) => readonly Buffer[],
): Promise<void> {
  const ends = nodes.map(({ listen }) => changeMessages(listen, ({ type, bytes }, link) => (type === 'A' ? change(bytes, link) : [bytes])));
  await seconds(lastsS);
  for (const end of ends) end();
}

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
  UNLISTENed: async ({ world: { nodes } }) => {
    let ended = 0;
    /** Of the answer to what the node did not ask. */
    const unasked = new WeakSet<Link>();
    const unlisten = (link: Link): void => {
      unasked.add(link);
      link.toServer(simpleQuery('UNLISTEN *'));
    };
    const ends = nodes.map(({ listen }) =>
      changeMessages(listen, ({ type, bytes }, link) => {
        if (type === 'C' && bytes.includes('LISTEN\0') && !unasked.has(link)) setTimeout(() => unlisten(link), 1_500);
        if (!unasked.has(link) || (type !== 'C' && type !== 'Z')) return [bytes];
        if (type === 'C') ended++;
        else unasked.delete(link);
        return [];
      }),
    );
    await seconds(14);
    for (const end of ends) end();
    if (ended < 2 * nodes.length) throw new Skipped(`only ${ended} sessions were UNLISTENed`);
  },
  'a session revoked while the bus is away': async (scene) => {
    const { nodes, postgres } = scene.world;
    const person = await scene.newPerson();
    const room = await scene.newRoom([...scene.people.slice(0, 1), person]);
    const client = scene.newClient(person);
    client.follow(room);
    await eventually(() => client.follows(room), 'the client to follow the room', 10_000);
    for (const { listen } of nodes) listen.swallow();
    await seconds(1);
    await postgres.sql.query('UPDATE sessions SET ended_at = now() WHERE id = $1', [person.sessionId]); // as a logout does
    await eventually(() => !client.isConnected, 'the socket of the session to be closed', 3_000);
    await seconds(4);
    if (client.isConnected) throw new Error('the session opened another socket');
    scene.dismiss(client);
    for (const { listen } of nodes) {
      listen.heal();
      listen.cut();
    }
  },
  'NOTIFY queue full': (scene) =>
    inSession(scene, async (stopped) => {
      await stopped.query('LISTEN trunkline_chaos');
      await stopped.query('BEGIN');
      await stopped.query('SELECT 1'); // a listener in a transaction holds the queue's tail
      await inSession(scene, async (client) => {
        for (let refused = 0; refused < 20;) {
          const fill = client.query("SELECT pg_notify('trunkline_chaos', n || repeat('x', 7900)) FROM generate_series(1, 10) AS n");
          const outcome = await fill.then(
            () => 'stored',
            ({ code }: { code?: string }) => code,
          );
          if (outcome === '54000') refused++;
          else if (outcome !== 'stored') throw new Error(`the queue could not be filled: ${outcome}`);
          await seconds(0.05);
        }
      });
      await seconds(8);
      await stopped.query('COMMIT');
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
  'notifications lost and mangled': (scene) =>
    withNotifications(scene, 8, (notification) => {
      const fate = scene.dice.below(6);
      if (fate === 0) return [];
      // Not in its head, nor the NUL at its end: then it is no notification, and the connection is what breaks.
      if (fate === 1) notification[20 + scene.dice.below(notification.length - 21)] = 33 + scene.dice.below(90);
      return [notification];
    }),
  'notifications reordered and doubled': (scene) => {
    const held = new WeakMap<Link, Buffer[]>();
    return withNotifications(scene, 8, (notification, link) => {
      const waiting = held.get(link) ?? [];
      held.set(link, waiting);
      const copy = Buffer.from(notification);
      if (waiting.length < 20 && scene.dice.below(3) === 0) {
        waiting.splice(scene.dice.below(waiting.length + 1), 0, copy);
        return scene.dice.below(2) === 0 ? [] : [notification]; // later alone, or later again
      }
      return [notification, ...waiting.splice(0, scene.dice.below(3))];
    });
  },
} as const satisfies Record<string, Fault>;
