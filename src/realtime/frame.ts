/**
 * A text message as one WebSocket frame, header and payload in one buffer, so that it is framed once and written as it is to any number of
 * sockets (RFC 6455, section 5.2: FIN, opcode 1, unmasked as a server's frames are).
 */
export function textFrame(text: string): Buffer {
  const bytes = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(frameBytes(bytes));
  writeFrame(frame, 0, text, bytes);
  return frame;
}

/** How many bytes the frame of a text has that has so many. */
export const frameBytes = (textBytes: number): number => textBytes + (textBytes < 126 ? 2 : textBytes < 65_536 ? 4 : 10);

/**
 * Writes a text's frame at a place of a buffer.
 * @returns where it ends
 */
export function writeFrame(into: Buffer, at: number, text: string, textBytes: number): number {
  into[at] = 0x81;
  if (textBytes < 126) {
    into[at + 1] = textBytes;
  } else if (textBytes < 65_536) {
    into[at + 1] = 126;
    into.writeUInt16BE(textBytes, at + 2);
  } else {
    into[at + 1] = 127;
    into.writeBigUInt64BE(BigInt(textBytes), at + 2);
  }
  const end = at + frameBytes(textBytes);
  into.write(text, end - textBytes);
  return end;
}

/** How many frames a buffer holds that was put together from whole ones of `textFrame`. */
export function countFrames(buffer: Buffer): number {
  let count = 0;
  for (let at = 0; at < buffer.length; count++) {
    const length = buffer[at + 1] ?? 0;
    if (length < 126) at += 2 + length;
    else if (length === 126) at += 4 + buffer.readUInt16BE(at + 2);
    else at += 10 + Number(buffer.readBigUInt64BE(at + 2));
  }
  return count;
}
