/**
 * Personal data that is words: names of persons and postal addresses. Begins at capitalised words and numbers; most
 * of them are told by themselves, and the rest waits for the words behind.
 */
import { ADDRESS_UNITS_MAX, addressAt, mayBeginAddress } from "./addresses.ts";
import type { Kind, Sight } from "./kinds.ts";
import { WAITS } from "./partial.ts";
import { mayBeginName, NAME_UNITS_MAX, nameAt } from "./people.ts";
import { BEFORE_UNITS, type Reader } from "./reader.ts";
import { beginsWord, CLASS, DIGIT, isCapital } from "./units.ts";

export function wordsHoldMax(kinds: readonly Kind[]): number {
  return Math.max(
    kinds.includes("address") ? ADDRESS_UNITS_MAX : 0,
    kinds.includes("person") ? NAME_UNITS_MAX : 0,
  );
}

function beforeOf(text: string, at: number): string {
  return text.slice(Math.max(0, at - BEFORE_UNITS), at).replace(/\\[nrtbf]/g, " \n");
}

const WORD = /[\p{L}\p{M}]+/uy;
/** A longer word is no name. */
const WORD_UNITS_MAX = 40;

export class WordReader implements Reader {
  readonly #person: boolean;
  readonly #address: boolean;

  constructor(kinds: ReadonlySet<Kind>) {
    this.#person = kinds.has("person");
    this.#address = kinds.has("address");
  }

  seek(text: string, from: number): number {
    for (let at = from; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      if ((isCapital(unit) || (this.#address && CLASS[unit] === DIGIT)) && beginsWord(text, at)) return at;
    }
    return text.length;
  }

  judge(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    const isNumber = CLASS[text.charCodeAt(at)] === DIGIT;
    let word = "";
    if (!isNumber) {
      WORD.lastIndex = at;
      word =
        WORD.exec(text.length > at + WORD_UNITS_MAX ? text.slice(0, at + WORD_UNITS_MAX) : text)?.[0] ?? "";
      if (word.length === WORD_UNITS_MAX) return undefined;
      if (open && at + word.length === text.length) return "waits";
    }
    if (this.#address && (isNumber || mayBeginAddress(word))) {
      const end = addressAt(text, at, open, beforeOf);
      if (end === WAITS) return "waits";
      if (end > 0) return { kind: "address", id: "address", score: 0.7, start: at, end };
    }
    if (!this.#person || isNumber || !mayBeginName(word)) return undefined;
    const end = nameAt(text, at, open, beforeOf(text, at));
    if (end === WAITS) return "waits";
    return end > 0 ? { kind: "person", id: "person", score: 0.6, start: at, end } : undefined;
  }
}
