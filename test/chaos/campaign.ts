/** What `--all` plays. */
import { diceOf } from './dice.js';
import { faultNames, mixtures, type FaultName } from './faults.js';

export interface Plan {
  readonly faults: readonly FaultName[];
  readonly seed: number;
}

/**
 * Every fault alone, then mixtures in which each is once more that can be, then alone again; with a seed of its own for each round.
 * @param isOver ends it, but not before every fault was there
 */
export function* campaign(seed: number, isOver: () => boolean): Generator<Plan> {
  let round = 0;
  for (let pass = 0; ; pass++) {
    const rounds = pass % 2 === 0 ? faultNames.map((name) => [name]) : mixtures(diceOf(seed + pass));
    for (const faults of rounds) {
      if (pass > 0 && isOver()) return;
      yield { faults, seed: seed + round++ };
    }
  }
}
