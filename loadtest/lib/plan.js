/** The run that `run.ts` has prepared: how many of whom, for how long, and who they are. */
import exec from 'k6/execution';
import { SharedArray } from 'k6/data';

if (__ENV.LOADTEST_FOLDER === undefined) {
  throw new Error('The users and rooms are missing: start this with `npm run loadtest` or `npm run loadtest:delivery`.');
}

export const plan = JSON.parse(open(`${__ENV.LOADTEST_FOLDER}/plan.json`));
const users = new SharedArray('users', () => JSON.parse(open(`${__ENV.LOADTEST_FOLDER}/users.json`)));

/** A user of a role: `index` counts those of the role, `name`, `token` and `room` are its own. */
export const userOf = (role, index) => ({ index, ...users[plan.roles[role].from + index] });

/** ms until `at`, which counts from the start of the run; 0 when it has passed. */
export const msUntil = (at) => Math.max(0, at - exec.instance.currentTestRunDuration);

/** A moment in which to connect, so that the crowd gathers before the first message. */
export const arrivalMs = () => Math.random() * plan.gatherMs * 0.6;
