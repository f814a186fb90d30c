/**
 * How many tokens a text comes to. `estimateTokens` walks the text once and counts what a tokenizer cuts at:
 * words, how long they are, digits by threes, punctuation, letters of other scripts; each count times a weight
 * gives tokens. The weights were fitted by non-negative least squares to gpt-tokenizer's o200k_base on English,
 * code, JSON, Chinese, base64 and a dozen other languages; layers/rate-limit/README.md has the error of each.
 *
 * `countTokens` asks the real tokenizer, where it was loaded and the text is short: it costs 30 times as much a
 * character, and on a text made for it a hundred times.
 */

/** Kinds of UTF-16 units. Order is of no meaning. */
const LOWER = 0;
const UPPER = 1;
const DIGIT = 2;
const SPACE = 3;
const NEWLINE = 4;
const PUNCTUATION = 5;
const LATIN = 6;
const LATIN_MORE = 7;
const CYRILLIC = 8;
const GREEK = 9;
const ARABIC = 10;
const INDIC = 11;
const CJK = 12;
const KANA = 13;
const HANGUL = 14;
const OTHER = 15;
const SURROGATE = 16;

const KINDS: readonly (readonly [kind: number, from: number, to: number])[] = [
  [PUNCTUATION, 0x00, 0x7f],
  [NEWLINE, 0x0a, 0x0d],
  [SPACE, 0x09, 0x09],
  [SPACE, 0x20, 0x20],
  [DIGIT, 0x30, 0x39],
  [UPPER, 0x41, 0x5a],
  [LOWER, 0x61, 0x7a],
  [LATIN, 0xc0, 0x24f],
  [LATIN, 0x300, 0x36f],
  [LATIN_MORE, 0x100, 0x17f],
  [LATIN_MORE, 0x1e00, 0x1eff],
  [GREEK, 0x370, 0x3ff],
  [GREEK, 0x1f00, 0x1fff],
  [CYRILLIC, 0x400, 0x58f],
  // With Hebrew.
  [ARABIC, 0x590, 0x8ff],
  [ARABIC, 0xfb1d, 0xfefc],
  // With Thai and the other scripts of South and South-East Asia.
  [INDIC, 0x900, 0x10ff],
  [INDIC, 0x1200, 0x1cff],
  [HANGUL, 0x1100, 0x11ff],
  [HANGUL, 0xac00, 0xd7a3],
  [KANA, 0x3040, 0x30ff],
  [CJK, 0x3400, 0x9fff],
  [CJK, 0xf900, 0xfaff],
  [SURROGATE, 0xd800, 0xdfff],
];

const kindOf = new Uint8Array(65_536).fill(OTHER);
for (const [kind, from, to] of KINDS) kindOf.fill(kind, from, to + 1);

