/** Every fault there is, by name; in this order `--all` plays them. */
import { busFaults } from './faults/bus.js';
import { clientFaults } from './faults/clients.js';
import { nodeFaults } from './faults/nodes.js';
import { serverFaults } from './faults/server.js';
import { transactionFaults } from './faults/transactions.js';

export const faults = { ...nodeFaults, ...busFaults, ...serverFaults, ...transactionFaults, ...clientFaults };

export type FaultName = keyof typeof faults;
