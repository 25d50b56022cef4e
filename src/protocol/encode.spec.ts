import fc from 'fast-check';
import { encode, encodeAck } from './encode.js';

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
