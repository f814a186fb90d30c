/**
 * A text as its letters and digits alone: lower case, without accents, digits that stand for letters as those
 * letters, styled forms and look-alikes as what they show. White space, punctuation and what is invisible is left
 * out, so that letters set apart, changed case or dropped commas change nothing. Escapes of JSON and of URLs are
 * undone on the way. Both the prompt and the answer are read like this, so a symbol need only be the same for both.
 *
 *   "Y o u  ARE n3ver"      y o u a r e n e v e r
 *   "you%20are\\u0020never"  y o u a r e n e v e r      (in a URL, and in JSON)
 *
 * What it makes of a text does not depend on how the text was cut.
 */
import { LOOK_ALIKES, STYLED } from "../../src/text/confusables.ts";

export interface SymbolSink {
  /** One symbol, from units [start, end) of the text. */
  symbol(symbol: number, start: number, end: number): void;
  /** A double quote that no backslash escapes. */
  quote(at: number): void;
}

/** Symbols below are no letters: 0 is left out, the others need a closer look. */
const LOOK = 1;
/** From here on a symbol is worth three letters: Chinese, Japanese and Korean say as much in fewer. */
export const WIDE_FROM = 0x2e80;

const symbolOf = new Uint16Array(0x10000);
/** Styled letters beyond the Basic Multilingual Plane. */
const astral = new Map<number, number>();

const LETTER = /[\p{L}\p{N}]/u;
const PLAIN = /[a-z0-9]/;

function symbolFor(text: string): number {
  const base = text.normalize("NFKD").toLowerCase();
  if (PLAIN.test(base[0]!)) return base.charCodeAt(0);
  const lower = text.toLowerCase().normalize("NFC");
  return LETTER.test(lower) ? lower.charCodeAt(0) : 0;
}

for (let unit = 48; unit < 0x3400; unit++) symbolOf[unit] = symbolFor(String.fromCharCode(unit));
for (let unit = 0x3400; unit < 0xd7a4; unit++) symbolOf[unit] = unit;
for (let unit = 0xf900; unit < 0xfff0; unit++) symbolOf[unit] = symbolFor(String.fromCharCode(unit));
for (let point = 0x1d400; point < 0x1d800; point++) addAstral(point);
for (let point = 0x1f100; point < 0x1f190; point++) addAstral(point);
for (const list of [STYLED, LOOK_ALIKES]) {
  for (const pair of list.trim().split(/\s+/)) {
    const [from = "", to = ""] = [...pair];
    const point = from.codePointAt(0) ?? 0;
    const symbol = symbolFor(to);
    if (symbol === 0 || point < 128) continue;
    if (point > 0xffff) astral.set(point, symbol);
    else symbolOf[point] = symbol;
  }
}
/** Digits and signs that are written for letters; "l" and "1" show the same. */
const SHOWN = "0o1i3e4a5s7t8b@a$sliLi";
const shown = new Map<number, number>();
for (let i = 0; i < SHOWN.length; i += 2) shown.set(SHOWN.charCodeAt(i), SHOWN.charCodeAt(i + 1));
for (const [unit, symbol] of shown) symbolOf[unit] = symbol;
symbolOf.forEach((symbol, unit) => {
  symbolOf[unit] = shown.get(symbol) ?? symbol;
});
for (const [point, symbol] of astral) astral.set(point, shown.get(symbol) ?? symbol);
for (const unit of '"\\%') symbolOf[unit.charCodeAt(0)] = LOOK;
symbolOf.fill(LOOK, 0xd800, 0xdc00);
symbolOf.fill(0, 0xdc00, 0xe000);

function addAstral(point: number): void {
  const symbol = symbolFor(String.fromCodePoint(point));
  if (symbol !== 0 && symbol < 128) astral.set(point, symbol);
}

/** What the reader is in the middle of. */
const NOTHING = 0;
const ESCAPE = 1;
const UNICODE = 2;
const PERCENT = 3;
const HIGH = 4;

/** Letters that follow a backslash and are no words: "\n", "\x59". */
const ESCAPED = new Set([..."nrtbfx/\\\"'"].map((unit) => unit.charCodeAt(0)));

export class SymbolReader {
  #within = NOTHING;
  #from = 0;
  #value = 0;
  #digits = 0;
  /** A character beyond ASCII in a URL: what its bytes gave so far, and how many are to come. */
  #character = 0;
  #bytesLeft = 0;

  read(text: string, start: number, sink: SymbolSink): void {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (this.#within !== NOTHING && this.#goesOn(unit, start + i, sink)) continue;
      const symbol = symbolOf[unit]!;
      if (symbol === 0) continue;
      if (symbol === LOOK) this.#look(unit, start + i, sink);
      else if (symbol < WIDE_FROM) sink.symbol(symbol, start + i, start + i + 1);
      else wide(symbol, start + i, start + i + 1, sink);
    }
  }

