/**
 * Undresses a text: look-alikes, styled and full-width forms become the letters that they show, and what cannot
 * be seen is dropped. ASCII never comes here. Every unit of the Basic Multilingual Plane has one deed in a table,
 * so that a plain Russian or Chinese text costs a look-up a unit and comes out as it went in.
 *
 * Letters of other scripts turn Latin only in words that mix scripts, or that consist of look-alikes alone and
 * follow Latin words: "раураl" does, "пароль" does not.
 */
import {
  ARMENIAN,
  CHEROKEE,
  CYRILLIC,
  GREEK,
  LATIN,
  LOOK_ALIKES,
  OTHER,
  RARE,
  SCRIPTS,
  STYLED,
} from "./confusables.ts";
import { OffsetMap } from "./offsets.ts";

/** What a text was dressed in. Counts of units, but for `encodings`. */
export interface Marks {
  /** Zero-width and other characters without a shape, beside Latin letters, digits or white space. */
  readonly invisible: number;
  /** Letters of other scripts that were read as ASCII. */
  readonly confusable: number;
  /** Mathematical, circled, full-width and such forms of ASCII. */
  readonly styled: number;
  readonly tag: number;
  readonly bidi: number;
  /** Variation selectors beyond one a character. */
  readonly selector: number;
  /** Combining marks on Latin letters, and beyond two on any other. */
  readonly combining: number;
  /** Steps of all decoded views, each once, in the order found. */
  readonly encodings: readonly string[];
  /** A budget ended the search: what is hidden in the rest was not seen. */
  readonly truncated: boolean;
}

export type FoldMarks = { -readonly [K in Exclude<keyof Marks, "encodings" | "truncated">]: number };

export interface Folded {
  /** Case and white space as they were, but for spaces of other kinds, which are " ". */
  readonly text: string;
  /** Undefined: unit for unit. */
  readonly map: OffsetMap | undefined;
  readonly marks: FoldMarks;
  /** Bytes spelled in characters that nobody sees, and where they stood. */
  readonly smuggled: readonly Smuggled[];
}

