/** What befalls clients, and the way between them and the nodes. */
import { seconds } from '../world.js';
import { losing, oneNode, type Fault } from './scene.js';

export const clientFaults = {
  'clients cut': async ({ world: { nodes } }) => {
    for (let n = 0; n < 6; n++) {
      for (const { front } of nodes) front.cut();
      await seconds(1.2);
    }
  },
  'answers to clients lost': ({ world: { nodes }, dice }) =>
    losing(
      nodes.map(({ front }) => front),
      dice,
      8,
    ),
  'clients half-open': async (scene) => {
    const { front } = oneNode(scene);
    front.swallow();
    await seconds(14);
    front.heal();
  },
  'clients that do not read': async ({ clients }) => {
    const slow = clients.filter((_, n) => n % 3 === 0);
    for (const client of slow) client.pauseReading(true);
    await seconds(8);
    for (const client of slow) client.pauseReading(false);
  },
} as const satisfies Record<string, Fault>;
