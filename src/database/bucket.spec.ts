import fc from 'fast-check';
import { bucketCount, roomBucket } from './bucket.js';

it('every room has a bucket below the count, whatever the case of its id', () => {
  fc.assert(
    fc.property(fc.uuid(), (id) => {
      expect(roomBucket(id)).toBe(roomBucket(id.toUpperCase()));
      expect(roomBucket(id)).toBeGreaterThanOrEqual(0);
      expect(roomBucket(id)).toBeLessThan(bucketCount);
    }),
  );
});
