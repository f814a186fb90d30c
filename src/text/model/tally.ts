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

/** Words that are remembered; 384 KiB for two groups of heads, so that they stay near the processor. */
const SLOTS_BITS = 13;

/** By UTF-16 unit: 0 what is in no word, `letterCode` for what a word with a key is made of, RARE the others. */
const RARE = 32;
const letters = unitClass.map((kind, unit) => (kind === OTHER ? 0 : letterCode[unit]! || RARE));

/** Fields of a slot: the word's letters in two numbers, its hash, how many features it has, and a sum for each head. */
const LOW = 0;
const HIGH = 1;
const HASH = 2;
const COUNT = 3;
const SUMS = 4;

/** A place holds the weights of four heads in one number for each group. */
const GROUP = 4;
/**
 * Weights are added two in one number, each in a lane of 16 bits: as bytes from 0 on, and so few at a time that no lane
 * is ever full.
 */
const LANES = 0x00ff00ff;
const LANE = 16;
const LANE_MASK = 0xffff;
const BYTE_OFFSET = 128;
/** Words, of two weights each, after which the lanes are emptied. */
const WORDS_AT_ONCE = 64;

export class Tally {
  /** Features that the last `read` summed up. */
  count = 0;
  /** Sums of the weights of each head, group after group; exact, as 2^31 holds 16 million signed bytes. */
  readonly sums: Int32Array;
  /** By place, its groups side by side, so that they lie in one line of the processor's cache; bytes from 0 on. */
  readonly #table: Int32Array;
  readonly #mask: number;
  readonly #groups: 1 | 2;
  readonly #places = new Int32Array(FEATURES_MAX);
  readonly #slots: Int32Array;

  /** Each table: a power of two places, of which each holds four heads' weights as signed bytes; of one length. */
  constructor(table: Int32Array, second?: Int32Array) {
    this.#groups = second === undefined ? 1 : 2;
    this.#mask = table.length - 1;
    this.#table = new Int32Array(table.length * this.#groups);
    for (let place = 0; place < table.length; place++) {
      this.#table[place * this.#groups] = fromZero(table[place]!);
      if (second !== undefined) this.#table[2 * place + 1] = fromZero(second[place]!);
    }
    const slot = SUMS + GROUP * this.#groups;
    // One behind the others, for a word that is not remembered.
    this.#slots = new Int32Array(slot * (2 ** SLOTS_BITS + 1));
    this.sums = new Int32Array(GROUP * this.#groups);
  }

  /** Of the features of a folded text's part, as `readFeatures` reads it. */
  read(text: string, start: number, end: number, shape: Shape): void {
    const length = Math.min(end - start, FEATURES_TEXT_MAX);
    const units = unitsOf(text, start, start + length);
    const table = this.#table;
    const mask = this.#mask;
    const slots = this.#slots;
    const sums = this.sums;
    const isTwin = this.#groups === 2;
    const shift = isTwin ? 1 : 0;
    const size = SUMS + GROUP * this.#groups;
    const passing = size << SLOTS_BITS;
    let [even, odd, even2, odd2] = [0, 0, 0, 0];
    let waiting = 0;
    let count = 0;
    let before = 0;
    let beforeThat = 0;
    let words = 0;
    let marks = 0;
    let at = 0;
    sums.fill(0);
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
        alone = (hash & mask) << shift;
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
        let slot = passing;
        if (kinds < RARE && at - from <= LETTERS_MAX) {
          slot = slotOf(low, high, SLOTS_BITS) * size;
          if (slots[slot + LOW] !== low || slots[slot + HIGH] !== high) {
            this.#fill(slot, units, from, at);
            slots[slot + LOW] = low;
            slots[slot + HIGH] = high;
          }
        } else this.#fill(slot, units, from, at);
        hash = slots[slot + HASH]!;
        count += slots[slot + COUNT]! + 2;
        for (let k = 0; k < sums.length; k++) sums[k]! += slots[slot + SUMS + k]!;
        alone = triplePlace(beforeThat, hash, mask) << shift;
      }
      const pair = pairPlace(before, hash, mask) << shift;
      let one = table[alone]!;
      let other = table[pair]!;
      even += (one & LANES) + (other & LANES);
      odd += ((one >>> 8) & LANES) + ((other >>> 8) & LANES);
      if (isTwin) {
        one = table[alone + 1]!;
        other = table[pair + 1]!;
        even2 += (one & LANES) + (other & LANES);
        odd2 += ((one >>> 8) & LANES) + ((other >>> 8) & LANES);
      }
      waiting += 1;
      if (waiting === WORDS_AT_ONCE) {
        empty(even, odd, waiting, sums, 0);
        if (isTwin) empty(even2, odd2, waiting, sums, GROUP);
        even = odd = even2 = odd2 = waiting = 0;
      }
      beforeThat = before;
      before = hash;
    }
    empty(even, odd, waiting, sums, 0);
    if (isTwin) empty(even2, odd2, waiting, sums, GROUP);
    const facts = shapePlaces(shape, { words, marks }, mask, this.#places, 0);
    this.#sum(facts, sums, 0);
    this.count = count + facts;
  }

  /** Writes what a word gives by itself into its slot. */
  #fill(slot: number, units: Uint16Array, from: number, to: number): void {
    const slots = this.#slots;
    const hash = wordHash(units, from, to);
    const count = wordPlaces(units, from, to, hash, this.#mask, this.#places, 0);
    slots[slot + HASH] = hash;
    slots[slot + COUNT] = count;
    slots.fill(0, slot + SUMS, slot + SUMS + this.sums.length);
    this.#sum(count, slots, slot + SUMS);
  }

  /** Adds the weights of the first `count` of `#places`. */
  #sum(count: number, into: Int32Array, at: number): void {
    const groups = this.#groups;
    for (let from = 0; from < count; from += 2 * WORDS_AT_ONCE) {
      const to = Math.min(count, from + 2 * WORDS_AT_ONCE);
      for (let group = 0; group < groups; group++) {
        let [even, odd] = [0, 0];
        for (let k = from; k < to; k++) {
          const packed = this.#table[this.#places[k]! * groups + group]!;
          even += packed & LANES;
          odd += (packed >>> 8) & LANES;
        }
        empty(even, odd, (to - from) / 2, into, at + GROUP * group);
      }
    }
  }
}

/** Signed bytes as bytes from 0 on. */
function fromZero(packed: number): number {
  return packed ^ 0x80808080;
}

/** Adds what is in the lanes, after two weights for each of `words`. */
function empty(even: number, odd: number, words: number, into: Int32Array, at: number): void {
  const offset = 2 * BYTE_OFFSET * words;
  into[at]! += (even & LANE_MASK) - offset;
  into[at + 1]! += (odd & LANE_MASK) - offset;
  into[at + 2]! += (even >>> LANE) - offset;
  into[at + 3]! += (odd >>> LANE) - offset;
}
