/** What befalls a node as a process. */
import { seconds, type WorldNode } from '../world.js';
import { oneNode, type Fault } from './scene.js';

async function restart(node: WorldNode, signal: NodeJS.Signals): Promise<void> {
  const code = await node.stop(signal);
  if (signal === 'SIGTERM' && code !== 0) throw new Error(`${node.name} ended with ${code} after SIGTERM`);
  await node.start();
}

export const nodeFaults = {
  nothing: () => seconds(8),
  'node killed': async (scene) => {
    for (let n = 0; n < 3; n++) await restart(oneNode(scene), 'SIGKILL');
  },
  'node stopped': async (scene) => {
    await restart(oneNode(scene), 'SIGTERM');
  },
  'nodes rolled': async ({ world: { nodes } }) => {
    for (const node of nodes) await restart(node, 'SIGTERM');
  },
  'node frozen for 10 s': async (scene) => {
    const node = oneNode(scene);
    node.signal('SIGSTOP');
    await seconds(10);
    node.signal('SIGCONT');
  },
} as const satisfies Record<string, Fault>;
