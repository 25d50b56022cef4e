/** A notification: without its digest nothing of it is read; with it nothing in its lines makes the reader throw, or passes on what is no entry. */
import assert from 'node:assert/strict';
import { digest, readPayload, type PayloadReader } from '../../../src/bus/payload.js';
import { readSignal } from '../../../src/presence/signals.js';

const key = Buffer.alloc(32, 7);
const room = '{"room_id":"01890000-0000-7000-8000-00000000000a"';

export const seeds = [
  `\nm${room},"seq":1,"content":"x"}\nm${room},"seq":2,"content":"\\n"}`,
  `\ne${room},"seq":9007199254740991,"kind":"joined"}\nr${room},"seq":12}\nh0`,
  `\nt${room},"on":[["u","ann"]],"off":[]}\np${room},"node":"n","on":[],"off":["u"]}`,
];

export function fuzz(input: Buffer): void {
  const lines = input.toString();
  let readChars = 0;
  const reader: PayloadReader = {
    wants: (roomId) => roomId.length % 2 === 0,
    entries(roomId, entries) {
      assert(roomId.length <= 36 && entries.length > 0);
      for (const { seq, json, event } of entries) {
        assert(Number.isSafeInteger(seq));
        if (event !== undefined) assert.equal(JSON.stringify(event), JSON.stringify(JSON.parse(json)));
        readChars += json.length;
      }
    },
    upTo: (_roomId, seq) => assert(Number.isSafeInteger(seq)),
    signal(_tag, json) {
      readSignal(json);
      readChars += json.length;
    },
    heartbeat: (beat) => void (readChars += beat.length),
  };
  assert.equal(readPayload(lines, key, reader), false);
  assert.equal(readChars, 0);
  assert.equal(readPayload(digest(lines, key) + lines, key, reader), true);
  assert(readChars <= lines.length, 'something was read twice');
}
