/**
 * A WebSocket client that costs as little as it can, because it shares the machine with what it measures: all sockets read into one buffer,
 * frames are handed on as places in it, and nothing is copied but a frame that a read cut in two. It trusts its server: frames are not
 * fragmented, not compressed and not masked.
 */
import { connect, type Socket } from 'node:net';

export interface FrameHandler {
  /** A text frame's payload: `bytes` from `start` to `end`, valid during the call only. */
  frame(bytes: Buffer, start: number, end: number): void;
  closed(code: number): void;
  /** The handshake was answered with another HTTP status than 101; `closed` follows. Without this method it is an error that ends the process. */
  refused?(status: number): void;
}

/** A read callback runs before the next read begins, whichever socket it is on: one buffer does for all. */
const readBuffer = Buffer.allocUnsafeSlow(524_288);
const headerMaxBytes = 10;

const opcode = { text: 1, close: 8, ping: 9 } as const;

export class LeanSocket {
  private readonly socket: Socket;
  private handshake: string | undefined = '';
  /** A frame that is not all there yet. */
  private partial = Buffer.alloc(0);
  private partialBytes = 0;
  private closeCode = 1006;

  /** @param onOpen called when the handshake is done, before the first frame */
  constructor(
    url: URL,
    token: string,
    private readonly handler: FrameHandler,
    private readonly onOpen: () => void,
    path = '/ws',
  ) {
    this.socket = connect({
      host: url.hostname,
      port: Number(url.port),
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          this.read(bytes);
          return true;
        },
      },
    });
    this.socket.on('error', () => undefined); // 'close' follows
    this.socket.on('close', () => handler.closed(this.closeCode));
    this.socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
        `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    );
  }

  /** Writes frames that `textFrame` made; several may be joined to one write. */
  write(frames: string): void {
    this.socket.write(frames, 'latin1');
  }

  /** Bytes that the peer has not taken yet. */
  get unsentBytes(): number {
    return this.socket.writableLength;
  }

  end(): void {
    this.socket.destroy();
  }

  private read(bytes: number): void {
    let at = 0;
    if (this.handshake !== undefined) {
      at = this.readHandshake(bytes);
      if (at === 0) return;
    }
    if (this.partialBytes > 0) at = this.completePartial(at, bytes);
    while (at < bytes) {
      const size = frameBytes(readBuffer, at, bytes);
      if (size === undefined || at + size > bytes) return this.keep(at, bytes, size ?? headerMaxBytes);
      this.dispatch(readBuffer, at, at + size);
      at += size;
    }
  }

  /** @returns where the frames begin; 0 when the answer is not all there */
  private readHandshake(bytes: number): number {
    const text = readBuffer.toString('latin1', 0, bytes);
    const end = text.indexOf('\r\n\r\n');
    this.handshake += end === -1 ? text : text.slice(0, end);
    if (end === -1) return 0;
    const answer = this.handshake ?? '';
    if (!answer.startsWith('HTTP/1.1 101')) {
      if (this.handler.refused === undefined) throw new Error(`the node refused a socket: ${answer}`);
      this.handler.refused(Number(answer.split(' ', 2)[1]));
      this.socket.destroy();
      return 0;
    }
    this.handshake = undefined;
    this.onOpen();
    return end + 4;
  }

  private completePartial(from: number, to: number): number {
    let at = from;
    while (at < to) {
      const size = frameBytes(this.partial, 0, this.partialBytes);
      const wanted = Math.min((size ?? this.partialBytes + 1) - this.partialBytes, to - at);
      this.reserve(this.partialBytes + wanted);
      readBuffer.copy(this.partial, this.partialBytes, at, at + wanted);
      this.partialBytes += wanted;
      at += wanted;
      if (size !== undefined && size === this.partialBytes) {
        this.partialBytes = 0;
        this.dispatch(this.partial, 0, size);
        break;
      }
    }
    return at;
  }

  private keep(from: number, to: number, size: number): void {
    this.reserve(size);
    this.partialBytes = readBuffer.copy(this.partial, 0, from, to);
  }

  private reserve(size: number): void {
    if (this.partial.length >= size) return;
    const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(size)));
    this.partial.copy(larger, 0, 0, this.partialBytes);
    this.partial = larger;
  }

  private dispatch(bytes: Buffer, start: number, end: number): void {
    const kind = byteAt(bytes, start) & 15;
    const payloadAt = start + headerBytes(bytes, start);
    if (kind === opcode.text) this.handler.frame(bytes, payloadAt, end);
    else if (kind === opcode.ping)
      this.write(String.fromCharCode(0x8a, 0x80 | (end - payloadAt), 0, 0, 0, 0) + bytes.toString('latin1', payloadAt, end));
    else if (kind === opcode.close) {
      this.closeCode = end - payloadAt >= 2 ? bytes.readUInt16BE(payloadAt) : 1005;
      this.socket.end();
    }
  }
}

/**
 * A text frame as the string whose latin1 bytes it is. The mask is 0, which RFC 6455 (section 5.3) forbids for the sake of proxies that
 * could be fooled, and which spares the masking here; the server's work stays the same.
 * @param text each character a byte of UTF-8
 */
export function textFrame(text: string): string {
  const { length } = text;
  if (length < 126) return String.fromCharCode(0x81, 0x80 | length, 0, 0, 0, 0) + text;
  if (length < 65_536) return String.fromCharCode(0x81, 0xfe, length >> 8, length & 255, 0, 0, 0, 0) + text;
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(length));
  return `\x81\xff${size.toString('latin1')}\0\0\0\0${text}`;
}

const byteAt = (bytes: Buffer, at: number): number => bytes[at] ?? 0;

function headerBytes(bytes: Buffer, at: number): number {
  const length = byteAt(bytes, at + 1);
  return length < 126 ? 2 : length === 126 ? 4 : 10;
}

/** The size of the frame at `at`; undefined while its header is not all there. */
function frameBytes(bytes: Buffer, at: number, end: number): number | undefined {
  if (end - at < 2) return undefined;
  const header = headerBytes(bytes, at);
  if (end - at < header) return undefined;
  if (header === 2) return 2 + byteAt(bytes, at + 1);
  return header === 4 ? 4 + bytes.readUInt16BE(at + 2) : 10 + Number(bytes.readBigUInt64BE(at + 2));
}
