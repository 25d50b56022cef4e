import fc from 'fast-check';
import { encode, encodeAck, encodeJoinedRoom, encodeRoomOnline } from './encode.js';

describe('an ack', () => {
  it('is the text that JSON.stringify makes of it, whatever the id of the command', () => {
    const number = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    const ack = fc.record(
      {
        room_id: fc.uuid(),
        client_msg_id: fc.uuid(),
        id: number,
        seq: number,
        created_at: fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
        duplicate: fc.boolean(),
        epoch: fc.string(),
      },
      { requiredKeys: ['room_id', 'id', 'seq', 'created_at', 'duplicate'] },
    );
    const id = fc.option(
      fc.oneof(fc.string({ unit: 'binary' }), fc.constant('\ud800"\n'), fc.double({ noNaN: true, noDefaultInfinity: true })),
      { nil: undefined },
    );
    fc.assert(fc.property(ack, id, (data, commandId) => expect(encodeAck(data, commandId)).toBe(encode('message_ack', data, commandId))));
  });
});

it('who is online is the text that JSON.stringify makes of it', () => {
  const user = { user_id: '018f4e2a-7c1b-7a35-9d2e-3f4a5b6c7d8e', username: 'a"\u2028\ud800' };
  const joined = { room_id: '018f4e2a-7c1b-7a35-9d2e-3f4a5b6c7d8f', last_seq: 7, epoch: '3.1"' };
  const members = { online: [user, user], online_count: 9 };
  const text = { online: JSON.stringify(members.online), count: 9 };
  for (const id of [undefined, 7, 'a"']) {
    expect(encodeJoinedRoom(joined, text, id)).toBe(encode('joined_room', { ...joined, ...members }, id));
    expect(encodeJoinedRoom(joined, undefined, id)).toBe(encode('joined_room', joined, id));
  }
  expect(encodeRoomOnline(joined.room_id, text)).toBe(encode('room_online', { room_id: joined.room_id, ...members }));
});
