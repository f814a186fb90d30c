/**
 * Ways in which a model may be asked to dress what it must not say. The protected text is dressed, once, and the
 * answer is compared with that: nothing is decoded while an answer streams, and how an answer is cut cannot matter.
 * Letters that are turned or set backwards are always looked for; codes only where an answer looks like one.
 */
import { backwards, turned } from "../../src/text/units.ts";
import { type Symbols, symbolsOf, WIDE_FROM } from "./symbols.ts";

export interface Dressed {
  readonly name: string;
  readonly symbols: Uint16Array;
  /** Letters of the text that one symbol stands for. */
  readonly lettersPerSymbol: number;
}

/** Letter for letter. */
export function turnsOf(text: string, { symbols, isFirst }: Symbols): readonly Dressed[] {
  const lettersPerSymbol = 1;
  const rot13 = { name: "rot13", lettersPerSymbol, symbols: symbolsOf(turned(text)).symbols };
  if (hasWide(symbols)) {
    const back = backwards(text);
    const words = back.split(/\s+/).reverse().join(" ");
    const reversed = [back, words].map((made) => symbolsOf(made).symbols);
    return [rot13, ...reversed.map((made) => ({ name: "reversed", lettersPerSymbol, symbols: made }))];
  }
  return [
    rot13,
    { name: "reversed", lettersPerSymbol, symbols: symbols.toReversed() },
    { name: "reversed", lettersPerSymbol, symbols: wordsBackwards(symbols, isFirst) },
  ];
}

/** Letters of which each makes three symbols: these have an order of their own. */
function hasWide(symbols: Uint16Array): boolean {
  return symbols.some((symbol) => symbol >= WIDE_FROM);
}

function wordsBackwards(symbols: Uint16Array, isFirst: Uint8Array): Uint16Array {
  const made = new Uint16Array(symbols.length);
  for (let from = 0, to = 1; from < symbols.length; from = to, to = from + 1) {
    while (to < symbols.length && isFirst[to] === 0) to += 1;
    for (let i = from; i < to; i++) made[i] = symbols[to - 1 - (i - from)]!;
  }
  return made;
}

const BYTES = Array.from({ length: 256 }, (_, byte) => byte);
const HEX_CODES = BYTES.map((byte) => `0x${byte.toString(16)}`);
const DECIMAL_CODES = BYTES.map(String);

/** Byte for byte. */
export function codesOf(text: string): readonly Dressed[] {
  const bytes = Buffer.from(text);
  const dressed = (name: string, lettersPerSymbol: number, made: string): Dressed => ({
    name,
    lettersPerSymbol,
    symbols: symbolsOf(made).symbols,
  });
  return [
    // Three bytes become four letters: which ones depends on where the text begins among them.
    ...[0, 1, 2].map((from) => dressed("base64", 3 / 4, bytes.subarray(from).toString("base64"))),
    dressed("hex", 1 / 2, bytes.toString("hex")),
    dressed("hex", 1 / 4, written(bytes, HEX_CODES)),
    dressed("decimal", 1 / 3, written(bytes, DECIMAL_CODES)),
  ];
}

function written(bytes: Buffer, codeOf: readonly string[]): string {
  const made = new Array<string>(bytes.length);
  for (let i = 0; i < bytes.length; i++) made[i] = codeOf[bytes[i]!]!;
  return made.join(" ");
}
