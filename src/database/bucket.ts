/** How many buckets the rooms are spread over. */
export const bucketCount = 16;

/**
 * The bucket of a room: the last hex digit of its id, 0 to 15. The same rule as SQL's `room_bucket`, so that no look-up stands between a
 * room and its place.
 * @param roomId a UUID
 */
export const roomBucket = (roomId: string): number => Number.parseInt(roomId.slice(-1), 16);
