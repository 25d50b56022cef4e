import fc from 'fast-check';
import { countFrames, textFrame } from './frame.js';

describe('frames in one buffer', () => {
  it('are counted, whatever their lengths', () => {
    const length = fc.oneof(fc.nat(300), fc.constantFrom(125, 126, 65_535, 65_536, 70_000));
    fc.assert(
      fc.property(fc.array(length, { maxLength: 8 }), (lengths) => {
        const buffer = Buffer.concat(lengths.map((chars) => textFrame('x'.repeat(chars))));
        expect(countFrames(buffer)).toBe(lengths.length);
      }),
    );
  });
});
