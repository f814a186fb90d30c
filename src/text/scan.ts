/**
 * One look at each unit of a text, which says what it may hide: what is not ASCII, uneven white space, long runs
 * that may be base64, letters set apart, digits inside words, and English that was turned by 13 letters or written
 * backwards. Only what has evidence is looked for again, so that a plain text costs this scan and no more.
 *
 * Turned and reversed English are found by running sums: each pair of letters adds how much likelier it would be
 * English the other way (bigrams.ts), a sum never falls below zero, and where it has risen high enough lies a
 * region. A whole text and two words inside another text are found alike. Sums are drawn by blocks, which costs a
 * third of drawing them by unit, and both at once in one number.
 */
import { letterOf, NO_LETTER, pairGain, reversedOf, rot13Of } from "./bigrams.ts";
import { unitsOf } from "./units.ts";

/** What was seen, as bits of `Evidence.seen`. */
export const PERCENT = 1;
export const AMPERSAND = 2;
export const BACKSLASH = 4;
export const PLUS = 8;
/** A unit that `fold` may change: beyond ASCII, or a control character. */
export const FOREIGN = 32;
/** A run of dots and dashes. */
export const MORSE = 16;

export interface Region {
  readonly start: number;
  readonly end: number;
}

export interface Evidence {
  readonly seen: number;
  /** English turned by 13 letters, and English backwards. */
  readonly rot13: readonly Region[];
  readonly reversed: readonly Region[];
  /** Runs of base64's alphabet, long enough to hold something. */
  readonly runs: readonly Region[];
  /** Six tokens or more in a row that begin and end with a hex digit and have a code's length. */
  readonly codes: readonly Region[];
  /** Four single letters or more, one after another. */
  readonly singles: readonly Region[];
  /** Where digits or symbols stand beside letters. */
  readonly leet: readonly number[];
  /** White space that is more or other than one single space: each tab and line's end, and each space after another. */
  readonly uneven: readonly number[];
}

/** Shortest run of base64, base32 or hex that is decoded. */
export const RUN_UNITS_MIN = 16;
const SINGLES_MIN = 4;
const CODES_MIN = 6;
const MORSE_UNITS_MIN = 12;

/** Units that are summed up before anything is compared. */
const BLOCK_UNITS = 16;
/**
 * Half bits by which a region must be likelier English the other way, and how far the sum may fall from its top
 * before the region ends. Set on chats, where 1 text in 100 has a region, and on the
 * rules' own examples, of which nearly all do when they are turned.
 */
const GAIN_MIN = 22;
const FALL_MAX = 60;
/** A text of hundreds of regions is noise: the first are kept, and the last. */
const REGIONS_MAX = 64;

/** What a unit beside letters is, as more bits of the same number. */
const IN_RUN = 128;
const LEET = 256;
const WHITE = 512;
const DASH = 1024;
/** Of another script; it makes words, but no English. */
const LETTER = 2048;
/** Bits that say something of the whole text. */
const TOLD = 127;

const kindOf = new Uint16Array(0x10000).fill(FOREIGN);
const isHexDigit = new Uint8Array(0x10000);

for (let unit = 32; unit < 127; unit++) kindOf[unit] = 0;
for (const unit of [9, 10, 11, 12, 13]) kindOf[unit] = WHITE;
kindOf[0x20] = WHITE;
for (const [from, to] of [
  [0xc0, 0x2af],
  [0x370, 0x1fff],
  [0x3040, 0xd7ff],
] as const)
  kindOf.fill(FOREIGN | LETTER, from, to + 1);
kindOf[0x25] = PERCENT;
kindOf[0x26] = AMPERSAND;
kindOf[0x5c] = BACKSLASH;
kindOf[0x2b] = PLUS;
for (const unit of "0123456789+/=_-") kindOf[unit.charCodeAt(0)]! |= IN_RUN;
for (const unit of "0134578@$!|") kindOf[unit.charCodeAt(0)]! |= LEET;
for (const unit of ".-_") kindOf[unit.charCodeAt(0)]! |= DASH;
for (const unit of "0123456789abcdefABCDEF") isHexDigit[unit.charCodeAt(0)] = 1;