export interface Smuggled {
  readonly how: "tag" | "selector";
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** Deeds. */
const KEEP = 0;
const DROP = 1;
const REPLACE = 2;
const EXPAND = 3;
const MARK = 4;
const HIGH = 5;
const BIDI = 6;
const SELECTOR = 7;

const deedOf = new Uint8Array(0x10000);
const becomes = new Uint16Array(0x10000);
const scriptOf = new Uint8Array(0x10000);
/** What a letter of another script shows in a Latin word; 0: nothing. */
const shows = new Uint16Array(0x10000);
const expansions = new Map<number, string>();
/** Styled letters beyond the Basic Multilingual Plane. */
const astral = new Map<number, number>();

/** Longer compatibility forms stay as they are: nobody hides an instruction in U+FDFA. */
const EXPANSION_UNITS_MAX = 4;
/** Selectors or tags in a row that are more than an emoji's dress. */
const SMUGGLED_UNITS_MIN = 4;
const MARKS_ON_OTHERS_MAX = 2;

function fill(deed: number, ...ranges: readonly (readonly [from: number, to: number])[]): void {
  for (const [from, to] of ranges) deedOf.fill(deed, from, to + 1);
}

function pairsOf(list: string): (readonly [from: string, to: string])[] {
  return list.split(/\s+/).map((pair) => {
    const [from = "", to = ""] = [...pair];
    return [from, to];
  });
}

function isLatinLetter(text: string): boolean {
  const unit = text.charCodeAt(0) | 32;
  return text.length === 1 && unit >= 97 && unit <= 122;
}

/** "é" is "e", "№" is "No", "ﾊ" is "ハ", "й" stays: marks leave Latin letters alone. */
function compatible(unit: number): string {
  const text = String.fromCharCode(unit);
  const spread = text.normalize("NFKD");
  if (isLatinLetter(spread[0] ?? "") && /^.\p{M}+$/u.test(spread)) return spread[0]!;
  // A mark that stands on a space by itself is not seen there either.
  return text.normalize("NFKC").replace(/ \p{M}+/u, " ");
}

function buildTables(): void {
  for (const [script, from, to] of SCRIPTS) scriptOf.fill(script, from, to + 1);
  for (let unit = 0x80; unit < 0x10000; unit++) {
    if (unit >= 0xd800 && unit <= 0xf8ff) continue;
    // These compose by themselves or not at all: the long middle of the plane needs no look.
    if ((unit >= 0x3400 && unit <= 0x9fff) || (unit >= 0xac00 && unit <= 0xd7ff)) continue;
    const folded = compatible(unit);
    if (folded.charCodeAt(0) === unit && folded.length === 1) continue;
    if (folded.length === 1) {
      deedOf[unit] = REPLACE;
      becomes[unit] = folded.charCodeAt(0);
    } else if (folded.length <= EXPANSION_UNITS_MAX) {
      deedOf[unit] = EXPAND;
      expansions.set(unit, folded);
    }
  }
  const replace = (from: number, to: string) => {
    deedOf[from] = REPLACE;
    becomes[from] = to.charCodeAt(0);
  };
  for (let i = 0; i < 26; i++) replace(0x249c + i, String.fromCharCode(97 + i));
  for (const [from, to] of pairsOf(STYLED)) replace(from.charCodeAt(0), to);
  for (const unit of "\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4\uff07") replace(unit.charCodeAt(0), "'");
  for (const unit of "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb") replace(unit.charCodeAt(0), '"');
  for (const unit of "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")
    replace(unit.charCodeAt(0), "-");
  for (const unit of "\u2028\u2029\u0085") replace(unit.charCodeAt(0), "\n");
  for (const unit of "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\u2800")
    replace(unit.charCodeAt(0), " ");
  for (const [from, to] of pairsOf(LOOK_ALIKES)) shows[from.charCodeAt(0)] = to.charCodeAt(0);
  fill(DROP, [0, 8], [14, 31], [127, 0x84], [0x86, 0x9f], [0xad, 0xad], [0x34f, 0x34f], [0x115f, 0x1160]);
  fill(DROP, [0x17b4, 0x17b5], [0x180b, 0x180e], [0x200b, 0x200d], [0x2060, 0x2065], [0x206a, 0x206f]);
  fill(DROP, [0x3164, 0x3164], [0xfeff, 0xfeff], [0xffa0, 0xffa0], [0xfff9, 0xfffb]);
  fill(BIDI, [0x61c, 0x61c], [0x200e, 0x200f], [0x202a, 0x202e], [0x2066, 0x2069]);
  fill(SELECTOR, [0xfe00, 0xfe0f]);
  fill(MARK, [0x300, 0x34e], [0x350, 0x36f], [0x483, 0x489], [0x1ab0, 0x1aff], [0x1dc0, 0x1dff]);
  fill(MARK, [0x20d0, 0x20ff], [0xfe20, 0xfe2f], [0x3099, 0x309a], [0xff9e, 0xff9f]);
  fill(HIGH, [0xd800, 0xdbff]);
  for (let point = 0x1d400; point <= 0x1d7ff; point++) addAstral(point);
  for (let point = 0x1f100; point <= 0x1f16f; point++) addAstral(point);
  for (let i = 0; i < 26; i++) {
    const lower = 97 + i;
    for (const base of [0x1f110, 0x1f130, 0x1f150, 0x1f170, 0x1f1e6]) astral.set(base + i, lower);
  }
}

/** What a compatible form becomes may be styled itself: followed to its end, so that folding is done in one go. */
function followed(unit: number): number {
  let to = unit;
  for (let steps = 0; steps < 4 && deedOf[to] === REPLACE; steps++) to = becomes[to]!;
  return to;
}

function closeTables(): void {
  // Views are lower case: a capital goes where its small letter goes.
  for (let unit = 0xc0; unit < 0x10000; unit++) {
    const small = String.fromCharCode(unit).toLowerCase();
    const to = small.charCodeAt(0);
    if (small.length > 1 || to === unit) continue;
    if (shows[unit] === 0 && shows[to] !== 0) shows[unit] = shows[to]!;
    if (deedOf[unit] === KEEP && deedOf[to] === REPLACE) {
      deedOf[unit] = REPLACE;
      becomes[unit] = becomes[to]!;
    }
  }
  for (let unit = 0x80; unit < 0x10000; unit++)
    if (deedOf[unit] === REPLACE) becomes[unit] = followed(becomes[unit]!);
  for (const [unit, text] of expansions) {
    const units = Array.from({ length: text.length }, (_, i) => followed(text.charCodeAt(i)));
    expansions.set(unit, String.fromCharCode(...units));
  }
  for (const [point, unit] of astral) astral.set(point, followed(unit));
}

function addAstral(point: number): void {
  const folded = String.fromCodePoint(point).normalize("NFKC");
  // Greek among the mathematical letters is Greek that nobody writes: what it shows is meant.
  if (folded.length === 1) astral.set(point, shows[folded.charCodeAt(0)] || folded.charCodeAt(0));
}

buildTables();
closeTables();

const LOOK_ALIKE_SCRIPTS = CYRILLIC | GREEK | ARMENIAN | CHEROKEE | RARE;
/** Words of these are as a rule nothing but look-alikes. */
const FANCY_SCRIPTS = CHEROKEE | RARE;
const FANCY_UNITS_MIN = 3;

/** Scratch for the text being made; kept while small, so that the next text need not allocate. */
const SCRATCH_UNITS_KEPT = 1 << 17;
let scratch = new Uint16Array(4096);

class Folding {
  readonly #text: string;
  #out: Uint16Array;
  #at = 0;
  readonly #map = new OffsetMap();
  /** Where the run that is copied unit for unit began, in the source and in the made text. */
  #runFrom = 0;
  #runMade = 0;
  #changed = false;
  readonly marks: FoldMarks = {
    invisible: 0,
    confusable: 0,
    styled: 0,
    tag: 0,
    bidi: 0,
    selector: 0,
    combining: 0,
  };
  readonly smuggled: Smuggled[] = [];
  /** Of the word at hand: where it begins in the made text, its scripts, whether each letter is a look-alike. */
  #word = 0;
  #scripts = 0;
  #alike = true;
  /** The last word that has a script: Latin (or mixed) or not; undefined before the first. */
  #latinBefore: boolean | undefined;
  #undecided: { readonly start: number; readonly end: number }[] = [];

