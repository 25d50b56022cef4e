/** A client that may send any bytes whatever: what it does wrong is the test's business. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { eventually } from './eventually.js';

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

interface Bits {
  fin?: boolean;
  /** RSV1 to RSV3 as three bits. */
  rsv?: number;
  masked?: boolean;
  /** The length field in the place of the right one: 7 bits, or those and what follows them. */
  length?: readonly [bits: number, more: Buffer];
}

/** A frame as RFC 6455, section 5.2 draws it, from a client, unless it is told otherwise. */
export function frame(opcode: number, payload: string | Buffer = '', { fin = true, rsv = 0, masked = true, length }: Bits = {}): Buffer {
  const data = Buffer.from(payload as string);
  const [bits, more] = length ?? lengthOf(data.length);
  const mask = masked ? randomBytes(4) : Buffer.alloc(0);
  const head = Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode, (masked ? 0x80 : 0) | bits]);
  return Buffer.concat([head, more, mask, masked ? data.map((byte, n) => byte ^ (mask[n % 4] ?? 0)) : data]);
}

function lengthOf(bytes: number): readonly [number, Buffer] {
  if (bytes < 126) return [bytes, Buffer.alloc(0)];
  const more = Buffer.alloc(bytes < 65_536 ? 2 : 8);
  if (bytes < 65_536) more.writeUInt16BE(bytes);
  else more.writeBigUInt64BE(BigInt(bytes));
  return [bytes < 65_536 ? 126 : 127, more];
}

export const length64 = (bytes: bigint): readonly [number, Buffer] => {
  const more = Buffer.alloc(8);
  more.writeBigUInt64BE(bytes);
  return [127, more];
};

/** A request with these headers, `undefined` for none of that name, and an empty line at its end. */
export function handshake(path: string, more: Record<string, string | undefined> = {}, firstLine = `GET ${path} HTTP/1.1`): string {
  const headers = {
    Host: 'node',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...more,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`]));
  return [firstLine, ...lines, '', ''].join('\r\n');
}

export interface ServerFrame {
  opcode: number;
  payload: Buffer;
}

export class RawSocket {
  private received = Buffer.alloc(0);
  private headEnd = -1;
  /** The node has ended its side, or cut the connection. */
  ended = false;
  readonly frames: ServerFrame[] = [];

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk) => this.take(chunk));
    socket.on('end', () => (this.ended = true));
    socket.on('close', () => (this.ended = true));
    socket.on('error', () => (this.ended = true));
  }

  /** With `allowHalfOpen` it never closes its own side. */
  static async connect(url: string, options: { allowHalfOpen?: boolean } = {}): Promise<RawSocket> {
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', noDelay: true, ...options });
    await new Promise<void>((connected, failed) => socket.once('connect', connected).once('error', failed));
    return new RawSocket(socket);
  }

  /** Opened as it should be, and greeted. */
  static async open(url: string, token: string, options: { allowHalfOpen?: boolean } = {}): Promise<RawSocket> {
    const raw = await RawSocket.connect(url, options);
    raw.write(handshake(`/ws?token=${token}`));
    await raw.text('"hello"');
    return raw;
  }

  write(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  /** One at a time, each by itself on its way. */
  async writeSlowly(bytes: string | Buffer): Promise<void> {
    for (const byte of Buffer.from(bytes as string)) {
      if (this.ended) return;
      this.socket.write(Buffer.from([byte]));
      await new Promise((soon) => setImmediate(soon));
    }
  }

  /** Status line, headers, and the body where the answer was no 101. */
  get answer(): string {
    return this.received.subarray(0, this.headEnd === -1 ? undefined : this.headEnd).toString();
  }

  get status(): number {
    return Number(/^HTTP\/1\.1 (\d{3}) /.exec(this.answer)?.[1]);
  }

  /** The code of the close frame; 1005 for one without, undefined where there was no such frame. */
  get closeCode(): number | undefined {
    const close = this.frames.find(({ opcode }) => opcode === opcodes.close);
    return close && (close.payload.length === 0 ? 1_005 : close.payload.readUInt16BE());
  }

  texts(): string[] {
    return this.frames.filter(({ opcode }) => opcode === opcodes.text).map(({ payload }) => payload.toString());
  }

  /** Waits for a text frame that has the words in it. */
  text(words: string): Promise<string> {
    return eventually(() => this.texts().find((text) => text.includes(words)), `a frame with ${words}: ${this.answer}`);
  }

  end(withinMs = 3_000): Promise<boolean> {
    return eventually(() => this.ended, 'the node to end the connection', withinMs);
  }

  cut(): void {
    this.socket.destroy();
  }

  private take(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    if (this.headEnd === -1 && this.received.includes('\r\n\r\n') && this.answer.startsWith('HTTP/1.1 101'))
      this.headEnd = this.received.indexOf('\r\n\r\n') + 4;
    if (this.headEnd === -1) return;
    for (;;) {
      const rest = this.received.subarray(this.headEnd);
      if (rest.length < 2) return;
      const bits = (rest[1] ?? 0) & 0x7f;
      const at = bits < 126 ? 2 : bits === 126 ? 4 : 10;
      if (rest.length < at) return;
      const bytes = bits < 126 ? bits : bits === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
      if (rest.length < at + bytes) return;
      this.frames.push({ opcode: (rest[0] ?? 0) & 0x0f, payload: Buffer.from(rest.subarray(at, at + bytes)) });
      this.received = Buffer.concat([this.received.subarray(0, this.headEnd), rest.subarray(at + bytes)]);
    }
  }
}
