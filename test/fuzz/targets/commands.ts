/** The text of a frame: a command of the contract comes out, by the short cut the same as without it, or a refusal that is short. */
import assert from 'node:assert/strict';
import { commandSchemas, contentProblem, parseCommand, readAnyCommand, RefusedFrame } from '../../../src/protocol/commands.js';
import { encodeError } from '../../../src/protocol/encode.js';

const room = '01890000-0000-7000-8000-00000000000a';
/** With fields that name a bad one each; none of them has more of the input in it than its id and 64 characters of its event. */
const answerMaxChars = 4_096;

export const seeds = [
  { event: 'auth', data: { token: 'x.y.z' } },
  { event: 'join_room', id: 1, data: { room_id: room, last_seen_seq: 7, epoch: 'e' } },
  { event: 'join_rooms', id: 'a', data: { rooms: [{ room_id: room }, { room_id: room.toUpperCase(), last_seen_seq: null }] } },
  { event: 'leave_room', data: { room_id: room } },
  { event: 'send_message', data: { room_id: room, content: '漢𝒳é\\"', client_msg_id: room } },
  { event: 'send_message', id: 12, data: { room_id: room, content: 'plain 漢', client_msg_id: room } },
  { event: 'send_message', id: 'a', data: { room_id: room, content: 'plain' } },
  { event: 'typing_start', data: { room_id: room } },
  { event: 'refresh_token', data: { token: 'x' } },
  { event: 'ping' },
].map((frame) => JSON.stringify(frame));

export function fuzz(input: Buffer): void {
  try {
    const command = parseCommand(input.toString());
    assert.deepEqual(command, readAnyCommand(input.toString()));
    assert(Object.hasOwn(commandSchemas, command.event));
    assert.equal(JSON.stringify(parseCommand(JSON.stringify(command))), JSON.stringify(command));
    if (command.event === 'send_message') assert.equal(contentProblem(command.data.content), undefined);
  } catch (error) {
    if (!(error instanceof RefusedFrame)) throw error;
    assert.notEqual(error.error.code, 'internal');
    const answer = encodeError(error.error, error.id);
    assert(answer.length <= answerMaxChars, `an answer of ${answer.length} characters`);
    assert(answer.isWellFormed());
  }
}