/** One of the two running sums, over blocks. */
class Gain {
  readonly regions: Region[] = [];
  #sum = 0;
  #start = 0;
  #top = 0;
  #topAt = 0;

  add(gain: number, start: number, end: number): void {
    if (this.#sum === 0) this.#start = start;
    this.#sum += gain;
    if (this.#sum > this.#top) {
      this.#top = this.#sum;
      this.#topAt = end;
    }
    if (this.#sum <= 0 || this.#top - this.#sum > FALL_MAX) this.close();
  }

  /** Ends the region at hand, if it is one. */
  close(): void {
    if (this.#top >= GAIN_MIN) {
      // The block before the rise and the one after the top may hold the region's edges.
      const region = { start: Math.max(0, this.#start - BLOCK_UNITS), end: this.#topAt + BLOCK_UNITS };
      if (this.regions.length < REGIONS_MAX) this.regions.push(region);
      else this.regions[REGIONS_MAX - 1] = region;
    }
    this.#sum = 0;
    this.#top = 0;
  }

  get rising(): boolean {
    return this.#sum > 0;
  }
}

const NO_REGIONS: readonly Region[] = Object.freeze([]);
const NO_PLACES: readonly number[] = Object.freeze([]);

function bare(seen: number): Evidence {
  return {
    seen,
    rot13: NO_REGIONS,
    reversed: NO_REGIONS,
    runs: NO_REGIONS,
    codes: NO_REGIONS,
    singles: NO_REGIONS,
    leet: NO_PLACES,
    uneven: NO_PLACES,
  };
}

const NOTHING: Evidence = Object.freeze(bare(0));

/** True where nothing but white space asks for more than lower case. */
export function isPlain({ seen, rot13, reversed, runs, codes, singles, leet }: Evidence): boolean {
  return (
    seen === 0 &&
    rot13.length + reversed.length + runs.length + codes.length + singles.length + leet.length === 0
  );
}

/** A unit that is no letter, no space and in no run: what the text ends with. */
const END = 0x3b;

/** One more; most texts have none, and no list. */
function kept<T>(list: T[] | undefined, item: T): T[] {
  if (list === undefined) return [item];
  list.push(item);
  return list;
}

/** Lengths of a code by itself, as bits: "69", "105", "0x69", "1101001". */
const CODE_LENGTHS = (1 << 2) | (1 << 3) | (1 << 4) | (1 << 7) | (1 << 8);
const CODE_UNITS_MAX = 8;

/** `stopAtForeign`: ends at the first unit that `fold` may change, with that as the only sure evidence. */
export function scan(text: string, { stopAtForeign }: { readonly stopAtForeign: boolean }): Evidence {
  const length = text.length;
  const units = unitsOf(text);
  units[length] = END;
  let seen = 0;
  let word = 0;
  let singles = 0;
  let singlesStart = 0;
  let singlesEnd = 0;
  let tokenStart = 0;
  let codes = 0;
  let codesStart = 0;
  let codesEnd = 0;
  let marks = 0;
  let markAt = -3;
  let spaceAt = -2;
  let leetAt = -2;
  let runRegions: Region[] | undefined;
  let codeRegions: Region[] | undefined;
  let singleRegions: Region[] | undefined;
  let leet: number[] | undefined;
  let uneven: number[] | undefined;

  for (let i = 0; i <= length; i++) {
    const from = i;
    while (letterOf[units[i]!] !== NO_LETTER) i += 1;
    if (i > from) {
      if (word === 0 && leetAt === from - 1) leet = kept(leet, leetAt);
      word += i - from;
    }
    const unit = units[i]!;
    const kind = kindOf[unit]!;
    seen |= kind;
    if ((kind & FOREIGN) !== 0) {
      if (stopAtForeign) return bare(seen & TOLD);
      if ((kind & LETTER) !== 0) {
        if (i - tokenStart >= RUN_UNITS_MIN) runRegions = kept(runRegions, { start: tokenStart, end: i });
        tokenStart = i + 1;
        word += 1;
        continue;
      }
    }
    if (word === 1) {
      if (singles === 0) singlesStart = i - 1;
      singles += 1;
      singlesEnd = i;
    } else if (word > 1 && singles > 0) {
      if (singles >= SINGLES_MIN)
        singleRegions = kept(singleRegions, { start: singlesStart, end: singlesEnd });
      singles = 0;
    }
    if ((kind & WHITE) !== 0) {
      if (spaceAt === i - 1 || unit !== 32) uneven = kept(uneven, i);
      spaceAt = i;
    } else if ((kind & LEET) !== 0) {
      if (word > 0) leet = kept(leet, i);
      leetAt = i;
    }
    word = 0;
    if ((kind & IN_RUN) === 0) {
      const token = i - tokenStart;
      if (token > 1) {
        if (token >= RUN_UNITS_MIN) runRegions = kept(runRegions, { start: tokenStart, end: i });
        if (
          token <= CODE_UNITS_MAX &&
          ((CODE_LENGTHS >> token) & 1) === 1 &&
          isHexDigit[units[tokenStart]!] === 1 &&
          isHexDigit[units[i - 1]!] === 1
        ) {
          if (codes === 0) codesStart = tokenStart;
          codes += 1;
          codesEnd = i;
        } else if (codes > 0) {
          if (codes >= CODES_MIN) codeRegions = kept(codeRegions, { start: codesStart, end: codesEnd });
          codes = 0;
        }
      }
      tokenStart = i + 1;
    }
    if ((kind & DASH) !== 0) {
      marks = i - markAt <= 3 ? marks + 1 : 1;
      markAt = i;
      if (marks === MORSE_UNITS_MIN) seen |= MORSE;
    }
  }
  if (singles >= SINGLES_MIN) singleRegions = kept(singleRegions, { start: singlesStart, end: singlesEnd });
  if (codes >= CODES_MIN) codeRegions = kept(codeRegions, { start: codesStart, end: codesEnd });
  const { rot13, reversed } = gainsOf(units, length);
  const told = seen & TOLD;
  const regions = runRegions ?? codeRegions ?? singleRegions;
  if (told === 0 && (regions ?? leet ?? uneven) === undefined && rot13.length + reversed.length === 0)
    return NOTHING;
  return {
    seen: told,
    rot13,
    reversed,
    runs: runRegions ?? NO_REGIONS,
    codes: codeRegions ?? NO_REGIONS,
    singles: singleRegions ?? NO_REGIONS,
    leet: leet ?? NO_PLACES,
    uneven: uneven ?? NO_PLACES,
  };
}

interface Gains {
  readonly rot13: readonly Region[];
  readonly reversed: readonly Region[];
}
const NO_GAINS: Gains = Object.freeze({ rot13: NO_REGIONS, reversed: NO_REGIONS });

/** Where English is turned or backwards, of `length` units and the END behind them. A loop of its own, as it has no branches. */
function gainsOf(units: Uint16Array, length: number): Gains {
  let previous = NO_LETTER;
  let rot13: Gain | undefined;
  let reversed: Gain | undefined;
  for (let block = 0; block <= length; block += BLOCK_UNITS) {
    const end = block + BLOCK_UNITS < length ? block + BLOCK_UNITS : length + 1;
    let gain = 0;
    for (let i = block; i < end; i++) {
      const letter = letterOf[units[i]!]!;
      gain = (gain + pairGain[(previous << 5) | letter]!) | 0;
      previous = letter;
    }
    const turned = rot13Of(gain);
    if (turned > 0 || rot13?.rising === true) {
      rot13 ??= new Gain();
      rot13.add(turned, block, end);
    }
    const back = reversedOf(gain);
    if (back > 0 || reversed?.rising === true) {
      reversed ??= new Gain();
      reversed.add(back, block, end);
    }
  }
  if (rot13 === undefined && reversed === undefined) return NO_GAINS;
  rot13?.close();
  reversed?.close();
  return { rot13: rot13?.regions ?? NO_REGIONS, reversed: reversed?.regions ?? NO_REGIONS };
}
