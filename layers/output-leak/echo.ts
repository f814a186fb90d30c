/**
 * Finds protected text in one channel of an answer: exact, nearly so, or in a disguise. Each symbol costs one step of
 * a rolling hash and one look-up; while nothing matches nothing is held, and the first gram of a leak (some three
 * words) has left when it is seen for what it is.
 */
import type { Delta } from "../../src/layer/index.ts";
import { type GramSet, RollingGram } from "./grams.ts";
import { addHit, FREE, type Hit, looksLikeJson } from "./hit.ts";
import type { KnownToCaller, ProtectedKind } from "./protected.ts";
import { FILLER_UNITS_MAX, type Piece, Run } from "./run.ts";
import { SymbolReader, type SymbolSink } from "./symbols.ts";

/** Letters of true, false, null and of numbers, as symbols: they may stand outside of JSON's strings. */
const BARE = new Set([..."truefasniob269"].map((unit) => unit.charCodeAt(0)));
const SCORES: Readonly<Record<ProtectedKind, number>> = {
  "system-prompt": 0.9,
  "tool-schema": 0.8,
  canary: 1,
};

/** Longer than words are, and longer than words are that happen to have the letters of hex. */
const TOGETHER_MIN = 20;
const CODE_LIKE_MIN = 20;
/** Symbols after what looked like a code in which codes are looked for. */
const CODED_SYMBOLS = 96;
/** Digits (which were read as letters), the other digits of hex, and the x before them. */
const CODE_LIKE = new Uint8Array(0x10000);
for (const unit of "oi2east69bcdfx") CODE_LIKE[unit.charCodeAt(0)] = 1;
const CODES: ReadonlySet<string> = new Set(["base64", "hex", "decimal"]);

export interface EchoOptions {
  readonly grams: GramSet;
  /** Grams of base64, hex and other codes; made when an answer looks like one. */
  readonly coded: () => GramSet;
  readonly known: KnownToCaller;
  /** By kind of protected text, letters beyond the first gram that make a leak. */
  readonly marks: ReadonlyMap<ProtectedKind, number>;
}

export class Echo implements SymbolSink {
  readonly #grams: GramSet;
  readonly #codedOf: () => GramSet;
  #coded: GramSet | undefined;
  /** Symbols one after another without a unit between them, and such as codes are written with. */
  #together = 0;
  #codeLike = 0;
  #codedLeft = 0;
  readonly #known: KnownToCaller;
  readonly #channel: string;
  readonly #runs: readonly { readonly kind: ProtectedKind; readonly run: Run }[];
  readonly #reader = new SymbolReader();
  readonly #rolling = new RollingGram();
  /** Where the last symbol ended. */
  #symbolsEnd = 0;
  #isIdle = true;
  readonly #isTool: boolean;
  /** Undefined until the first unit that is no white space. */
  #isJson: boolean | undefined;
  #isInString = false;
  #hits: Hit[] = [];

  constructor(
    { grams, coded, known, marks }: EchoOptions,
    { channel, kind }: Pick<Delta, "channel" | "kind">,
  ) {
    this.#grams = grams;
    this.#codedOf = coded;
    this.#known = known;
    this.#channel = channel;
    this.#isTool = kind === "tool";
    if (!this.#isTool) this.#isJson = false;
    // What a tool is asked for is written in the words of its own schema.
    const kinds = [...marks].filter(([of]) => !(this.#isTool && of === "tool-schema"));
    this.#runs = kinds.map(([of, mark]) => ({ kind: of, run: new Run(mark) }));
  }

  /** Adds to `hits`; answers from where text must be held. */
  read({ text, start }: Delta, hits: Hit[]): number {
    if (this.#isJson === undefined && text.trim() !== "") this.#isJson = looksLikeJson(text);
    this.#hits = hits;
    this.#reader.read(text, start, this);
    if (this.#isIdle) return FREE;
    const end = start + text.length;
    let from = FREE;
    for (const { run } of this.#runs) from = Math.min(from, run.heldFrom(end, this.#symbolsEnd));
    return from;
  }

  symbol(symbol: number, start: number, end: number): void {
    if (this.#isJson === true && !this.#isInString && !BARE.has(symbol)) this.#isNoJson(start);
    this.#lookForCodes(symbol, start);
    const gram = this.#rolling.push(symbol);
    const source = gram === 0 ? undefined : (this.#grams.find(gram) ?? this.#coded?.find(gram));
    if (source === undefined && this.#isIdle) {
      this.#symbolsEnd = end;
      return;
    }
    const isKnown = source !== undefined && this.#known.has(gram, CODES.has(source.via));
    this.#take(isKnown ? undefined : source, end);
  }

  #lookForCodes(symbol: number, start: number): void {
    this.#together = start === this.#symbolsEnd && symbol < 128 ? this.#together + 1 : 0;
    this.#codeLike = CODE_LIKE[symbol] === 1 ? this.#codeLike + 1 : 0;
    if (this.#together >= TOGETHER_MIN || this.#codeLike >= CODE_LIKE_MIN) {
      this.#coded ??= this.#codedOf();
      this.#codedLeft = CODED_SYMBOLS;
    } else if (this.#coded !== undefined && --this.#codedLeft === 0) this.#coded = undefined;
  }

  quote(at: number): void {
    if (this.#isJson !== true) return;
    this.#isInString = !this.#isInString;
    if (!this.#isIdle) for (const { run } of this.#runs) run.quote(at, this.#isInString);
  }

  #take(
    source: { readonly kind: string; readonly via: string; readonly letters: number } | undefined,
    end: number,
  ): void {
    const isInside = this.#isJson !== true || this.#isInString;
    const from = this.#symbolsEnd;
    this.#symbolsEnd = end;
    let isIdle = true;
    for (const { kind, run } of this.#runs) {
      if (end - from > FILLER_UNITS_MAX) run.filler(from, end, isInside);
      if (source?.kind === kind) {
        for (const piece of run.matched(source.letters, end, isInside)) this.#hit(kind, source.via, piece);
      } else if (!run.isIdle) run.missed(end, isInside);
      if (!run.isIdle) isIdle = false;
    }
    this.#isIdle = isIdle;
  }

  #hit(kind: ProtectedKind, via: string, { start, end }: Piece): void {
    const where = { channel: this.#channel, start, end };
    const score = SCORES[kind];
    addHit(this.#hits, via === "" ? { kind, score, where } : { kind, score, where, via });
  }

  #isNoJson(at: number): void {
    this.#isJson = false;
    for (const { run } of this.#runs) run.unquoted(at);
  }
}
