/** Every fault there is, by name; in this order `--all` plays them. */
import { busFaults } from './faults/bus.js';
import { clientFaults } from './faults/clients.js';
import { diskFaults } from './faults/disk.js';
import { failoverFaults } from './faults/failover.js';
import { nodeFaults } from './faults/nodes.js';
import { serverFaults } from './faults/server.js';
import { tableFaults } from './faults/tables.js';
import { transactionFaults } from './faults/transactions.js';

export const faults = {
  ...nodeFaults,
  ...busFaults,
  ...serverFaults,
  ...failoverFaults,
  ...diskFaults,
  ...transactionFaults,
  ...tableFaults,
  ...clientFaults,
};

export type FaultName = keyof typeof faults;

/** After these, what was acked before may be gone, with its epoch. */
export const losesCommits: ReadonlySet<FaultName> = new Set<FaultName>(['failover to a lagging standby']);
