/**
 * Arrays as parameters in PostgreSQL's binary form, which pg sends where it is given a Buffer: as text, each element is escaped here and parsed
 * there. The form is that of array_recv and of the elements' own receive functions: dimensions, whether there are nulls, the elements' type, length
 * and lower bound; then each element with its length.
 */
const headerBytes = 20;
const typeOf = { int4: 23, text: 25, uuid: 2950 } as const; // pg_type.dat

/** @param elementBytes the most that all elements take, without their lengths */
function startArray(type: keyof typeof typeOf, length: number, elementBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + 4 * length + elementBytes);
  bytes.writeInt32BE(1, 0);
  bytes.writeInt32BE(1, 4); // there may be nulls
  bytes.writeInt32BE(typeOf[type], 8);
  bytes.writeInt32BE(length, 12);
  bytes.writeInt32BE(1, 16);
  return bytes;
}

/** @param values within 32 bits */
export function int4Array(values: readonly number[]): Buffer {
  const bytes = startArray('int4', values.length, 4 * values.length);
  let at = headerBytes;
  for (const value of values) {
    at = bytes.writeInt32BE(4, at);
    at = bytes.writeInt32BE(value, at);
  }
  return bytes;
}

export function textArray(values: readonly string[]): Buffer {
  let units = 0;
  for (const value of values) units += value.length;
  const bytes = startArray('text', values.length, 3 * units); // UTF-8 takes three bytes for a UTF-16 unit at most
  let at = headerBytes;
  for (const value of values) {
    const length = bytes.write(value, at + 4);
    at = bytes.writeInt32BE(length, at) + length;
  }
  return bytes.subarray(0, at);
}

/** @throws Error for what is not a UUID in its usual form */
export function uuidArray(values: readonly (string | undefined)[]): Buffer {
  const bytes = startArray('uuid', values.length, 16 * values.length);
  let at = headerBytes;
  for (const value of values) {
    if (value === undefined) {
      at = bytes.writeInt32BE(-1, at);
      continue;
    }
    at = bytes.writeInt32BE(16, at);
    const hex = value.replaceAll('-', '');
    if (hex.length !== 32 || bytes.write(hex, at, 'hex') !== 16) throw new Error(`${value} is no UUID`);
    at += 16;
  }
  return bytes.subarray(0, at);
}
