/**
 * The roles that both scenarios have. A user goes from its arrival to the end of the run. A VU of k6 plays many users of one role, neighbours in a room.
 */
import exec from 'k6/execution';
import { setTimeout } from 'k6/timers';
import { Client } from './client.js';
import { Ledger } from './ledger.js';
import { arrivalMs, msUntil, plan, userOf } from './plan.js';

/** More would share more work, on fewer cores. */
const usersPerVu = 50;

/** Runs the exported function of that name for all users of a role. */
export const roleFor = (role) => ({
  executor: 'per-vu-iterations',
  exec: role,
  vus: Math.ceil(plan.roles[role].count / usersPerVu),
  iterations: 1,
  maxDuration: `${plan.durationMs}ms`,
  gracefulStop: '15s',
});

/** Calls `play` with each user that this VU plays. */
export function playAll(role, play) {
  const first = exec.scenario.iterationInTest * usersPerVu;
  const end = Math.min(plan.roles[role].count, first + usersPerVu);
  for (let index = first; index < end; index++) play(userOf(role, index));
}

/** The ledger of a user who must get everything that is sent in its room. */
export function receiversLedger({ room }) {
  const { id, head, senders } = plan.rooms[room];
  return new Ledger(id, { last: head, expected: senders * plan.messages });
}

/** Listens to the end. */
export function receivers() {
  playAll('receivers', (user) => {
    const ledger = receiversLedger(user);
    const client = new Client(user, ledger);
    setTimeout(() => client.connect(), arrivalMs());
    endWith(client, ledger);
  });
}

/**
 * Sends its messages, one each interval, and listens to the end.
 * @param afterMs from its first join to its first message
 * @param before called with the number of each message, just before it is sent
 */
export function sendAll(user, afterMs, before = () => undefined) {
  const ledger = new Ledger(plan.rooms[user.room].id, { sender: user.index });
  let first;
  const due = (n) => {
    if (n >= plan.messages || msUntil(plan.durationMs) === 0) return;
    setTimeout(
      () => {
        before(n);
        client.send(n);
        due(n + 1);
      },
      Math.max(0, first + n * plan.intervalMs - Date.now()),
    );
  };
  const client = new Client(user, ledger, {
    joined() {
      if (first !== undefined) return;
      first = Date.now() + afterMs();
      due(0);
    },
  });
  endWith(client, ledger);
  return client;
}

/** At the end of the run the client leaves, and gives account. */
export function endWith(client, ledger) {
  setTimeout(() => {
    client.leave();
    ledger.account();
  }, msUntil(plan.durationMs));
}
