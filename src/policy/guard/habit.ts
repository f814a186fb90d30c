/**
 * What is usual of a segment, learned from its traffic while nothing was being judged: rates, how much they scatter,
 * how far they wander, and what the seats find. Old traffic fades with the segment's own busy seconds, not with the
 * clock, so that a tenant who sleeps at night is known in the morning. The last minutes count by themselves too: what
 * began before the change, by the time of day or by an attack, is not the change's doing.
 *
 *   scatter   between neighbouring windows of ten seconds, over that of independent requests: bursts, templates and
 *             retries make real traffic several times as uneven as a binomial (von Neumann's mean square successive
 *             difference, which slow moods do not disturb)
 *   wander    of whole minutes about the mean, beyond what scatter explains: moods and times of day
 */
import { Figures } from "./book.ts";
import { within } from "./masks.ts";

/** Busy seconds after which old traffic counts half. */
const HALF_LIFE_SEC = 7_200;
const FADE = 0.5 ** (1 / HALF_LIFE_SEC);
const RECENT_FADE = 0.5 ** (1 / 120);
const WINDOW_SEC = 10;
const MINUTE_SEC = 60;
/** Windows of less say nothing of scatter. */
const WINDOW_REQUESTS_MIN = 20;
/** Before this many a segment has no history. */
const REQUESTS_MIN = 500;
const SECONDS_MIN = 60;
/** No single window counts for more: one attack must not make a segment blind for hours. */
const SCATTER_MAX = 20;
/** Windows of even scatter that a segment starts with. */
const PRIOR_WINDOWS = 10;
const SETS_MAX = 24;
/** Plus two standard errors, and two standard deviations of the wander: what history cannot tell is not held against the change. */
const DEVIATIONS = 2;

/** A mean that fades. */
class Mean {
  #sum: number;
  #weight: number;

  constructor(prior: number, weight: number) {
    this.#sum = prior * weight;
    this.#weight = weight;
  }

  note(value: number, fade: number): void {
    this.#sum = this.#sum * fade + value;
    this.#weight = this.#weight * fade + 1;
  }

  get value(): number {
    return this.#weight === 0 ? 0 : this.#sum / this.#weight;
  }
}

/** How one set of seats' share of refusals scatters and wanders. */
class Unevenness {
  readonly scatter = new Mean(1, PRIOR_WINDOWS);
  /** Variance of the share. */
  readonly wander = new Mean(0, 0);
}

export class Habit {
  readonly figures = new Figures();
  readonly #recent = new Figures();
  #seconds = 0;
  #window = new Figures();
  #before: Figures | undefined;
  #windowSec = 0;
  #minute = new Figures();
  #minuteSec = 0;
  readonly #uneven = new Map<number, Unevenness>();

  get isKnown(): boolean {
    return this.figures.requests >= REQUESTS_MIN && this.#seconds >= SECONDS_MIN;
  }

  /** Requests a busy second. */
  get pace(): number {
    return this.#seconds === 0 ? 0 : this.figures.requests / this.#seconds;
  }

  learn(page: Figures): void {
    if (page.requests === 0 && page.appeals === 0) return;
    this.figures.scale(FADE);
    this.#recent.scale(RECENT_FADE);
    this.#seconds = this.#seconds * FADE + 1;
    for (const figures of [this.figures, this.#recent, this.#window, this.#minute]) figures.add(page);
    this.#windowSec += 1;
    this.#minuteSec += 1;
    if (this.#windowSec >= WINDOW_SEC) this.#closeWindow();
    if (this.#minuteSec >= MINUTE_SEC) this.#closeMinute();
  }

  /** Takes in what was counted while a change was judged and found good. */
  absorb(figures: Figures, seconds: number): void {
    if (figures.requests === 0) return;
    const fade = FADE ** seconds;
    this.figures.scale(fade);
    this.#recent.scale(RECENT_FADE ** seconds);
    this.#seconds = this.#seconds * fade + seconds;
    this.figures.add(figures);
    this.#before = undefined;
  }

  /** The usual share of requests that these seats alone refuse; the last minutes where they are worse. */
  refused(touched: number, column: "refused" | "would"): number {
    const usual = shareOf(this.figures, touched, column);
    return this.#recent.requests < WINDOW_REQUESTS_MIN * 5
      ? usual
      : Math.max(usual, shareOf(this.#recent, touched, column));
  }

  /** A share with all that history cannot tell on top. */
  upper(rate: number, touched: number): number {
    const { requests } = this.figures;
    const error = (this.dispersion(touched) * Math.max(rate * (1 - rate), 1 / requests)) / requests;
    let wander = 0;
    for (const [mask, uneven] of this.#uneven) {
      if ((mask & ~touched) === 0) wander += Math.max(0, uneven.wander.value);
    }
    return rate + DEVIATIONS * Math.sqrt(error + wander);
  }

  /** Variance over that of independent requests: at least 1. */
  dispersion(touched: number): number {
    let worst = 1;
    for (const [mask, uneven] of this.#uneven) {
      if ((mask & ~touched) === 0) worst = Math.max(worst, uneven.scatter.value);
    }
    return worst;
  }

  #closeWindow(): void {
    const now = this.#window;
    const before = this.#before;
    this.#window = new Figures();
    this.#windowSec = 0;
    this.#before = now.requests < WINDOW_REQUESTS_MIN ? undefined : now;
    if (this.#before === undefined || before === undefined || !this.isKnown) return;
    for (const { mask, would } of this.figures.masks.cells) {
      const rate = would / this.figures.requests;
      if (rate === 0) continue;
      const [a, b] = [before.masks.cell(mask).would, now.masks.cell(mask).would];
      const difference = a / before.requests - b / now.requests;
      const local = (a + b) / (before.requests + now.requests);
      const chance =
        Math.max(local * (1 - local), 1 / now.requests) * (1 / before.requests + 1 / now.requests);
      const statistic = Math.min(SCATTER_MAX, difference ** 2 / chance);
      this.#unevenness(mask)?.scatter.note(statistic, FADE ** WINDOW_SEC);
    }
  }

  #closeMinute(): void {
    const minute = this.#minute;
    this.#minute = new Figures();
    this.#minuteSec = 0;
    if (minute.requests < WINDOW_REQUESTS_MIN || !this.isKnown) return;
    for (const { mask, would } of this.figures.masks.cells) {
      const rate = would / this.figures.requests;
      const uneven = rate === 0 ? undefined : this.#unevenness(mask);
      if (uneven === undefined) continue;
      const away = minute.masks.cell(mask).would / minute.requests - rate;
      // Bounded: what an attack does for a minute is no mood.
      const squared = Math.min(Math.abs(away), rate) ** 2;
      const chance = (uneven.scatter.value * rate * (1 - rate)) / minute.requests;
      uneven.wander.note(squared - Math.min(chance, rate ** 2), FADE ** MINUTE_SEC);
    }
  }

  #unevenness(mask: number): Unevenness | undefined {
    const known = this.#uneven.get(mask);
    if (known !== undefined || this.#uneven.size >= SETS_MAX) return known;
    const made = new Unevenness();
    this.#uneven.set(mask, made);
    return made;
  }
}

function shareOf({ requests, masks }: Figures, touched: number, column: "refused" | "would"): number {
  return requests === 0 ? 0 : within(masks, touched, column) / requests;
}
