/**
 * A sequential test that may be looked at after every second and still keeps its promise: an e-process. It bets
 * against "the rate is at most the band"; while that is true its wealth rarely grows, by Ville's inequality never past
 * 1/alpha with a probability above alpha, however long it runs. When the rate is above the band its wealth grows
 * exponentially.
 *
 *   wealth(q) <- (wealth(q) + what is staked now) x likelihood ratio of this second, q against the band
 *   evidence   = log of the mean over several q (a mixture: nobody knows how bad it will be)
 *
 * Half of the stake is put on the first second (a bad change is mostly bad at once), the rest in equal parts on the
 * seconds after, so that a change that turns bad after a good hour is found as soon.
 * Real traffic comes in clumps; a ratio is taken to the power 1/dispersion, and one second counts for at most a
 * third of what is needed, so that no single burst decides. (Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic
 * statistics and safe anytime-valid inference", 2023; Robbins, "Statistical methods related to the law of the
 * iterated logarithm", 1970, for the mixture.)
 */

/** How much worse than the band the bets are, in odds. */
const WORSE = [1.5, 2.2, 6, 30];
const RATE_MAX = 0.999;

export interface Second {
  readonly requests: number;
  /** Of them: those that count against the change. */
  readonly hits: number;
  /** The highest rate that is in order. */
  readonly band: number;
  /** Variance over that of independent requests; 1 or more. */
  readonly dispersion: number;
}

export class Evidence {
  /** Log of the wealth for each q; starts empty. */
  readonly #wealth = WORSE.map(() => Number.NEGATIVE_INFINITY);
  readonly #needed: number;
  readonly #laterStake: number;
  #staked = false;

  /** `needed`: ln(1/alpha); `seconds`: over how many the later half of the stake is spread. */
  constructor({ needed, seconds }: { readonly needed: number; readonly seconds: number }) {
    this.#needed = needed;
    this.#laterStake = Math.log(0.5 / Math.max(1, seconds));
  }

  note({ requests, hits, band, dispersion }: Second): void {
    if (requests <= 0) return;
    const stake = this.#staked ? this.#laterStake : Math.log(0.5);
    this.#staked = true;
    for (const [i, worse] of WORSE.entries()) {
      const odds = (band / (1 - band)) * worse;
      const rate = Math.min(RATE_MAX, odds / (1 + odds));
      const ratio = hits * Math.log(rate / band) + (requests - hits) * Math.log((1 - rate) / (1 - band));
      this.#wealth[i] = logSum(this.#wealth[i]!, stake) + Math.min(this.#needed / 3, ratio / dispersion);
    }
  }

  /** Log of the wealth; at `needed` the band counts as left. */
  get value(): number {
    return this.#wealth.reduce(logSum, Number.NEGATIVE_INFINITY) - Math.log(WORSE.length);
  }

  get isEnough(): boolean {
    return this.value >= this.#needed;
  }
}

function logSum(a: number, b: number): number {
  const high = Math.max(a, b);
  if (high === Number.NEGATIVE_INFINITY) return high;
  return high + Math.log1p(Math.exp(Math.min(a, b) - high));
}
