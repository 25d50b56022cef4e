import { eventually } from '../../test/support/eventually.js';
import { Turn, UserSockets } from './user-sockets.js';

/** Sockets that have frames of some characters waiting and go on as a Connection does; says in which order they were accepted. */
function socketsOf(turn: Turn, frames: readonly number[], characters = 10) {
  const accepted: number[] = [];
  const left = [...frames];
  const goOns = frames.map((_, n) => () => {
    while (!turn.isOver && (left[n] ?? 0) > 0) {
      left[n] = (left[n] ?? 0) - 1;
      turn.count(characters);
      accepted.push(n);
    }
    if ((left[n] ?? 0) > 0) turn.await(goOns[n] as () => void);
  });
  return { accepted, begin: () => goOns.forEach((goOn) => goOn()) };
}

it('all sockets of a user share 64 frames of a turn of the event loop, and each comes to its turn', async () => {
  const { accepted, begin } = socketsOf(new Turn(), [100, 100, 1]);
  begin();
  expect(accepted).toHaveLength(64);
  await new Promise((next) => setImmediate(next));
  expect(accepted).toHaveLength(128);
  await eventually(() => accepted.length === 201, 'all frames to be accepted');
  expect(accepted.indexOf(2)).toBeLessThan(193); // the two before it have 64 frames each first
});

it('a large frame takes as much of the turn as many small ones, and after such a turn others have the node for a while', async () => {
  const turn = new Turn();
  const { accepted, begin } = socketsOf(turn, [100, 0], 130_000);
  const from = performance.now();
  begin();
  expect(accepted).toHaveLength(2);
  await eventually(() => accepted.length === 4, 'the next turn');
  expect(performance.now() - from).toBeGreaterThan(240); // 2 x 31 x 4 ms
});

it('a socket that has left does not go on', async () => {
  const turn = new Turn();
  let wentOn = false;
  const goOn = () => void (wentOn = true);
  for (let n = 0; n < 64; n++) turn.count(0);
  turn.await(goOn);
  turn.leave(goOn);
  await new Promise((next) => setImmediate(next));
  expect([turn.isOver, wentOn]).toEqual([false, false]);
});

it('a user has one turn for all its sockets, and no more sockets than it may', () => {
  const sockets = new UserSockets(2);
  const turn = sockets.add('ann');
  expect(turn).toBeInstanceOf(Turn);
  expect(sockets.add('ann')).toBe(turn);
  expect(sockets.add('ann')).toBeUndefined();
  expect(sockets.add('bob')).not.toBe(turn);
  sockets.remove('ann');
  expect(sockets.add('ann')).toBe(turn);
});
