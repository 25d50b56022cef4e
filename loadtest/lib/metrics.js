/** What is measured, and what must hold. */
import { Counter, Rate, Trend } from 'k6/metrics';
import { plan } from './plan.js';

/** One sample for each receiver: which part of what it must get came, from 0 to 1. What was planned is required, also if it could not be sent. */
export const delivered = new Trend('delivered');
export const required = new Counter('required');
export const missed = new Counter('missed');
/** One sample for each message that a sender must send: whether it came back to it. */
export const ownDelivered = new Rate('own_delivered');
/** From the send to the receipt, of one seq in `sampleEvery` at every client, if it was sent while the client was there. */
export const deliveryMs = new Trend('delivery_ms', true);
/** Messages received by all clients together, once a second. */
export const received = new Counter('received');
/** From the first packet to joined_room. */
export const connectMs = new Trend('connect_ms', true);
export const duplicates = new Counter('duplicates');
export const outOfOrder = new Counter('out_of_order');
/** Messages that are not what was sent. */
export const badPayloads = new Counter('bad_payloads');
/** Seqs of a room that a client never saw, though it saw later ones. */
export const holes = new Counter('holes');
/** Clients that lived to the end and gave account; who was interrupted could hide a loss. */
export const accounted = new Counter('accounted');
/** Sends, those that are repeated after a reconnect included. */
export const sent = new Counter('sent');
/** Connections that resumed with last_seen_seq. */
export const resumed = new Counter('resumed');
export const resyncs = new Counter('resyncs');
/** Connections that ended without the client's wish, and those that never opened. */
export const dropped = new Counter('dropped');
export const connectFailed = new Counter('connect_failed');
/** Frames `error`, by their code. */
export const errors = new Counter('errors');
/** One sample for each change of typing: whether a member saw it, and after how long. */
export const typingDelivered = new Rate('typing_delivered');
export const typingMs = new Trend('typing_ms', true);

const clients = Object.values(plan.roles).reduce((sum, { count }) => sum + count, 0);

const thresholds = {
  delivered: ['avg>0.999'],
  own_delivered: ['rate>0.999'],
  delivery_ms: ['p(95)<500'],
  connect_ms: ['p(95)<1000'],
  duplicates: ['count==0'],
  out_of_order: ['count==0'],
  bad_payloads: ['count==0'],
  accounted: [`count==${clients}`],
};

/** The options of a script. */
export const optionsFor = (scenarios, more = {}) => ({
  scenarios,
  thresholds: { ...thresholds, ...more },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
  // No tag that differs from client to client: each would be a time series of its own.
  systemTags: ['scenario', 'name'],
});
