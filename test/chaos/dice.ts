export interface Dice {
  /** A whole number from 0 to n - 1. */
  below(n: number): number;
}

/** The same throws for the same seed: Marsaglia's xorshift32 over a seed that is mixed first, so that near seeds differ at once. */
export function diceOf(seed: number): Dice {
  let state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  return {
    below(n) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % n;
    },
  };
}
