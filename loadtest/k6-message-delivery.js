/**
 * One busy room. Receivers listen all the time; senders come in one after the other, ever faster, and each sends its messages at a short interval. Every receiver
 * must get each message once, unchanged and in order, and every sender its own.
 */
import { setTimeout } from 'k6/timers';
import { playAll, roleFor, sendAll } from './lib/crowd.js';
import { optionsFor } from './lib/metrics.js';
import { msUntil, plan } from './lib/plan.js';
import { summarize } from './lib/summary.js';

export { receivers } from './lib/crowd.js';
export const options = optionsFor({ receivers: roleFor('receivers'), senders: roleFor('senders') });
export const handleSummary = summarize;

export function senders() {
  const { gatherMs, rampMs, roles } = plan;
  playAll('senders', (user) => {
    const client = sendAll(user, () => 0);
    // As many at a time as have come so far: the rate of arrival rises with the time.
    setTimeout(() => client.connect(), msUntil(gatherMs + rampMs * Math.sqrt((user.index + 1) / roles.senders.count)));
  });
}
