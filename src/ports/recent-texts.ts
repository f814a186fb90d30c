/**
 * Who was refused with what, lately: SimHashes by seat and caller, so that a text that is sent again with a word or
 * two changed is known for what it is. In this process alone, bounded, and no text is kept.
 */
import type { RecentTexts, TextPrint } from "../layer/index.ts";
import { distanceOf } from "../text/simhash.ts";

const CALLERS_MAX = 20_000;
/** Of one caller; the oldest goes first. */
const TEXTS_MAX = 8;
/** So many of the 64 bits may differ in a text that counts as the same one, reworded. */
const DISTANCE_MAX = 12;

interface Refused {
  readonly print: TextPrint;
  readonly atMs: number;
}

export class RecentTextStore {
  /** Insertion order is age: a caller who is refused again moves to the young end. */
  readonly #callers = new Map<string, Refused[]>();
  readonly #now: () => number;

  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
  }

  get size(): number {
    return this.#callers.size;
  }

  forSeat(seat: string): RecentTexts {
    const keyOf = (who: string) => `${seat}\0${who}`;
    return {
      note: (who, print) => this.#note(keyOf(who), print),
      nearest: (who, print, withinMs) => this.#nearest(this.#callers.get(keyOf(who)), print, withinMs),
      knows: (who) => this.#callers.size > 0 && this.#callers.has(keyOf(who)),
    };
  }

  #note(key: string, print: TextPrint): void {
    const refused = this.#callers.get(key) ?? [];
    refused.push({ print, atMs: this.#now() });
    if (refused.length > TEXTS_MAX) refused.shift();
    this.#callers.delete(key);
    this.#callers.set(key, refused);
    if (this.#callers.size <= CALLERS_MAX) return;
    for (const oldest of this.#callers.keys()) {
      this.#callers.delete(oldest);
      break;
    }
  }

  #nearest(refused: readonly Refused[] | undefined, print: TextPrint, withinMs: number): number {
    if (refused === undefined) return 0;
    const sinceMs = this.#now() - withinMs;
    let least = DISTANCE_MAX + 1;
    for (const { print: other, atMs } of refused) {
      if (atMs >= sinceMs) least = Math.min(least, distanceOf(print, other));
    }
    return least > DISTANCE_MAX ? 0 : 1 - least / 32;
  }
}
