/**
 * A process that hashes and checks passwords. Started by passwords.ts; ends with the node, however that ends. CommonJS, because the
 * loader of modules starts the threads on which argon2 runs, and a thread has the priority of the one that started it.
 */
const { constants, setPriority } = require('node:os');

// Gets of the cores what messages leave.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

const argon2 = require('argon2');

// Ctrl-C goes to the whole group; while the node drains, people still log in.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined);

process.on('message', ({ id, password, storedHash, cost }) => {
  const work = storedHash === undefined ? argon2.hash(password, cost) : argon2.verify(storedHash, password);
  const answer = (what) => process.send?.({ id, ...what }, () => undefined); // the node may be gone
  work.then(
    (result) => answer({ result }),
    (error) => answer({ error: error.message }),
  );
});
