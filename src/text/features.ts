/**
 * Text as a linear model reads it: hashed character and word n-grams and a few facts of its shape, as places in
 * a table of weights. Serving and training share this file, so that a model never sees other features than it
 * was trained on; a change here is a new `FEATURES_VERSION`, and an artifact of another version is refused.
 *
 * Words are runs of letters and digits; character n-grams run over a word and the spaces beside it. A word of a
 * script without spaces (Han, Kana, Thai ...) also gives its single units and pairs, as it is hardly ever whole
 * seen twice. What a word gives by itself is told apart from what it gives with the words before it (`pairPlace`,
 * `triplePlace`), as serving remembers the former (model/tally.ts).
 */
import { spread } from "./spread.ts";
import { unitsOf } from "./units.ts";

export const FEATURES_VERSION = 1;

/** The longest text that is read at once, UTF-16 units; longer ones are cut into windows by the caller. */
export const FEATURES_TEXT_MAX = 2048;
/** Room that `readFeatures` needs: five n-grams a unit at most, two for each word, and the facts. */
export const FEATURES_MAX = FEATURES_TEXT_MAX * 8 + 64;

/** Facts of a text's raw form that its folded form no longer shows. */
export interface Shape {
  /** Share of capitals among ASCII letters, 0..1. */
  readonly capitals: number;
  /** Line breaks. */
  readonly lines: number;
  /** Units of the whole text, of which this may be a window. */
  readonly units: number;
  /** What was undressed to read it, one bit a kind of disguise (`disguisesOf` in model/disguises.ts); 0: nothing. */
  readonly disguises: number;
}

const PRIME = 0x01000193;
export const SPACE = 32;

/** Classes of units: what a word is made of, and which words are read unit by unit. */
export const OTHER = 0;
const WORD = 1;
const DENSE = 2;

/** Thai to Myanmar, Kana, Han, and surrogates (emoji, rare Han): no spaces between words. */
function classOf(unit: number): number {
  if (unit < 128) return /[a-z0-9_']/.test(String.fromCharCode(unit)) ? WORD : OTHER;
  if (unit >= 0x0e00 && unit <= 0x109f) return DENSE;
  if (unit >= 0x2e80 && unit <= 0x9fff) return unit >= 0x3000 && unit <= 0x303f ? OTHER : DENSE;
  if (unit >= 0xd800 && unit <= 0xdfff) return DENSE;
  if (unit < 0xc0 || (unit >= 0x2000 && unit <= 0x2bff) || unit >= 0xfe00) return OTHER;
  return WORD;
}

/** By UTF-16 unit. */
export const unitClass = Uint8Array.from({ length: 0x10000 }, (_, unit) => classOf(unit));

/**
 * Writes the places of a folded text's features (`canonical`'s plain view: lower case, single spaces) into `into`
 * and answers how many. A place is in [0, 2^bits); one that occurs twice is written twice. Reads at most
 * FEATURES_TEXT_MAX units from `start`.
 */
export function readFeatures(
  text: string,
  start: number,
  end: number,
  shape: Shape,
  bits: number,
  into: Int32Array,
): number {
  const mask = 2 ** bits - 1;
  const length = Math.min(end - start, FEATURES_TEXT_MAX);
  const units = unitsOf(text, start, start + length);
  let count = 0;
  let before = 0;
  let beforeThat = 0;
  let words = 0;
  let marks = 0;
  let at = 0;
  while (at < length) {
    const unit = units[at]!;
    if (unitClass[unit] === OTHER) {
      at += 1;
      if (unit === SPACE) continue;
      marks += 1;
      const hash = markHash(unit);
      into[count++] = hash & mask;
      into[count++] = pairPlace(before, hash, mask);
      beforeThat = before;
      before = hash;
      continue;
    }
    const from = at;
    while (at < length && unitClass[units[at]!] !== OTHER) at += 1;
    words += 1;
    const hash = wordHash(units, from, at);
    into[count++] = pairPlace(before, hash, mask);
    into[count++] = triplePlace(beforeThat, hash, mask);
    beforeThat = before;
    before = hash;
    count = wordPlaces(units, from, at, hash, mask, into, count);
  }
  return shapePlaces(shape, { words, marks }, mask, into, count);
}

/** A mark is a word of one unit: "###" and "[INST]" are told by the pairs that they stand in. */
export function markHash(unit: number): number {
  return spread(unit + 0x51ed270b);
}

export function wordHash(units: Uint16Array, from: number, to: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ units[i]!, PRIME);
  return spread(hash);
}

