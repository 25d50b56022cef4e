import fc from 'fast-check';
import { decodeInvite, encodeInvite, newSecret } from './invite-code.js';

const roomId = '01890000-0000-7000-8000-000000000001';

it('a code is of its room and has its secret, and each is another', () => {
  fc.assert(
    fc.property(fc.uuid(), (room) => {
      const made = newSecret(room);
      const code = encodeInvite(made);
      expect(code).toMatch(/^[\w-]{43}$/);
      expect(decodeInvite(code)).toEqual(made);
      expect(encodeInvite(newSecret(room))).not.toBe(code);
    }),
  );
});

it('of any text comes nothing, or what has that text as its only code', () => {
  const code = encodeInvite(newSecret(roomId));
  const changed = fc
    .tuple(fc.nat(code.length - 1), fc.string({ maxLength: 2 }))
    .map(([n, by]) => code.slice(0, n) + by + code.slice(n + 1));
  const bytes = fc.uint8Array({ minLength: 30, maxLength: 34 }).map((array) => Buffer.from(array).toString('base64url'));
  fc.assert(
    fc.property(fc.oneof(changed, bytes, fc.string({ unit: 'binary' }), fc.constantFrom('', `${code}=`, `${code}A`)), (text) => {
      const decoded = decodeInvite(text);
      if (decoded !== undefined) expect(encodeInvite(decoded)).toBe(text);
    }),
    { numRuns: 2_000 },
  );
});
