/**
 * A set of grams: runs of GRAM_SYMBOLS symbols, each as one number that rolls along the text (Karp and Rabin 1987).
 * Of a text as it stands every gram is kept, so that near copies are found between their changes; of its disguises
 * every twelfth, as those are copied whole or not at all. One look-up for each symbol of an answer tells of all.
 */
import { symbolsOf } from "./symbols.ts";

/** Some three words: shorter runs are everybody's. */
export const GRAM_SYMBOLS = 12;
const BASE = 0x01000193;
/** What the symbol that leaves had become. */
const LEAVING = power(BASE, GRAM_SYMBOLS);
const RING = 16;

function power(base: number, times: number): number {
  let product = 1;
  for (let i = 0; i < times; i++) product = Math.imul(product, base);
  return product;
}

/** The number of the last GRAM_SYMBOLS symbols. */
export class RollingGram {
  readonly #ring = new Uint16Array(RING);
  #count = 0;
  #hash = 0;

  /** 0 until there are enough symbols; never 0 after that. */
  push(symbol: number): number {
    const at = this.#count++;
    const left = this.#ring[(at - GRAM_SYMBOLS) & (RING - 1)]!;
    this.#ring[at & (RING - 1)] = symbol;
    this.#hash = (Math.imul(this.#hash, BASE) + symbol - Math.imul(left, LEAVING)) | 0;
    return at + 1 < GRAM_SYMBOLS ? 0 : this.#hash | 1;
  }
}

/** Where a gram comes from. */
export interface Source {
  readonly kind: string;
  /** The disguise; "" for the text as it stands. */
  readonly via: string;
  /** Letters of the text that one such gram shows, beside those that the grams before it showed. */
  readonly letters: number;
}

const FIRST_KEYS = 256;

/** Open addressing, at most half full; the first source of a gram stays. */
export class GramSet {
  #keys = new Int32Array(FIRST_KEYS);
  #sources = new Uint8Array(FIRST_KEYS);
  /** A bit for each gram, four times as many as keys: most looks end here, in memory that stays in the cache. */
  #bits = new Int32Array(FIRST_KEYS / 8);
  #shift = 32 - Math.log2(FIRST_KEYS * 4);
  #count = 0;
  readonly sources: Source[] = [];

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get bytes(): number {
    return this.#keys.length * 5.5;
  }

  /** Every gram of these symbols. */
  add(symbols: Uint16Array, source: Source): void {
    const id = this.#idOf(source);
    const rolling = new RollingGram();
    for (let i = 0; i < symbols.length; i++) {
      const gram = rolling.push(symbols[i]!);
      if (gram !== 0) this.#insert(gram, id);
    }
  }

  /** One gram after another, none of which share a symbol. */
  addApart(symbols: Uint16Array, source: Source): void {
    const id = this.#idOf(source);
    let hash = 0;
    for (let i = 0; i < symbols.length; i++) {
      hash = (Math.imul(hash, BASE) + symbols[i]!) | 0;
      if ((i + 1) % GRAM_SYMBOLS > 0) continue;
      this.#insert(hash | 1, id);
      hash = 0;
    }
  }

  #idOf(source: Source): number {
    const id = this.sources.findIndex(
      ({ kind, via, letters }) => kind === source.kind && via === source.via && letters === source.letters,
    );
    return id < 0 ? this.sources.push(source) - 1 : id;
  }

  find(gram: number): Source | undefined {
    const bit = Math.imul(gram, SPREAD) >>> this.#shift;
    return ((this.#bits[bit >>> 5]! >>> (bit & 31)) & 1) === 0 ? undefined : this.#findKey(gram);
  }

  #findKey(gram: number): Source | undefined {
    const keys = this.#keys;
    const mask = keys.length - 1;
    for (let at = place(gram) & mask; ; at = (at + 1) & mask) {
      const key = keys[at]!;
      if (key === 0) return undefined;
      if (key === gram) return this.sources[this.#sources[at]!];
    }
  }

  #insert(gram: number, source: number): void {
    if (this.#count * 2 >= this.#keys.length) this.#grow();
    const mask = this.#keys.length - 1;
    let at = place(gram) & mask;
    for (; this.#keys[at] !== 0; at = (at + 1) & mask) if (this.#keys[at] === gram) return;
    this.#keys[at] = gram;
    this.#sources[at] = source;
    const bit = Math.imul(gram, SPREAD) >>> this.#shift;
    this.#bits[bit >>> 5]! |= 1 << (bit & 31);
    this.#count += 1;
  }

  #grow(): void {
    const keys = this.#keys;
    const sources = this.#sources;
    this.#keys = new Int32Array(keys.length * 4);
    this.#sources = new Uint8Array(keys.length * 4);
    this.#bits = new Int32Array(keys.length / 2);
    this.#shift -= 2;
    this.#count = 0;
    for (let i = 0; i < keys.length; i++) if (keys[i] !== 0) this.#insert(keys[i]!, sources[i]!);
  }
}

/** 2 to the 32 over the golden ratio (Knuth's multiplicative hashing). */
const SPREAD = 0x9e3779b1;

function place(gram: number): number {
  return Math.imul(gram ^ (gram >>> 15), 0x2c1b3c6d) >>> 8;
}

/** How many of the grams of a text are in the set, at most `enough`. */
export function gramsShared(text: string, set: GramSet, enough: number): number {
  const rolling = new RollingGram();
  let shared = 0;
  for (const symbol of symbolsOf(text).symbols) {
    const gram = rolling.push(symbol);
    if (gram !== 0 && set.find(gram) !== undefined && ++shared >= enough) break;
  }
  return shared;
}
