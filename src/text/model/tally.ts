/**
 * The weights of a text's features summed up, as serving needs them: the same sums as over the places that
 * `readFeatures` writes, at a fraction of the cost. Most words of a text were seen before, and what a word gives by
 * itself (nine tenths of all features) never changes: it is remembered, and only pairs and triples are looked up.
 *
 *   word -> key (word-key.ts) -> slot -> same key: hash, count, four sums
 *                                    -> another: read its n-grams, write the slot
 *
 * What is kept are single words of letters, in no order, until others fall into their slots.
 */
import {
  FEATURES_MAX,
  FEATURES_TEXT_MAX,
  markHash,
  OTHER,
  pairPlace,
  type Shape,
  SPACE,
  shapePlaces,
  triplePlace,
  unitClass,
  wordHash,
  wordPlaces,
} from "../features.ts";
import { unitsOf } from "../units.ts";
import { HALF_MASK, LETTERS_MAX, letterCode, slotOf } from "../word-key.ts";

/** Words that are remembered, and numbers that one takes; 256 KiB in all, so that they stay near the processor. */
const SLOTS_BITS = 13;
const SLOT = 8;

/** By UTF-16 unit: 0 what is in no word, `letterCode` for what a word with a key is made of, RARE the others. */
const RARE = 32;
const letters = unitClass.map((kind, unit) => (kind === OTHER ? 0 : letterCode[unit]! || RARE));

/** Fields of a slot: the word's letters in two numbers, its hash, how many features it has, and a sum for each head. */
const LOW = 0;
const HIGH = 1;
const HASH = 2;
const COUNT = 3;
const SUMS = 4;
/** Behind the others, for a word that is not remembered. */
const PASSING = SLOT << SLOTS_BITS;

export class Tally {
  /** Features that the last `read` summed up. */
  count = 0;
  /** Sums of the four heads' weights; exact, as 2^31 holds 16 million signed bytes. */
  readonly sums = new Int32Array(4);
  readonly #table: Int32Array;
  readonly #places = new Int32Array(FEATURES_MAX);
  readonly #slots = new Int32Array(PASSING + SLOT);

  /** `table`: a power of two places; each holds the four heads' weights as signed bytes. */
  constructor(table: Int32Array) {
    this.#table = table;
  }

  /** Of the features of a folded text's part, as `readFeatures` reads it. */
  read(text: string, start: number, end: number, shape: Shape): void {
    const length = Math.min(end - start, FEATURES_TEXT_MAX);
    const units = unitsOf(text, start, start + length);
    const table = this.#table;
    const mask = table.length - 1;
    const slots = this.#slots;
    let [any, harmful, jailbreak, injection] = [0, 0, 0, 0];
    let count = 0;
    let before = 0;
    let beforeThat = 0;
    let words = 0;
    let marks = 0;
    let at = 0;
    while (at < length) {
      let letter = letters[units[at]!]!;
      let hash: number;
      let alone: number;
      if (letter === 0) {
        const unit = units[at++]!;
        if (unit === SPACE) continue;
        marks += 1;
        count += 2;
        hash = markHash(unit);
        alone = table[hash & mask]!;
      } else {
        const from = at;
        let low = 0;
        let high = 0;
        let kinds = 0;
        do {
          high = (high << 5) | (low >>> 25);
          low = ((low << 5) & HALF_MASK) | letter;
          kinds |= letter;
          at += 1;
          letter = at < length ? letters[units[at]!]! : 0;
        } while (letter !== 0);
        words += 1;
        let slot = PASSING;
        if (kinds < RARE && at - from <= LETTERS_MAX) {
          slot = slotOf(low, high, SLOTS_BITS) * SLOT;
          if (slots[slot + LOW] !== low || slots[slot + HIGH] !== high) {
            this.#fill(slot, units, from, at);
            slots[slot + LOW] = low;
            slots[slot + HIGH] = high;
          }
        } else this.#fill(slot, units, from, at);
        hash = slots[slot + HASH]!;
        count += slots[slot + COUNT]! + 2;
        any += slots[slot + SUMS]!;
        harmful += slots[slot + SUMS + 1]!;
        jailbreak += slots[slot + SUMS + 2]!;
        injection += slots[slot + SUMS + 3]!;
        alone = table[triplePlace(beforeThat, hash, mask)]!;
      }
      const pair = table[pairPlace(before, hash, mask)]!;
      any += ((alone << 24) >> 24) + ((pair << 24) >> 24);
      harmful += ((alone << 16) >> 24) + ((pair << 16) >> 24);
      jailbreak += ((alone << 8) >> 24) + ((pair << 8) >> 24);
      injection += (alone >> 24) + (pair >> 24);
      beforeThat = before;
      before = hash;
    }
    const facts = shapePlaces(shape, { words, marks }, mask, this.#places, 0);
    const sums = this.sums;
    this.#sum(facts, sums, 0);
    sums[0]! += any;
    sums[1]! += harmful;
    sums[2]! += jailbreak;
    sums[3]! += injection;
    this.count = count + facts;
  }

  /** Writes what a word gives by itself into its slot. */
  #fill(slot: number, units: Uint16Array, from: number, to: number): void {
    const slots = this.#slots;
    const hash = wordHash(units, from, to);
    const count = wordPlaces(units, from, to, hash, this.#table.length - 1, this.#places, 0);
    slots[slot + HASH] = hash;
    slots[slot + COUNT] = count;
    this.#sum(count, slots, slot + SUMS);
  }

  /** Sums up the first `count` of `#places` into four cells of `into`. */
  #sum(count: number, into: Int32Array, at: number): void {
    const table = this.#table;
    const places = this.#places;
    let [any, harmful, jailbreak, injection] = [0, 0, 0, 0];
    for (let k = 0; k < count; k++) {
      const packed = table[places[k]!]!;
      any += (packed << 24) >> 24;
      harmful += (packed << 16) >> 24;
      jailbreak += (packed << 8) >> 24;
      injection += packed >> 24;
    }
    into[at] = any;
    into[at + 1] = harmful;
    into[at + 2] = jailbreak;
    into[at + 3] = injection;
  }
}
