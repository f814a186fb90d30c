/**
 * How long the head of an answer usually takes, for each model, streamed and whole: a slow model's times must
 * not look like overload when its share of the traffic grows. What is usual moves slowly and alike in both
 * directions, so that it follows a median and not a minimum, and a single answer moves it by next to nothing.
 */

/** Models with times of their own; the rest share one entry. Callers choose names, so there is a bound. */
const MODELS_MAX = 64;
/** Answers from which a first idea is formed, before any is judged. */
const LEARN_ANSWERS = 14;
/**
 * Only of requests that were sent with few others under way: later ones may have met a queue. And all of these
 * must come, or nearly: of those that were sent together, the quick ones come first.
 */
const LEARN_ALONGSIDE = 16;
/** Where that does not happen, any will do after so many answers. */
const LEARN_PATIENCE = 200;
/** In this time what is usual may double, or halve. */
const DOUBLING_MS = 30_000;

export class Usual {
  ms = 0;
  isLearning = true;
  #learned = 0;
  #passedOver = 0;
  #above = 0;
  #below = 0;
  #driftedMs = 0;

  /** The geometric mean: one answer of a hundred times the length counts for less. */
  learn(headMs: number, alongside: number): void {
    if (alongside > LEARN_ALONGSIDE && this.#passedOver < LEARN_PATIENCE) {
      this.#passedOver += 1;
      return;
    }
    const ms = Math.max(headMs, 0.01);
    this.ms = this.#learned === 0 ? ms : this.ms * (ms / this.ms) ** (1 / (this.#learned + 1));
    this.#learned += 1;
    this.isLearning = this.#learned < LEARN_ANSWERS;
  }

  note(ratio: number): void {
    if (ratio > 1) this.#above += 1;
    else this.#below += 1;
  }

  /** Towards the median of what was noted: the step is the larger, the more of it lies on one side. */
  drift(nowMs: number): void {
    const seen = this.#above + this.#below;
    if (seen === 0) return;
    const spentMs = Math.min(nowMs - this.#driftedMs, DOUBLING_MS);
    this.ms *= 2 ** ((spentMs / DOUBLING_MS) * ((this.#above - this.#below) / seen));
    this.#driftedMs = nowMs;
  }

  forget(nowMs: number): void {
    this.#above = 0;
    this.#below = 0;
    this.#driftedMs = nowMs;
  }
}

interface OfModel {
  readonly whole: Usual;
  readonly streamed: Usual;
}

export class UsualTimes {
  /** Of the answers of the last round that had any, weighted by their number. */
  typicalMs = 0;
  readonly #models = new Map<string, OfModel>();
  readonly #others: OfModel = { whole: new Usual(), streamed: new Usual() };
  readonly #touched: Usual[] = [];
  #sumMs = 0;
  #count = 0;

  /** Made at a model's first good answer: names that no upstream knows take no room. */
  of(model: string, stream: boolean): Usual {
    let entry = this.#models.get(model);
    if (entry === undefined) {
      entry = this.#models.size < MODELS_MAX ? { whole: new Usual(), streamed: new Usual() } : this.#others;
      if (entry !== this.#others) this.#models.set(model, entry);
    }
    return stream ? entry.streamed : entry.whole;
  }

  known(model: string, stream: boolean): Usual | undefined {
    const entry = this.#models.get(model);
    return stream ? entry?.streamed : entry?.whole;
  }

  /** An answer of this kind was noted in the running round. */
  touched(usual: Usual): void {
    if (!this.#touched.includes(usual)) this.#touched.push(usual);
    this.#sumMs += usual.ms;
    this.#count += 1;
    this.typicalMs = this.#sumMs / this.#count;
  }

  /** Moves what was noted in this round towards it. */
  drift(nowMs: number): void {
    for (const usual of this.#touched) usual.drift(nowMs);
  }

  /** What was noted in this round has turned out to be so many times what was taken for usual. */
  scale(factor: number): void {
    for (const usual of this.#touched) usual.ms *= factor;
  }

  beginRound(nowMs: number): void {
    for (const usual of this.#touched) usual.forget(nowMs);
    this.#touched.length = 0;
    this.#sumMs = 0;
    this.#count = 0;
  }
}