/** Of a word or mark and the one before it; 0 stands before the first. */
export function pairPlace(before: number, hash: number, mask: number): number {
  return spread(Math.imul(before, 31) + hash) & mask;
}

/** Of a word and the one before the one before it. */
export function triplePlace(beforeThat: number, hash: number, mask: number): number {
  return spread(Math.imul(beforeThat, 131) + hash + 0x3c6ef372) & mask;
}

/** What the word [from, to) gives by itself, written from `into[at]` on; answers where it ended. */
export function wordPlaces(
  units: Uint16Array,
  from: number,
  to: number,
  whole: number,
  mask: number,
  into: Int32Array,
  at: number,
): number {
  let count = at;
  into[count++] = whole & mask;
  const isDense = unitClass[units[from]!] === DENSE;
  // n-grams of 3 to 5 units, the spaces around the word included.
  for (let i = from - 1; i < to - 1; i++) {
    const first = i < from ? SPACE : units[i]!;
    const second = units[i + 1]!;
    let hash = Math.imul(Math.imul(first ^ 0x2545f491, PRIME) ^ second, PRIME);
    if (isDense) {
      into[count++] = spread(second + 0x1b873593) & mask;
      into[count++] = spread(hash) & mask;
    }
    for (let length = 3; length <= 5; length++) {
      const last = i + length - 1;
      if (last > to) break;
      hash = Math.imul(hash ^ (last === to ? SPACE : units[last]!), PRIME);
      into[count++] = spread(hash + length) & mask;
    }
  }
  return count;
}

/** What the text looks like, each in a few steps, so that a linear model can bend; written as `wordPlaces` writes. */
export function shapePlaces(
  { units, lines, capitals, disguises }: Shape,
  { words, marks }: { readonly words: number; readonly marks: number },
  mask: number,
  into: Int32Array,
  at: number,
): number {
  let count = at;
  into[count++] = factPlace(1, Math.min(12, Math.floor(Math.log2(1 + units))), mask);
  into[count++] = factPlace(2, Math.min(8, Math.floor(Math.log2(1 + lines))), mask);
  into[count++] = factPlace(3, Math.floor(capitals * 8), mask);
  into[count++] = factPlace(4, Math.floor((8 * marks) / (1 + marks + words)), mask);
  for (let bit = 0; disguises >> bit !== 0; bit++) {
    if ((disguises >> bit) & 1) into[count++] = factPlace(5, bit, mask);
  }
  return count;
}

function factPlace(id: number, step: number, mask: number): number {
  return spread(Math.imul(id, 0x9e3779b1) + step) & mask;
}

/** What a unit adds to a text's shape, all in one number: capitals, letters and line breaks, each in 12 bits. */
const shapeParts = new Float64Array(0x10000);
const PART = 2 ** 12;
for (let i = 0; i < 26; i++) {
  shapeParts[65 + i] = 1 + PART;
  shapeParts[97 + i] = PART;
}
shapeParts[10] = PART * PART;

/** The raw text's shape; one pass over at most FEATURES_TEXT_MAX units. */
export function shapeOf(text: string, start = 0, end = text.length, disguises = 0): Shape {
  const length = Math.max(0, Math.min(end - start, FEATURES_TEXT_MAX));
  const units = unitsOf(text, start, start + length);
  let sum = 0;
  for (let i = 0; i < length; i++) sum += shapeParts[units[i]!]!;
  const capitals = sum % PART;
  const rest = (sum - capitals) / PART;
  const letters = rest % PART;
  return {
    capitals: capitals / (1 + letters),
    lines: (rest - letters) / PART,
    units: text.length,
    disguises,
  };
}