  #look(unit: number, at: number, sink: SymbolSink): void {
    if (unit === 0x22) {
      sink.quote(at);
      return;
    }
    this.#within = unit === 0x5c ? ESCAPE : unit === 0x25 ? PERCENT : HIGH;
    this.#from = at;
    this.#value = unit >= 0xd800 ? unit : 0;
    this.#digits = 0;
  }

  /** Takes one more unit of what was begun; false when the unit is no part of it and stands for itself. */
  #goesOn(unit: number, at: number, sink: SymbolSink): boolean {
    const within = this.#within;
    if (within === HIGH) {
      this.#within = NOTHING;
      if (unit < 0xdc00 || unit > 0xdfff) return false;
      const symbol = astral.get(0x10000 + ((this.#value - 0xd800) << 10) + (unit - 0xdc00));
      if (symbol !== undefined) sink.symbol(symbol, this.#from, at + 1);
      return true;
    }
    if (within === ESCAPE) {
      this.#within = unit === 0x75 ? UNICODE : NOTHING;
      return unit === 0x75 || ESCAPED.has(unit);
    }
    const digit = hexDigit(unit);
    if (digit < 0) {
      // No escape: the digits before stand for themselves.
      this.#within = NOTHING;
      for (let i = this.#digits - 1; i >= 0; i--) {
        const own = "0123456789abcdef".charCodeAt((this.#value >> (4 * i)) & 15);
        sink.symbol(symbolOf[own]!, at - 1 - i, at - i);
      }
      return false;
    }
    this.#value = this.#value * 16 + digit;
    this.#digits += 1;
    if (this.#digits < (within === UNICODE ? 4 : 2)) return true;
    this.#within = NOTHING;
    const symbol = symbolOf[within === PERCENT ? this.#byte(this.#value) : this.#value]!;
    if (symbol > LOOK) {
      if (symbol < WIDE_FROM) sink.symbol(symbol, this.#from, at + 1);
      else wide(symbol, this.#from, at + 1, sink);
    }
    return true;
  }

  /** Takes a byte of UTF-8; answers the unit that it ends, 0 for none. Characters of four bytes are left out. */
  #byte(byte: number): number {
    if (byte < 0x80) return byte;
    if (byte >= 0xc0) {
      this.#bytesLeft = bytesAfter(byte);
      this.#character = byte & (0xff >> (this.#bytesLeft + 2));
      return 0;
    }
    if (this.#bytesLeft === 0) return 0;
    this.#character = (this.#character << 6) | (byte & 0x3f);
    this.#bytesLeft -= 1;
    return this.#bytesLeft === 0 ? this.#character : 0;
  }
}

/** Bytes that follow the first one of a character in UTF-8. */
function bytesAfter(first: number): number {
  if (first < 0xc2) return 0;
  return first < 0xe0 ? 1 : first < 0xf0 ? 2 : 0;
}

function wide(symbol: number, start: number, end: number, sink: SymbolSink): void {
  sink.symbol(symbol, start, end);
  sink.symbol(symbol ^ 0x5555, start, end);
  sink.symbol(symbol ^ 0xaaaa, start, end);
}

function hexDigit(unit: number): number {
  if (unit >= 48 && unit <= 57) return unit - 48;
  const lower = unit | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

export interface Symbols {
  readonly symbols: Uint16Array;
  /** By symbol: 1 where something was left out before it, as between words. */
  readonly isFirst: Uint8Array;
}

class Gathered implements SymbolSink {
  readonly symbols: Uint16Array;
  readonly isFirst: Uint8Array;
  count = 0;
  #end = 0;
  /** Room for so many. */
  constructor(symbolsMax: number) {
    this.symbols = new Uint16Array(symbolsMax);
    this.isFirst = new Uint8Array(symbolsMax);
  }
  symbol(symbol: number, start: number, end: number): void {
    if (start > this.#end) this.isFirst[this.count] = 1;
    this.symbols[this.count++] = symbol;
    this.#end = end;
  }
  quote(): void {}
}

/** All symbols of a text. */
export function symbolsOf(text: string): Symbols {
  const gathered = new Gathered(/[\u2e80-\uffff]/.test(text) ? text.length * 3 : text.length);
  new SymbolReader().read(text, 0, gathered);
  return {
    symbols: gathered.symbols.subarray(0, gathered.count),
    isFirst: gathered.isFirst.subarray(0, gathered.count),
  };
}
