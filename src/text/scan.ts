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

/** What was seen, as bits of `Evidence.seen`. */
export const PERCENT = 1;
export const AMPERSAND = 2;
export const BACKSLASH = 4;
export const PLUS = 8;
/** White space that is not one single space: a tab, a line's end, a run. */
export const UNEVEN = 16;
/** A unit that `fold` may change: beyond ASCII, or a control character. */
export const FOREIGN = 32;
/** Digits or symbols beside letters. */
export const LEET = 64;
/** Four single letters or more, one after another. */
export const SINGLES = 128;
/** A run of base64's alphabet, long enough to hold something. */
export const RUN = 256;
/** Six tokens or more in a row of two or three digits or hex digits. */
export const CODES = 512;
/** A run of dots and dashes. */
export const MORSE = 1024;

export interface Region {
  readonly start: number;
  readonly end: number;
}

export interface Evidence {
  readonly seen: number;
  readonly rot13: readonly Region[];
  readonly reversed: readonly Region[];
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
 * before the region ends. Set on READMEs and chats, where less than 1 text in 1,000 has a region, and on the
 * rules' own examples, of which nearly all do when they are turned.
 */
const GAIN_MIN = 44;
const FALL_MAX = 60;
/** A text of hundreds of regions is noise: the first are kept, and the last. */
const REGIONS_MAX = 64;

const flagOf = new Uint16Array(0x10000).fill(FOREIGN);
/** Units of base64's two alphabets, beside letters. */
const inRun = new Uint8Array(0x10000);
const isLeet = new Uint8Array(0x10000);

for (let unit = 32; unit < 127; unit++) flagOf[unit] = 0;
for (const unit of [9, 10, 11, 12, 13]) flagOf[unit] = UNEVEN;
flagOf[0x25] = PERCENT;
flagOf[0x26] = AMPERSAND;
flagOf[0x5c] = BACKSLASH;
flagOf[0x2b] = PLUS;
for (const unit of "0123456789+/=_-") inRun[unit.charCodeAt(0)] = 1;
for (const unit of "0134578@$!|") isLeet[unit.charCodeAt(0)] = 1;

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
const NOTHING: Evidence = Object.freeze({ seen: 0, rot13: NO_REGIONS, reversed: NO_REGIONS });

/** `stopAtForeign`: ends in the first block that `fold` may change, with that as the only sure evidence. */
export function scan(text: string, { stopAtForeign }: { readonly stopAtForeign: boolean }): Evidence {
  const length = text.length;
  let seen = 0;
  let previous = NO_LETTER;
  let word = 0;
  let singles = 0;
  let tokenStart = 0;
  let codes = 0;
  let marks = 0;
  let markAt = -2;
  let spaceAt = -2;
  let leetAt = -2;
  let rot13: Gain | undefined;
  let reversed: Gain | undefined;

  for (let block = 0; block < length; block += BLOCK_UNITS) {
    const end = block + BLOCK_UNITS < length ? block + BLOCK_UNITS : length;
    let gain = 0;
    for (let i = block; i < end; i++) {
      const unit = text.charCodeAt(i);
      const letter = letterOf[unit]!;
      gain = (gain + pairGain[(previous << 5) | letter]!) | 0;
      if (letter !== NO_LETTER) {
        if (word === 0 && leetAt === i - 1) seen |= LEET;
        word += 1;
        previous = letter;
        continue;
      }
      seen |= flagOf[unit]!;
      if (word === 1) {
        singles += 1;
        if (singles === SINGLES_MIN) seen |= SINGLES;
      } else if (word > 1) singles = 0;
      if (unit === 32) {
        if (spaceAt === i - 1) seen |= UNEVEN;
        spaceAt = i;
      } else if (isLeet[unit] === 1) {
        if (word > 0) seen |= LEET;
        leetAt = i;
      }
      word = 0;
      previous = NO_LETTER;
      if (inRun[unit] === 0) {
        const token = i - tokenStart;
        tokenStart = i + 1;
        if (token >= RUN_UNITS_MIN) seen |= RUN;
        if (token === 2 || token === 3 || token === 8) {
          codes += 1;
          if (codes === CODES_MIN) seen |= CODES;
        } else if (token > 0) codes = 0;
      }
      if (unit === 0x2e || unit === 0x2d) {
        marks = markAt >= i - 2 ? marks + 1 : 1;
        markAt = i;
        if (marks === MORSE_UNITS_MIN) seen |= MORSE;
      }
    }
    if (stopAtForeign && (seen & FOREIGN) !== 0) return { seen, rot13: NO_REGIONS, reversed: NO_REGIONS };
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
  if (word === 1 && singles + 1 >= SINGLES_MIN) seen |= SINGLES;
  const token = length - tokenStart;
  if (token >= RUN_UNITS_MIN) seen |= RUN;
  if ((token === 2 || token === 3 || token === 8) && codes + 1 >= CODES_MIN) seen |= CODES;
  rot13?.close();
  reversed?.close();
  const turnedRegions = rot13?.regions ?? NO_REGIONS;
  const backRegions = reversed?.regions ?? NO_REGIONS;
  if (seen === 0 && turnedRegions.length === 0 && backRegions.length === 0) return NOTHING;
  return { seen, rot13: turnedRegions, reversed: backRegions };
}