/** Tokens of a text, or a part of it, as a number with a fraction, so that the parts of a stream add up. */
export function weighTokens(text: string, from = 0, to: number = text.length): number {
  let words = 0;
  let pastSixth = 0;
  let pastTwelfth = 0;
  let capitals = 0;
  let capitalsInARow = 0;
  let humps = 0;
  let mixed = 0;
  let threes = 0;
  let marks = 0;
  let marksInARow = 0;
  let gaps = 0;
  let latin = 0;
  let latinMore = 0;
  let cyrillicWords = 0;
  let cyrillic = 0;
  let greek = 0;
  let arabicWords = 0;
  let arabic = 0;
  let indic = 0;
  let cjk = 0;
  let kana = 0;
  let hangul = 0;
  let other = 0;
  let surrogates = 0;
  let before = SPACE;
  // Units since the word, number or gap began.
  let run = 0;
  for (let i = from; i < to; i++) {
    const kind = kindOf[text.charCodeAt(i)]!;
    // Most units of most texts: a letter within a word.
    if (kind === LOWER && before === LOWER) {
      run += 1;
      if (run > 6) {
        pastSixth += 1;
        if (run > 12) pastTwelfth += 1;
      }
      continue;
    }
    switch (kind) {
      case LOWER:
        if (before === LATIN || before === LATIN_MORE) {
          run += 1;
          if (run > 6) pastSixth += 1;
          if (run > 12) pastTwelfth += 1;
        } else if (before === UPPER) run += 1;
        else {
          run = 1;
          if (before === DIGIT) mixed += 1;
          else words += 1;
        }
        break;
      case UPPER:
        if (before === UPPER) {
          run += 1;
          capitalsInARow += 1;
        } else {
          run = 1;
          if (before === LOWER) humps += 1;
          else if (before === DIGIT) mixed += 1;
          else {
            words += 1;
            capitals += 1;
          }
        }
        break;
      case DIGIT:
        if (before === DIGIT) {
          run += 1;
          if (run % 3 === 1) threes += 1;
        } else {
          run = 1;
          threes += 1;
          if (before === LOWER || before === UPPER) mixed += 1;
        }
        break;
      case SPACE:
        run = before === SPACE ? run + 1 : 1;
        if (run === 2) gaps += 1;
        break;
      // A line's end goes with the mark or the gap beside it.
      case NEWLINE:
        break;
      case PUNCTUATION:
        if (before === PUNCTUATION) marksInARow += 1;
        else marks += 1;
        break;
      case LATIN:
      case LATIN_MORE:
        if (kind === LATIN) latin += 1;
        else latinMore += 1;
        if (before === LOWER || before === UPPER || before === LATIN || before === LATIN_MORE) run += 1;
        else {
          run = 1;
          words += 1;
        }
        break;
      case CYRILLIC:
        if (before !== CYRILLIC) cyrillicWords += 1;
        cyrillic += 1;
        break;
      case GREEK:
        greek += 1;
        break;
      case ARABIC:
        if (before !== ARABIC) arabicWords += 1;
        arabic += 1;
        break;
      case INDIC:
        indic += 1;
        break;
      case CJK:
        cjk += 1;
        break;
      case KANA:
        kana += 1;
        break;
      case HANGUL:
        hangul += 1;
        break;
      case SURROGATE:
        surrogates += 1;
        break;
      default:
        other += 1;
    }
    before = kind;
  }
  return (
    0.863 * words +
    0.258 * pastSixth +
    0.215 * pastTwelfth +
    0.353 * capitals +
    0.212 * capitalsInARow +
    1.986 * humps +
    0.232 * mixed +
    1.534 * threes +
    0.646 * marks +
    0.354 * marksInARow +
    0.933 * gaps +
    0.309 * latin +
    0.516 * latinMore +
    0.923 * cyrillicWords +
    0.139 * cyrillic +
    0.417 * greek +
    0.652 * arabicWords +
    0.216 * arabic +
    0.401 * indic +
    0.733 * cjk +
    // Not fitted: no Japanese was at hand.
    0.8 * kana +
    0.831 * hangul +
    0.849 * other +
    0.674 * surrogates
  );
}

/** Whole tokens of a text; 0 only for "". */
export function estimateTokens(text: string): number {
  return text === "" ? 0 : Math.max(1, Math.round(weighTokens(text)));
}

/** Longer texts are weighed by samples. */
const SAMPLED_UNITS_MIN = 1_024;
const SAMPLES = 8;
const SAMPLE_UNITS = 96;
/** A word that a sample's edge parts is counted twice. */
const PARTED = 0.985;

/**
 * The same at a cost that has a bound: a long text is weighed by samples spread over it. For what is reserved
 * and settled later, not for what is booked.
 */
export function sampleTokens(text: string): number {
  if (text.length < SAMPLED_UNITS_MIN) return weighTokens(text);
  const stride = (text.length - SAMPLE_UNITS) / (SAMPLES - 1);
  let sum = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const from = Math.floor(i * stride);
    sum += weighTokens(text, from, from + SAMPLE_UNITS);
  }
  return (sum * text.length * PARTED) / (SAMPLES * SAMPLE_UNITS);
}

/** Texts up to this many UTF-16 units may be counted: the tokenizer's worst case grows faster than its text. */
export const COUNTED_UNITS_MAX = 1_024;

let count: ((text: string) => number) | undefined;
let loading: Promise<void> | undefined;

/**
 * Loads the real tokenizer, once for the process: 0.2 s in which nothing else runs, and 77 MB. Until it is
 * there, `countTokens` estimates. Never rejects: without it the estimate goes on.
 */
export function loadTokenizer(): Promise<void> {
  loading ??= import("gpt-tokenizer/encoding/o200k_base").then(
    (tokenizer) => {
      // Special tokens of a prompt are words like any others here.
      const plain = { disallowedSpecial: new Set<string>() };
      count = (text) => tokenizer.countTokens(text, plain);
    },
    () => {},
  );
  return loading;
}

/** Tokens by the real tokenizer where it is loaded and `text` has at most `unitsMax` units, else the estimate. */
export function countTokens(text: string, unitsMax: number): number {
  if (count === undefined || text.length > unitsMax || text.length > COUNTED_UNITS_MAX) {
    return estimateTokens(text);
  }
  return count(text);
}
