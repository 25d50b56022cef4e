/** What a proxy before PostgreSQL reads of its protocol: https://www.postgresql.org/docs/current/protocol-message-formats.html */
import type { Link, Proxy } from '../support/proxy.js';

/** A message of the server: its type, and all of its bytes. */
export interface ServerMessage {
  readonly type: string;
  readonly bytes: Buffer;
}

export const readyForQuery = Buffer.from('Z\0\0\0\x05I', 'latin1');

/** A statement by the simple query protocol. */
export function simpleQuery(sql: string): Buffer {
  const text = Buffer.from(`${sql}\0`);
  const head = Buffer.alloc(5);
  head.write('Q');
  head.writeInt32BE(text.length + 4, 1);
  return Buffer.concat([head, text]);
}

/** Cuts a stream into messages, from its first byte on. */
class MessageReader {
  private rest: Buffer = Buffer.alloc(0);

  read(chunk: Buffer): ServerMessage[] {
    const messages: ServerMessage[] = [];
    let bytes = Buffer.concat([this.rest, chunk]);
    while (bytes.length >= 5 && bytes.length > bytes.readInt32BE(1)) {
      const length = 1 + bytes.readInt32BE(1);
      messages.push({ type: String.fromCharCode(bytes[0] ?? 0), bytes: bytes.subarray(0, length) });
      bytes = bytes.subarray(length);
    }
    this.rest = bytes;
    return messages;
  }
}

/**
 * Puts in place of each message of the server what `change` makes of it, on every new connection by way of the proxy; those that are open are cut,
 * for nobody knows where in their stream they are.
 * @returns ends it, for the same price
 */
export function changeMessages(proxy: Proxy, change: (message: ServerMessage, link: Link) => readonly Buffer[]): () => void {
  const readers = new WeakMap<Link, MessageReader>();
  proxy.cut();
  proxy.onServerData = (chunk, link) => {
    const reader = readers.get(link) ?? new MessageReader();
    readers.set(link, reader);
    return Buffer.concat(reader.read(chunk).flatMap((message) => change(message, link)));
  };
  return () => {
    proxy.onServerData = undefined;
    proxy.cut();
  };
}
