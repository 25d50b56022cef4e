/** What every fault is given, and what several of them do. */
import type { Person } from '../../support/people.js';
import type { Proxy } from '../../support/proxy.js';
import type { ChaosClient } from '../client.js';
import type { Dice } from '../dice.js';
import type { Event } from '../history.js';
import { seconds, type World, type WorldNode } from '../world.js';

export interface Scene {
  readonly world: World;
  readonly clients: readonly ChaosClient[];
  /** In the order of the first clients. */
  readonly people: readonly Person[];
  /** Where the load goes. */
  readonly rooms: readonly string[];
  readonly dice: Dice;
  /** What was recorded so far. */
  readonly events: readonly Event[];
  newPerson(): Promise<Person>;
  /** A room for the fault alone, which is judged with the others. */
  newRoom(members: readonly Person[]): Promise<string>;
  /** One more client, which connects, and has to be whole again at the end as all others. */
  newClient(person: Person): ChaosClient;
  /** Ends a client that is not to come back. */
  dismiss(client: ChaosClient): void;
}

/** The machine has not what this fault needs, or it did not come about. */
export class Skipped extends Error {}

/** Breaks something of the world for a while, and has put it right when it resolves. */
export type Fault = (scene: Scene) => Promise<void>;

export const oneNode = ({ world: { nodes }, dice }: Scene): WorldNode => nodes[dice.below(nodes.length)] as WorldNode;

/** Some of what the server or a node sends is lost, and the connection with it, so that who waits never hears. */
export async function losing(proxies: readonly Proxy[], dice: Dice, lastsS: number): Promise<void> {
  for (const proxy of proxies) proxy.onServerData = () => dice.below(200) > 0;
  await seconds(lastsS);
  for (const proxy of proxies) proxy.onServerData = undefined;
}
