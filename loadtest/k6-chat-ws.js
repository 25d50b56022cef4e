/**
 * Ordinary chat in several rooms: some send now and then, typing first; most listen; a part of those loses its connection again and again and comes back with
 * last_seen_seq, and must miss nothing; pairs watch each other type.
 */
import { clearTimeout, setTimeout } from 'k6/timers';
import { Client } from './lib/client.js';
import { endWith, playAll, receiversLedger, roleFor, sendAll } from './lib/crowd.js';
import { Ledger } from './lib/ledger.js';
import { optionsFor, typingDelivered, typingMs } from './lib/metrics.js';
import { arrivalMs, msUntil, plan, userOf } from './lib/plan.js';
import { summarize } from './lib/summary.js';

const { rooms, durationMs, gatherMs, settleMs } = plan;
const typingDeadlineMs = 5_000;

export const options = optionsFor(
  {
    senders: roleFor('senders'),
    receivers: roleFor('receivers'),
    churners: roleFor('churners'),
    typists: roleFor('typists'),
  },
  {
    'holes{scenario:churners}': ['count==0'],
    'delivered{scenario:churners}': ['avg>0.999'],
    resumed: ['count>0'],
    // Typing is the first thing that a node sheds under load.
    typing_delivered: ['rate>0.99'],
    typing_ms: ['p(95)<500'],
  },
);

export { receivers } from './lib/crowd.js';
export const handleSummary = summarize;

/** Sends at a calm pace, and types before every fifth message. */
export function senders() {
  playAll('senders', (user) => {
    const room_id = rooms[user.room].id;
    const client = sendAll(
      user,
      () => msUntil(gatherMs) + Math.random() * plan.intervalMs,
      (n) => {
        if (n % 5 === 0) client.command('typing_start', { room_id });
      },
    );
    setTimeout(() => client.connect(), arrivalMs());
  });
}

/** Stays a while, is away for a moment, comes back. */
export function churners() {
  const lastLeaveAt = durationMs - settleMs - 3_000;
  playAll('churners', (user) => {
    const ledger = receiversLedger(user);
    let isStaying = false;
    const client = new Client(user, ledger, {
      joined() {
        const stayMs = between(0.3, 1) * Math.min(10_000, durationMs / 6);
        if (isStaying || msUntil(lastLeaveAt) < stayMs) return;
        isStaying = true;
        setTimeout(() => {
          isStaying = false;
          client.leave();
          setTimeout(() => client.connect(), between(200, 2_500));
        }, stayMs);
      },
    });
    setTimeout(() => client.connect(), arrivalMs());
    endWith(client, ledger);
  });
}

/** Pairs of a room: one starts and stops typing, the other must see it. */
export function typists() {
  playAll('typists', (user) => {
    if (user.index % 2 === 0) watchTyping(user, userOf('typists', user.index + 1));
  });
}

function watchTyping(typist, watcher) {
  const room_id = rooms[typist.room].id;
  let awaited;
  const saw = (isSeen) => {
    if (awaited === undefined) return;
    const { isTyping, since, deadline } = awaited;
    awaited = undefined;
    clearTimeout(deadline);
    typingDelivered.add(isSeen);
    if (isSeen) typingMs.add(Date.now() - since);
    setTimeout(() => type(!isTyping), isTyping ? 1_000 : between(2_000, 4_000));
  };
  const type = (isTyping) => {
    if (msUntil(durationMs) < typingDeadlineMs) return;
    awaited = { isTyping, since: Date.now(), deadline: setTimeout(() => saw(false), typingDeadlineMs) };
    typing.command(isTyping ? 'typing_start' : 'typing_stop', { room_id });
  };

  const join = (user, on) => {
    const ledger = new Ledger(room_id, {});
    const client = new Client(user, ledger, on);
    setTimeout(() => client.connect(), arrivalMs());
    endWith(client, ledger);
    return client;
  };
  const typing = join(typist);
  join(watcher, {
    typing({ username, is_typing }) {
      if (username === typist.name && is_typing === awaited?.isTyping) saw(true);
    },
  });
  setTimeout(() => type(true), msUntil(gatherMs));
}

const between = (min, max) => min + Math.random() * (max - min);
