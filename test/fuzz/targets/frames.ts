/** The bytes of a socket: cut into whatever packets, they mean the same messages and end with the same error, which is one of RFC 6455. */
import assert from 'node:assert/strict';
import type { Writable } from 'node:stream';
import * as ws from 'ws';
import { wsOptions } from '../../../src/realtime/realtime.adapter.js';

/** What ws gives to a socket of a server. Not in its types. */
const { Receiver } = ws as unknown as { Receiver: new (options: object) => Writable };

const mask = Buffer.alloc(4);
const frame = (head: number[], payload: string) =>
  Buffer.concat([Buffer.from([head[0] ?? 0, 0x80 | (head[1] ?? payload.length), ...head.slice(2)]), mask, Buffer.from(payload)]);
/** The first byte says how many bytes a packet has. */
export const seeds = [
  Buffer.concat([Buffer.from([1]), frame([0x81], '{"event":"ping"}'), frame([0x89], 'x'), frame([0x88], '\x03\xe8')]),
  Buffer.concat([Buffer.from([3]), frame([0x01], '漢'), frame([0x8a], ''), frame([0x80, 127, 0, 0, 0, 0, 0, 0, 0, 2], 'é')]),
  Buffer.concat([Buffer.from([7]), frame([0x82, 126, 0, 1], 'x'), frame([0x88], '')]),
];

export async function fuzz(input: Buffer): Promise<void> {
  const bytes = input.subarray(1);
  const step = 1 + (input[0] ?? 0);
  const cut = Array.from({ length: Math.ceil(bytes.length / step) }, (_, n) => bytes.subarray(n * step, (n + 1) * step));
  assert.deepEqual(await readAll(cut), await readAll([bytes]));
}

async function readAll(packets: readonly Buffer[]): Promise<string[]> {
  const read: string[] = [];
  const receiver = new Receiver({ ...wsOptions, isServer: true, allowSynchronousEvents: true });
  for (const event of ['message', 'ping', 'pong', 'conclude']) {
    receiver.on(event, (...given: unknown[]) => {
      read.push(`${event} ${given.map((one) => (Buffer.isBuffer(one) ? one.toString('hex') : String(one))).join(' ')}`);
    });
  }
  receiver.on('error', () => undefined);
  let concluded = false;
  receiver.once('conclude', () => (concluded = true));
  for (const packet of packets) {
    if (concluded) break;
    // A copy, for the mask is taken off where it stands.
    const error = await new Promise<NodeJS.ErrnoException | null | undefined>((written) => receiver.write(Buffer.from(packet), written));
    if (!(error instanceof Error)) continue;
    assert.match(error.code ?? '', /^WS_ERR_/);
    read.push(error.code ?? '');
    break;
  }
  return read;
}
