import { frameProblems } from '../support/contract.js';

const id = '01890000-0000-7000-8000-00000000000a';
const message = { room_id: id, seq: 1, id: 1, user_id: id, username: 'ann', content: 'x', created_at: '2026-01-01T00:00:00.000Z' };

it('the check of frames lets pass what the contract declares', () => {
  expect(frameProblems({ event: 'new_message_batch', data: [message, { ...message, client_msg_id: id }] })).toEqual([]);
  expect(frameProblems({ event: 'pong', id: 0, data: {} })).toEqual([]);
});

it.each([
  ['an event that it does not know', { event: 'new_massage', data: {} }],
  ['a field beside data', { event: 'pong', data: {}, room_id: id }],
  ['a push with an id', { event: 'new_message_batch', id: 1, data: [message] }],
  ['a field that is not declared', { event: 'new_message_batch', data: [{ ...message, bucket: 3 }] }],
  ['a field that is missing', { event: 'new_message_batch', data: [{ ...message, seq: undefined }] }],
  ['a field of another type', { event: 'left_room', data: { room_id: 7 } }],
  ['an unknown kind', { event: 'room_event', data: { ...message, kind: 'vanished', actor_id: id } }],
  ['an empty batch', { event: 'new_message_batch', data: [] }],
  [
    'an undeclared field in depth',
    { event: 'joined_room', data: { room_id: id, last_seq: 1, epoch: 'e', online: [{ user_id: id, username: 'a', x: 1 }] } },
  ],
])('and refuses %s', (_, frame) => {
  expect(frameProblems(JSON.parse(JSON.stringify(frame)) as object)).not.toEqual([]);
});

it('an id brings back an answer to that command, or an error', () => {
  expect(frameProblems({ event: 'left_room', id: 1, data: { room_id: id } }, 'leave_room')).toEqual([]);
  expect(frameProblems({ event: 'left_room', id: 1, data: { room_id: id } }, 'ping')).toEqual(['left_room: no answer to ping']);
});