  constructor(text: string) {
    this.#text = text;
    if (scratch.length < text.length + 64) scratch = new Uint16Array(Math.ceil(text.length * 1.25) + 64);
    this.#out = scratch;
    if (scratch.length > SCRATCH_UNITS_KEPT) scratch = new Uint16Array(4096);
  }

  run(): Folded {
    const text = this.#text;
    const length = text.length;
    for (let i = 0; i < length; ) {
      const unit = text.charCodeAt(i);
      const deed = deedOf[unit]!;
      if (deed === KEEP) {
        this.#put(unit);
        i += 1;
      } else if (deed === REPLACE) {
        const letter = becomes[unit]!;
        if (letter < 128 && unit > 0x24f && isWord(letter)) this.marks.styled += 1;
        this.#changed = true;
        this.#put(letter);
        i += 1;
      } else i = this.#rare(unit, deed, i);
    }
    this.#endWord();
    if (!this.#changed) return { text, map: undefined, marks: this.marks, smuggled: this.smuggled };
    this.#flush(length);
    const bytes = Buffer.from(this.#out.buffer, 0, this.#at * 2);
    const made = bytes.toString("utf16le");
    return {
      text: made,
      map: this.#moved ? this.#map : undefined,
      marks: this.marks,
      smuggled: this.smuggled,
    };
  }

  /** A unit has been dropped, widened or narrowed: the made text no longer goes unit for unit. */
  #moved = false;

  #put(unit: number): void {
    if (this.#at === this.#out.length) this.#grow();
    const script = scriptOf[unit]!;
    if (script !== 0) {
      if (this.#scripts === 0) {
        this.#word = this.#at;
        this.#alike = true;
      }
      this.#scripts |= script;
      if (script !== LATIN && shows[unit] === 0) this.#alike = false;
    } else if (this.#scripts !== 0) this.#endWord();
    this.#out[this.#at++] = unit;
  }

  #grow(): void {
    const grown = new Uint16Array(this.#out.length * 2);
    grown.set(this.#out);
    this.#out = grown;
  }

  /** Ends the run that was copied unit for unit at source offset `to`. */
  #flush(to: number): void {
    const units = this.#at - this.#runMade;
    if (units > 0) this.#map.add(units, this.#runFrom, this.#runFrom + units);
    this.#runFrom = to;
    this.#runMade = this.#at;
  }

  /** Made units so far came from [.., from); those that are put before `closeStretch(from, to)` come from [from, to). */
  #openStretch(from: number): void {
    this.#changed = true;
    this.#moved = true;
    this.#flush(from);
  }

  #closeStretch(from: number, to: number): void {
    this.#map.add(this.#at - this.#runMade, from, to);
    this.#runFrom = to;
    this.#runMade = this.#at;
  }

  #drop(from: number, to: number): number {
    this.#changed = true;
    this.#moved = true;
    this.#flush(from);
    this.#runFrom = to;
    return to;
  }

