/**
 * The simulator's only source of chance: a generator seeded from text, so that the same seed and request
 * give the same ids, words and numbers on every machine. `fork` opens an independent stream, which keeps
 * ids the same when a script makes the text longer.
 */
import { createHash } from "node:crypto";
import words from "./words.json" with { type: "json" };

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SENTENCE_WORDS_MIN = 5;
const SENTENCE_WORDS_SPREAD = 8;

export class Random {
  readonly #name: string;
  /** xoshiro128++ (Blackman and Vigna): four 32-bit words, here filled from a SHA-256. */
  readonly #state: Uint32Array;

  constructor(name: string) {
    const digest = createHash("sha256").update(name).digest();
    this.#name = digest.toString("base64");
    this.#state = Uint32Array.from({ length: 4 }, (_, i) => digest.readUInt32LE(i * 4));
  }

  fork(label: string): Random {
    return new Random(`${this.#name}/${label}`);
  }

  /** 0 .. 2^32 - 1 */
  next(): number {
    const s = this.#state;
    const [a, b, c, d] = [s[0]!, s[1]!, s[2]!, s[3]!];
    const sum = (a + d) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + a) >>> 0;
    const c1 = c ^ a;
    const d1 = d ^ b;
    s[1] = b ^ c1;
    s[0] = a ^ d1;
    s[2] = c1 ^ (b << 9);
    s[3] = (d1 << 11) | (d1 >>> 21);
    return result;
  }

  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** An id as the vendors make them: a prefix and characters from A-Z, a-z, 0-9. */
  id(prefix: string, length: number): string {
    let id = prefix;
    for (let i = 0; i < length; i++) id += ALPHABET[this.below(ALPHABET.length)];
    return id;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.next() & 0xff));
  }

  word(): string {
    return words[this.below(words.length)]!;
  }

  /** Sentences of `count` words, one string for each word with the space before it: joined they are the text. */
  prose(count: number): string[] {
    const tokens: string[] = [];
    let left = 0;
    for (let i = 0; i < count; i++) {
      const starts = left === 0;
      if (starts) left = SENTENCE_WORDS_MIN + this.below(SENTENCE_WORDS_SPREAD);
      left -= 1;
      const word = this.word();
      const shown = starts ? word[0]!.toUpperCase() + word.slice(1) : word;
      tokens.push(`${i === 0 ? "" : " "}${shown}${left === 0 || i === count - 1 ? "." : ""}`);
    }
    return tokens;
  }
}
