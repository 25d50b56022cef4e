/** Every fault there is, by name; in this order `--all` plays them. */
import type { Dice } from './dice.js';
import { busFaults } from './faults/bus.js';
import { clientFaults } from './faults/clients.js';
import { diskFaults } from './faults/disk.js';
import { failoverFaults } from './faults/failover.js';
import { nodeFaults } from './faults/nodes.js';
import { serverFaults } from './faults/server.js';
import { tableFaults } from './faults/tables.js';
import { transactionFaults } from './faults/transactions.js';
import { versionFaults } from './faults/versions.js';

const databaseFaults = { ...busFaults, ...serverFaults, ...failoverFaults, ...transactionFaults };

export const faults = { ...nodeFaults, ...versionFaults, ...databaseFaults, ...diskFaults, ...tableFaults, ...clientFaults };

export type FaultName = keyof typeof faults;

export const faultNames = Object.keys(faults) as FaultName[];

/** After these, what was acked before may be gone, with its epoch. */
export const losesCommits: ReadonlySet<FaultName> = new Set<FaultName>(['failover to a lagging standby']);

/** During these a send may have no answer of PostgreSQL until its time is over. */
export const leavesDoubt: ReadonlySet<FaultName> = new Set<FaultName>([
  'node frozen for 10 s',
  'NOTIFY queue full',
  'PostgreSQL a byte at a time', // so that a full batch takes longer than a statement may
  'PostgreSQL down for 60 s',
  'disk of the write-ahead log full',
  'failover to a synchronous standby',
  'failover to a lagging standby',
]);

export const makesHoles: ReadonlySet<FaultName> = new Set<FaultName>(['holes in a log']);

/** Faults of two of these kinds do not take the same thing in hand, and can be had at once. */
const kinds = [databaseFaults, nodeFaults, clientFaults].map((kind) => Object.keys(kind) as FaultName[]);

/** These need a world that is well otherwise. */
const alone: ReadonlySet<FaultName> = new Set<FaultName>([
  'nothing',
  'a session revoked while the bus is away',
  '2000 clients reconnect at once',
]);

/** Each fault that can be had together with others, with one or two of other kinds. */
export function mixtures(dice: Dice): FaultName[][] {
  const shuffled = kinds.map((names) =>
    shuffle(
      names.filter((name) => !alone.has(name)),
      dice,
    ),
  );
  const most = Math.max(...shuffled.map(({ length }) => length));
  return Array.from({ length: most }, (_, n) => {
    const mixture = shuffled.map((names) => names[n % names.length] as FaultName);
    if (dice.below(2) === 0) mixture.splice(1 + dice.below(mixture.length - 1), 1);
    return mixture;
  });
}

function shuffle<T>(values: readonly T[], dice: Dice): T[] {
  const rest = [...values];
  return values.map(() => rest.splice(dice.below(rest.length), 1)[0] as T);
}
