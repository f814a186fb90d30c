/**
 * Rules that have asked for more than their budget again and again, and run no more until the seat is compiled
 * anew. A leaking count for each rule: texts that overrun it in a burst rest it, one now and then does not. Where a
 * rested rule would have looked, a finding says so: it never rests silently.
 */

/** Texts with an overrun of any rule in which a rule's count falls by one. */
const LEAK_TEXTS = 16;

export class RestingRules {
  readonly rules = new Set<number>();
  readonly #counts = new Map<number, number>();
  readonly #after: number;
  #texts = 0;

  /** `after`: overruns until a rule rests; 0: none ever does. */
  constructor(after: number) {
    this.#after = after;
  }

  /** `over`: the rules that one text has overrun. */
  note(over: readonly number[]): void {
    if (this.#after === 0 || over.length === 0) return;
    this.#texts += 1;
    if (this.#texts % LEAK_TEXTS === 0) {
      for (const [rule, count] of this.#counts) this.#counts.set(rule, Math.max(0, count - 1));
    }
    for (const rule of over) {
      const count = (this.#counts.get(rule) ?? 0) + 1;
      this.#counts.set(rule, count);
      if (count >= this.#after) this.rules.add(rule);
    }
  }
}
