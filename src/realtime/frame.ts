/**
 * A text message as one WebSocket frame, header and payload in one buffer, so that it is framed once and written as it is to any number of
 * sockets (RFC 6455, section 5.2: FIN, opcode 1, unmasked as a server's frames are).
 */
export function textFrame(text: string): Buffer {
  const bytes = Buffer.byteLength(text);
  const headerBytes = bytes < 126 ? 2 : bytes < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(headerBytes + bytes);
  frame[0] = 0x81;
  if (headerBytes === 2) {
    frame[1] = bytes;
  } else if (headerBytes === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(bytes, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(bytes), 2);
  }
  frame.write(text, headerBytes);
  return frame;
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
