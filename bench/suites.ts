import type { Suite } from './suite.js';
import { bus } from './suites/bus.js';
import { endToEnd } from './suites/end-to-end.js';
import { fanOut } from './suites/fan-out.js';
import { floodsSuite } from './suites/floods.js';
import { grownTable } from './suites/grown-table.js';
import { idle } from './suites/idle.js';
import { largeRoom } from './suites/large-room.js';
import { latency } from './suites/latency.js';
import { peersSuite } from './suites/peers.js';
import { presence } from './suites/presence.js';
import { resume } from './suites/resume.js';
import { scaling } from './suites/scaling.js';
import { storm } from './suites/storm.js';
import { untaken } from './suites/untaken.js';
import { write } from './suites/write.js';

/** In the order in which they are measured. */
export const suites: readonly Suite[] = [
  write,
  grownTable,
  bus,
  fanOut,
  endToEnd,
  latency,
  scaling,
  peersSuite,
  resume,
  idle,
  largeRoom,
  untaken,
  storm,
  presence,
  floodsSuite,
];