  /** All that is neither kept nor replaced by one unit; answers where to go on. */
  #rare(unit: number, deed: number, i: number): number {
    switch (deed) {
      case DROP:
        if (this.#besideLatin()) this.marks.invisible += 1;
        return this.#drop(i, i + 1);
      case BIDI:
        this.marks.bidi += 1;
        return this.#drop(i, i + 1);
      case SELECTOR:
        return this.#selectors(i);
      case MARK:
        return this.#combining(unit, i);
      case EXPAND: {
        const expansion = expansions.get(unit)!;
        this.#openStretch(i);
        for (let k = 0; k < expansion.length; k++) this.#put(expansion.charCodeAt(k));
        this.#closeStretch(i, i + 1);
        return i + 1;
      }
      default:
        return this.#surrogates(unit, i);
    }
  }

  #besideLatin(): boolean {
    return this.#at === 0 || this.#out[this.#at - 1]! < 0x250;
  }

  #combining(unit: number, i: number): number {
    const before = this.#at === 0 ? 0 : this.#out[this.#at - 1]!;
    if (isWord(before) || before < 0x41) {
      this.marks.combining += 1;
      return this.#drop(i, i + 1);
    }
    const joined = String.fromCharCode(before, becomes[unit] || unit).normalize("NFC");
    if (joined.length === 1 && this.#runMade < this.#at) {
      // The letter and its mark are two source units for one made unit.
      this.#at -= 1;
      this.#openStretch(i - 1);
      this.#put(joined.charCodeAt(0));
      this.#closeStretch(i - 1, i + 1);
      return i + 1;
    }
    // What would be read as Latin if its word is: a mark that makes no letter of its own says nothing.
    if ((scriptOf[before]! & LOOK_ALIKE_SCRIPTS) !== 0) {
      this.marks.combining += 1;
      return this.#drop(i, i + 1);
    }
    let pile = 0;
    while (pile < this.#at && deedOf[this.#out[this.#at - 1 - pile]!] === MARK) pile += 1;
    if (pile >= MARKS_ON_OTHERS_MAX) {
      this.marks.combining += 1;
      return this.#drop(i, i + 1);
    }
    if (becomes[unit] !== 0) this.#changed = true;
    this.#put(becomes[unit] || unit);
    return i + 1;
  }

  #surrogates(unit: number, i: number): number {
    const low = this.#text.charCodeAt(i + 1);
    if (!(low >= 0xdc00 && low <= 0xdfff)) {
      this.#put(unit);
      return i + 1;
    }
    const point = (unit - 0xd800) * 0x400 + (low - 0xdc00) + 0x10000;
    if (point >= 0xe0000 && point <= 0xe0fff) {
      if (point >= 0xe0100 && point <= 0xe01ef) return this.#selectors(i);
      if (point <= 0xe007f) return this.#tags(i);
      return this.#drop(i, i + 2);
    }
    const letter = astral.get(point);
    if (letter !== undefined) {
      this.marks.styled += 1;
      this.#openStretch(i);
      this.#put(letter);
      this.#closeStretch(i, i + 2);
      return i + 2;
    }
    if (this.#scripts !== 0) this.#endWord();
    this.#put(unit);
    this.#put(low);
    return i + 2;
  }

