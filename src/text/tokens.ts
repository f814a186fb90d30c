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

/** What each mark of a tokenizer's cut comes to. */
const WORD = 0.863;
const PAST_SIXTH = 0.258;
const PAST_TWELFTH = 0.215;
const CAPITAL = 0.353;
const CAPITAL_IN_A_ROW = 0.212;
const HUMP = 1.986;
const MIXED = 0.232;
const THREE_DIGITS = 1.534;
const MARK = 0.646;
const MARK_IN_A_ROW = 0.354;
const GAP = 0.933;
const LATIN_LETTER = 0.309;
const LATIN_MORE_LETTER = 0.516;
const CYRILLIC_WORD = 0.923;
const CYRILLIC_LETTER = 0.139;
const ARABIC_WORD = 0.652;
const ARABIC_LETTER = 0.216;
/** By kind, where nothing but the unit itself counts. Kana are not fitted: no Japanese was at hand. */
const PLAIN: Readonly<Record<number, number>> = {
  [GREEK]: 0.417,
  [INDIC]: 0.401,
  [CJK]: 0.733,
  [KANA]: 0.8,
  [HANGUL]: 0.831,
  [OTHER]: 0.849,
  [SURROGATE]: 0.674,
};

/** What the next unit's weight depends on: the kind of the one before, and how many units its word, number or gap has. */
interface State {
  readonly kind: number;
  readonly run: number;
}

/** Longer words go on alike; of numbers, what is left by three counts. */
const RUN_MAX = 13;

/** Weight of a unit of `kind` after `before`, and the state after it. */
function step(
  { kind: before, run }: State,
  kind: number,
): { readonly weight: number; readonly after: State } {
  const isLetter = before === LOWER || before === UPPER || before === LATIN || before === LATIN_MORE;
  const longer = Math.min(RUN_MAX, run + 1);
  const past = (longer > 6 ? PAST_SIXTH : 0) + (longer > 12 ? PAST_TWELFTH : 0);
  switch (kind) {
    case LOWER:
      if (before === UPPER) return { weight: 0, after: { kind, run: longer } };
      if (isLetter) return { weight: past, after: { kind, run: longer } };
      return { weight: before === DIGIT ? MIXED : WORD, after: { kind, run: 1 } };
    case UPPER:
      if (before === UPPER) return { weight: CAPITAL_IN_A_ROW, after: { kind, run: longer } };
      if (before === LOWER) return { weight: HUMP, after: { kind, run: 1 } };
      return { weight: before === DIGIT ? MIXED : WORD + CAPITAL, after: { kind, run: 1 } };
    case DIGIT: {
      const isNew = before !== DIGIT;
      const place = isNew ? 1 : (run % 3) + 1;
      const mixed = before === LOWER || before === UPPER ? MIXED : 0;
      return { weight: (place === 1 ? THREE_DIGITS : 0) + mixed, after: { kind, run: place } };
    }
    case SPACE: {
      const place = before === SPACE ? Math.min(3, run + 1) : 1;
      return { weight: place === 2 ? GAP : 0, after: { kind, run: place } };
    }
    // A line's end goes with the mark or the gap beside it.
    case NEWLINE:
      return { weight: 0, after: { kind, run: 0 } };
    case PUNCTUATION:
      return { weight: before === PUNCTUATION ? MARK_IN_A_ROW : MARK, after: { kind, run: 0 } };
    case LATIN:
    case LATIN_MORE: {
      const letter = kind === LATIN ? LATIN_LETTER : LATIN_MORE_LETTER;
      return { weight: letter + (isLetter ? 0 : WORD), after: { kind, run: isLetter ? longer : 1 } };
    }
    case CYRILLIC:
      return { weight: CYRILLIC_LETTER + (before === CYRILLIC ? 0 : CYRILLIC_WORD), after: { kind, run: 0 } };
    case ARABIC:
      return { weight: ARABIC_LETTER + (before === ARABIC ? 0 : ARABIC_WORD), after: { kind, run: 0 } };
    default:
      return { weight: PLAIN[kind] ?? 0, after: { kind, run: 0 } };
  }
}

const KIND_COUNT = SURROGATE + 1;
const START: State = { kind: SPACE, run: 0 };
/**
 * `step` as tables, by state and kind: a walk without branches, for a text's letters cannot be foretold, and wrong
 * guesses were most of its cost. States are multiples of KIND_COUNT.
 */
const { weightOf, afterOf } = tables();

function tables(): { readonly weightOf: Float64Array; readonly afterOf: Uint16Array } {
  const states: State[] = [START];
  const places = new Map<string, number>([[JSON.stringify(START), 0]]);
  const weights: number[] = [];
  const afters: number[] = [];
  for (let i = 0; i < states.length; i++) {
    for (let kind = 0; kind < KIND_COUNT; kind++) {
      const { weight, after } = step(states[i]!, kind);
      const name = JSON.stringify(after);
      let place = places.get(name);
      if (place === undefined) {
        place = states.length * KIND_COUNT;
        states.push(after);
        places.set(name, place);
      }
      weights.push(weight);
      afters.push(place);
    }
  }
  return { weightOf: Float64Array.from(weights), afterOf: Uint16Array.from(afters) };
}

/** Tokens of a text, or a part of it, as a number with a fraction, so that the parts of a stream add up. */
export function weighTokens(text: string, from = 0, to: number = text.length): number {
  let sum = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const at = state + kindOf[text.charCodeAt(i)]!;
    sum += weightOf[at]!;
    state = afterOf[at]!;
  }
  return sum;
}

/** Whole tokens of a text; 0 only for "". */
export function estimateTokens(text: string): number {
  return text === "" ? 0 : Math.max(1, Math.round(weighTokens(text)));
}

/** Texts that have more units in all are weighed by samples. */
const SAMPLED_UNITS_MIN = 384;
/** One sample for so many units, within bounds. */
const UNITS_PER_SAMPLE = 512;
const SAMPLES_MIN = 6;
const SAMPLES_MAX = 16;
const SAMPLE_UNITS = 48;
/** A word that a sample's edge parts is counted twice. */
const PARTED = 0.985;

/**
 * The tokens of several texts, with a fraction, at a cost that has a bound: long ones are weighed by samples that
 * lie evenly over all of them. For what is reserved and settled later, not for what is booked.
 */
export function sampleTokens(texts: readonly { readonly text: string }[]): number {
  let units = 0;
  for (const { text } of texts) units += text.length;
  let sum = 0;
  if (units <= SAMPLED_UNITS_MIN) {
    for (const { text } of texts) sum += weighTokens(text);
    return sum;
  }
  const samples = Math.min(SAMPLES_MAX, Math.max(SAMPLES_MIN, Math.ceil(units / UNITS_PER_SAMPLE)));
  const stride = units / samples;
  let sampled = 0;
  let before = 0;
  let next = (stride - SAMPLE_UNITS) / 2;
  for (const { text } of texts) {
    while (next < before + text.length) {
      const from = Math.floor(next - before);
      const to = Math.min(text.length, from + SAMPLE_UNITS);
      sum += weighTokens(text, from, to);
      sampled += to - from;
      next += stride;
    }
    before += text.length;
  }
  return (sum * units * PARTED) / sampled;
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
