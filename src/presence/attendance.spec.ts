import { Attendance, graceMs } from './attendance.js';

const room = 'room';

it('tells of the first socket and of the end of the grace after the last, and of nothing between', () => {
  const attendance = new Attendance();
  expect(attendance.enter(room, 'ann', 'Ann')).toEqual({ roomId: room, userId: 'ann', username: 'Ann', isOn: true });
  expect(attendance.enter(room, 'ann', 'Ann')).toBeUndefined();
  attendance.leave(room, 'ann', 0);
  expect(attendance.expire(10 * graceMs)).toEqual([]);
  attendance.leave(room, 'ann', 10 * graceMs);
  expect(attendance.expire(11 * graceMs - 1)).toEqual([]);
  expect(attendance.expire(11 * graceMs)).toEqual([{ roomId: room, userId: 'ann', username: 'Ann', isOn: false }]);
  expect(attendance.everybody()).toEqual([]);
});

it('a socket that comes back within the grace makes no change, and the grace begins anew after it', () => {
  const attendance = new Attendance();
  attendance.enter(room, 'ann', 'Ann');
  attendance.enter(room, 'bob', 'Bob');
  attendance.leave(room, 'ann', 0);
  attendance.leave(room, 'bob', 1);
  expect(attendance.enter(room, 'ann', 'Ann')).toBeUndefined();
  attendance.leave(room, 'ann', 2);
  expect(attendance.expire(graceMs + 1).map(({ userId }) => userId)).toEqual(['bob']);
  expect(attendance.everybody().map(({ userId }) => userId)).toEqual(['ann']);
  expect(attendance.expire(graceMs + 2).map(({ userId }) => userId)).toEqual(['ann']);
});

it('who is dismissed has no grace, unless it has a socket', () => {
  const attendance = new Attendance();
  attendance.enter(room, 'ann', 'Ann');
  expect(attendance.dismiss(room, 'ann')).toBeUndefined();
  attendance.leave(room, 'ann', 0);
  expect(attendance.dismiss(room, 'ann')).toMatchObject({ userId: 'ann', isOn: false });
  expect(attendance.dismiss(room, 'ann')).toBeUndefined();
  attendance.leave(room, 'ann', 0); // of whom nothing is known
  expect(attendance.expire(2 * graceMs)).toEqual([]);
});
