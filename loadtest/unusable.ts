/** What keeps the run from starting, in words for who started it. */
export class Unusable extends Error {}
