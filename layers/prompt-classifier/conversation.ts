/**
 * What only several turns show. A crescendo never says at once what it wants: each turn is a little bolder than the
 * one before. So the likelihoods of the user's turns are laid on a line, and its rise is what is judged.
 */

/** User turns that are looked at, the newest ones. */
export const TURNS_MAX = 8;
/** Fewer points make no trend. */
const TURNS_MIN = 3;
/** How much less a turn counts for each turn that came after. */
const FADE = 0.8;

export interface Trend {
  /** Probability by which the trend rose over the turns. */
  readonly rise: number;
  /** Likelihood that some turn was an attack, older ones counting less: 1 - Π(1 - p · FADE^age). */
  readonly together: number;
}

/** `likelihoods` oldest first; undefined where they are too few or fall at the end. */
export function trendOf(likelihoods: readonly number[]): Trend | undefined {
  const turns = likelihoods.slice(-TURNS_MAX);
  const count = turns.length;
  if (count < TURNS_MIN) return undefined;
  const newest = turns[count - 1]!;
  // A conversation that has turned away from its boldest point is not rising.
  if (newest < Math.max(...turns)) return undefined;
  const middle = (count - 1) / 2;
  let slope = 0;
  let width = 0;
  let rest = 1;
  for (const [i, likelihood] of turns.entries()) {
    slope += (i - middle) * likelihood;
    width += (i - middle) ** 2;
    rest *= 1 - likelihood * FADE ** (count - 1 - i);
  }
  return { rise: (slope / width) * (count - 1), together: 1 - rest };
}