  /** Tags spell ASCII that no reader sees; only the flags of emoji use them rightly. */
  #tags(start: number): number {
    let end = start;
    let text = "";
    while (this.#text.charCodeAt(end) === 0xdb40) {
      const low = this.#text.charCodeAt(end + 1);
      if (!(low >= 0xdc00 && low <= 0xdc7f)) break;
      if (low >= 0xdc20 && low < 0xdc7f) text += String.fromCharCode(low - 0xdc00);
      end += 2;
    }
    const flag = this.#at >= 2 && this.#out[this.#at - 2] === 0xd83c && this.#out[this.#at - 1] === 0xdff4;
    if (!flag || text.length > 6) {
      this.marks.tag += text.length;
      if (text !== "") this.smuggled.push({ how: "tag", text, start, end });
    }
    return this.#drop(start, end);
  }

  /** 256 selectors are 256 bytes: U+FE00.. the first 16, U+E0100.. the rest. */
  #selectors(start: number): number {
    let end = start;
    const bytes: number[] = [];
    for (;;) {
      const unit = this.#text.charCodeAt(end);
      if (unit >= 0xfe00 && unit <= 0xfe0f) {
        bytes.push(unit - 0xfe00);
        end += 1;
        continue;
      }
      const low = this.#text.charCodeAt(end + 1);
      if (unit !== 0xdb40 || !(low >= 0xdd00 && low <= 0xddef)) break;
      bytes.push(low - 0xdd00 + 16);
      end += 2;
    }
    this.marks.selector += bytes.length - 1;
    if (bytes.length >= SMUGGLED_UNITS_MIN)
      this.smuggled.push({ how: "selector", text: Buffer.from(bytes).toString("utf8"), start, end });
    return this.#drop(start, end);
  }

  /** Decides whether the word's look-alikes are meant as Latin. */
  #endWord(): void {
    const { start, end } = { start: this.#word, end: this.#at };
    const scripts = this.#scripts;
    this.#scripts = 0;
    if (scripts === 0) return;
    if (scripts === LATIN) return this.#decided(true);
    const foreign = scripts & LOOK_ALIKE_SCRIPTS;
    if (foreign === 0 || (scripts & OTHER) !== 0) return this.#decided(false);
    const mixed = (scripts & LATIN) !== 0 || (foreign & (foreign - 1)) !== 0;
    if (mixed) {
      this.#latinise(start, end);
      return this.#decided(true);
    }
    if (!this.#alike) return this.#decided(false);
    if ((foreign & FANCY_SCRIPTS) !== 0 && end - start >= FANCY_UNITS_MIN) {
      this.#latinise(start, end);
      return this.#decided(true);
    }
    if (this.#latinBefore === undefined) this.#undecided.push({ start, end });
    else if (this.#latinBefore) this.#latinise(start, end);
  }

  #decided(latin: boolean): void {
    this.#latinBefore = latin;
    if (this.#undecided.length === 0) return;
    if (latin) for (const word of this.#undecided) this.#latinise(word.start, word.end);
    this.#undecided = [];
  }

  #latinise(start: number, end: number): void {
    const out = this.#out;
    for (let i = start; i < end; i++) {
      const letter = shows[out[i]!]!;
      if (letter === 0) continue;
      out[i] = letter;
      this.marks.confusable += 1;
      this.#changed = true;
    }
  }
}

function isWord(unit: number): boolean {
  return (unit >= 97 && unit <= 122) || (unit >= 48 && unit <= 57) || (unit >= 65 && unit <= 90);
}

/** Never throws; linear in the text. */
export function fold(text: string): Folded {
  return new Folding(text).run();
}
