/**
 * Text as a linear model reads it: hashed character and word n-grams and a few facts of its shape, as places in
 * a table of weights. Serving and training share this file, so that a model never sees other features than it
 * was trained on; a change here is a new `FEATURES_VERSION`, and an artifact of another version is refused.
 *
 * Words are runs of letters and digits; character n-grams run over a word and the spaces beside it. A word of a
 * script without spaces (Han, Kana, Thai ...) also gives its single units and pairs, as it is hardly ever whole
 * seen twice.
 */
import { spread } from "./spread.ts";

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
const SPACE = 32;

/** Classes of units: what a word is made of, and which words are read unit by unit. */
const OTHER = 0;
const WORD = 1;
const DENSE = 2;

const asciiClass = new Uint8Array(128);
for (let unit = 0; unit < 128; unit++) {
  asciiClass[unit] = /[a-z0-9_']/.test(String.fromCharCode(unit)) ? WORD : OTHER;
}

/** Thai to Myanmar, Kana, Han, and surrogates (emoji, rare Han): no spaces between words. */
function classOf(unit: number): number {
  if (unit < 128) return asciiClass[unit]!;
  if (unit >= 0x0e00 && unit <= 0x109f) return DENSE;
  if (unit >= 0x2e80 && unit <= 0x9fff) return unit >= 0x3000 && unit <= 0x303f ? OTHER : DENSE;
  if (unit >= 0xd800 && unit <= 0xdfff) return DENSE;
  if (unit < 0xc0 || (unit >= 0x2000 && unit <= 0x2bff) || unit >= 0xfe00) return OTHER;
  return WORD;
}

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
  const stop = Math.min(end, start + FEATURES_TEXT_MAX);
  let count = 0;
  let before = 0;
  let beforeThat = 0;
  let words = 0;
  let marks = 0;
  let at = start;
  while (at < stop) {
    const kind = classOf(text.charCodeAt(at));
    if (kind === OTHER) {
      const unit = text.charCodeAt(at++);
      if (unit === SPACE) continue;
      // A mark is a word of one unit: "###" and "[INST]" are told by the pairs that they stand in.
      marks += 1;
      const hash = spread(unit + 0x51ed270b);
      into[count++] = hash & mask;
      into[count++] = spread(Math.imul(before, 31) + hash) & mask;
      beforeThat = before;
      before = hash;
      continue;
    }
    const from = at;
    let whole = 0x811c9dc5 | 0;
    while (at < stop && classOf(text.charCodeAt(at)) !== OTHER) {
      whole = Math.imul(whole ^ text.charCodeAt(at++), PRIME);
    }
    words += 1;
    whole = spread(whole);
    into[count++] = whole & mask;
    into[count++] = spread(Math.imul(before, 31) + whole) & mask;
    into[count++] = spread(Math.imul(beforeThat, 131) + whole + 0x3c6ef372) & mask;
    beforeThat = before;
    before = whole;
    // n-grams of 3 to 5 units, the spaces around the word included.
    for (let i = from - 1; i < at - 1; i++) {
      const first = i < from ? SPACE : text.charCodeAt(i);
      const second = text.charCodeAt(i + 1);
      let hash = Math.imul(Math.imul(first ^ 0x2545f491, PRIME) ^ second, PRIME);
      if (kind === DENSE) {
        into[count++] = spread(second + 0x1b873593) & mask;
        into[count++] = spread(hash) & mask;
      }
      for (let length = 3; length <= 5; length++) {
        const last = i + length - 1;
        if (last > at) break;
        hash = Math.imul(hash ^ (last === at ? SPACE : text.charCodeAt(last)), PRIME);
        into[count++] = spread(hash + length) & mask;
      }
    }
  }
  // What the text looks like, each in a few steps, so that a linear model can bend.
  const fact = (id: number, step: number) => {
    into[count++] = spread(Math.imul(id, 0x9e3779b1) + step) & mask;
  };
  fact(1, Math.min(12, Math.floor(Math.log2(1 + shape.units))));
  fact(2, Math.min(8, Math.floor(Math.log2(1 + shape.lines))));
  fact(3, Math.floor(shape.capitals * 8));
  fact(4, Math.floor((8 * marks) / (1 + marks + words)));
  for (let bit = 0; shape.disguises >> bit !== 0; bit++) {
    if ((shape.disguises >> bit) & 1) fact(5, bit);
  }
  return count;
}

/** The raw text's shape; one pass over at most FEATURES_TEXT_MAX units. */
export function shapeOf(text: string, start = 0, end = text.length, disguises = 0): Shape {
  let upper = 0;
  let lower = 0;
  let lines = 0;
  const stop = Math.min(end, start + FEATURES_TEXT_MAX);
  for (let i = start; i < stop; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 97 && unit <= 122) lower += 1;
    else if (unit >= 65 && unit <= 90) upper += 1;
    else if (unit === 10) lines += 1;
  }
  return { capitals: upper / (1 + upper + lower), lines, units: text.length, disguises };
}
