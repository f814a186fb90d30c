/**
 * A fingerprint of 64 bits that near texts nearly share (M. Charikar 2002): each word and each pair of neighbours
 * votes on every bit. It tells a copy with a word or two changed, for the cost of one pass and without keeping the
 * text; it knows nothing of meaning.
 */
import { spread } from "./spread.ts";

export interface SimHash {
  readonly low: number;
  readonly high: number;
  /** UTF-16 units of the text that was read. */
  readonly units: number;
}

/** A longer text is known by its beginning. */
const UNITS_MAX = 16_384;
/** Fewer words say too little: "yes, please" is nobody's copy. */
const WORDS_MIN = 5;
const BITS = 64;
const WORDS_LISTED_MAX = 4_096;

/** Votes of the text at hand; one for all, as hashing is synchronous. */
const votes = new Int32Array(BITS);

/** Of a folded text (lower case, single spaces); undefined where it has too few words. */
export function simHash(text: string): SimHash | undefined {
  votes.fill(0);
  const end = Math.min(text.length, UNITS_MAX);
  let words = 0;
  let before = 0;
  for (let at = 0; at < end && words < WORDS_LISTED_MAX; ) {
    if (!isWord(text.charCodeAt(at))) {
      at += 1;
      continue;
    }
    let hash = 0x811c9dc5 | 0;
    for (; at < end && isWord(text.charCodeAt(at)); at++) {
      hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
    }
    words += 1;
    vote(hash);
    if (words > 1) vote(Math.imul(before, 31) + hash);
    before = hash;
  }
  if (words < WORDS_MIN) return undefined;
  let low = 0;
  let high = 0;
  for (let bit = 0; bit < 32; bit++) {
    if (votes[bit]! > 0) low |= 1 << bit;
    if (votes[bit + 32]! > 0) high |= 1 << bit;
  }
  return { low, high, units: text.length };
}

/** Bits in which two differ, 0..64. */
export function distanceOf(one: SimHash, other: SimHash): number {
  return ones(one.low ^ other.low) + ones(one.high ^ other.high);
}

/** Letters and digits; a word of a script without spaces is a run of them, and told by its neighbours. */
function isWord(unit: number): boolean {
  if (unit >= 128) return unit < 0x2000 || unit > 0x206f;
  return (unit >= 97 && unit <= 122) || (unit >= 48 && unit <= 57);
}

function vote(hash: number): void {
  const [low, high] = [spread(hash), spread(hash ^ 0x5bd1e995)];
  for (let bit = 0; bit < 32; bit++) {
    votes[bit] = votes[bit]! + ((low >>> bit) & 1) * 2 - 1;
    votes[bit + 32] = votes[bit + 32]! + ((high >>> bit) & 1) * 2 - 1;
  }
}

export function ones(bits: number): number {
  let rest = bits - ((bits >>> 1) & 0x55555555);
  rest = (rest & 0x33333333) + ((rest >>> 2) & 0x33333333);
  return Math.imul((rest + (rest >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
