/**
 * What of a prompt is meant for the model alone, as grams: the texts of system and developer turns, and what tools
 * and response formats say of themselves; also canary tokens. An application sends the same prompt again and again,
 * so the grams are kept, by a hash of the texts, never the texts themselves.
 */
import { createHash } from "node:crypto";
import type { Leaf, Prompt } from "../../src/layer/index.ts";
import { codesOf, type Dressed, turnsOf } from "./disguises.ts";
import { GRAM_SYMBOLS, GramSet } from "./grams.ts";
import { symbolsOf } from "./symbols.ts";

/** Of each prompt, the first of what is protected. */
const PROTECTED_UNITS_MAX = 65_536;
/** Of what the caller wrote, the newest. */
const KNOWN_UNITS_MAX = 32_768;
const KEPT_MAX = 64;
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

export const PROTECTED_KINDS = ["system-prompt", "tool-schema", "canary"] as const;
export type ProtectedKind = (typeof PROTECTED_KINDS)[number];

function kindOf({ role, kind }: Leaf): ProtectedKind | undefined {
  if (kind === "tool-schema") return "tool-schema";
  if (kind === "text" && (role === "system" || role === "developer")) return "system-prompt";
  return undefined;
}

interface Text {
  readonly kind: ProtectedKind | "known";
  readonly text: string;
}

export interface ProtectionOptions {
  readonly canaries: readonly string[];
  /** Kinds that are looked for. */
  readonly kinds: ReadonlySet<string>;
  /** What stands between two of these may be told. */
  readonly publicMarks: readonly [begin: string, end: string] | undefined;
}

export function protectedTexts(
  prompt: Prompt | undefined,
  { canaries, kinds, publicMarks }: ProtectionOptions,
): readonly Text[] {
  const texts: Text[] = kinds.has("canary") ? canaries.map((text) => ({ kind: "canary", text })) : [];
  let left = PROTECTED_UNITS_MAX;
  for (const leaf of prompt?.leaves ?? []) {
    const kind = kindOf(leaf);
    if (kind === undefined || !kinds.has(kind) || left <= 0) continue;
    const whole = leaf.text.length > left ? leaf.text.slice(0, left) : leaf.text;
    left -= whole.length;
    if (publicMarks === undefined || !whole.includes(publicMarks[0])) texts.push({ kind, text: whole });
    else for (const text of partsOutside(whole, publicMarks)) texts.push({ kind, text });
  }
  return texts;
}

/** A mark that is not closed makes nothing public. */
function partsOutside(text: string, [begin, end]: readonly [string, string]): readonly string[] {
  const parts: string[] = [];
  let from = 0;
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, from)) {
    const close = text.indexOf(end, at + begin.length);
    if (close < 0) break;
    parts.push(text.slice(from, at));
    from = close + end.length;
  }
  return [...parts, text.slice(from)];
}

/** Grams of a text as it stands and with its letters turned, and those of its codes, made when they are asked for. */
export class ProtectedGrams {
  readonly plain: GramSet;
  #coded: GramSet | undefined;

  constructor(texts: readonly Text[]) {
    this.plain = new GramSet();
    const read = texts.map((text) => ({ ...text, symbols: symbolsOf(text.text) }));
    for (const { kind, symbols } of read) this.plain.add(symbols.symbols, { kind, via: "", letters: 1 });
    for (const { kind, text, symbols } of read)
      for (const turn of turnsOf(text, symbols)) addDressed(this.plain, kind, turn);
  }

  /** `texts` as they were given before: they are not kept. */
  coded(texts: readonly Text[]): GramSet {
    if (this.#coded === undefined) {
      this.#coded = new GramSet();
      for (const { kind, text } of texts)
        for (const code of codesOf(text)) addDressed(this.#coded, kind, code);
    }
    return this.#coded;
  }

  get bytes(): number {
    return this.plain.bytes + (this.#coded?.bytes ?? 0);
  }
}

/** A run has letters before its first whole gram and after its last one, which no gram tells of. */
const ENDS_SHARE = 1.25;

/** A canary is short: each of its grams is kept. */
function addDressed(grams: GramSet, kind: string, { name, symbols, lettersPerSymbol }: Dressed): void {
  if (kind === "canary" || kind === "known")
    grams.add(symbols, { kind, via: name, letters: lettersPerSymbol });
  else grams.addApart(symbols, { kind, via: name, letters: lettersPerSymbol * GRAM_SYMBOLS * ENDS_SHARE });
}

/** Grams of the prompts seen last. */
export class KeptGrams {
  readonly #kept = new Map<string, ProtectedGrams>();

  of(texts: readonly Text[]): ProtectedGrams | undefined {
    if (texts.length === 0) return undefined;
    const hash = createHash("sha256");
    for (const { kind, text } of texts) hash.update(`${kind} ${text.length} `).update(text);
    const key = hash.digest("base64");
    const known = this.#kept.get(key);
    this.#kept.delete(key);
    const grams = known ?? new ProtectedGrams(texts);
    this.#kept.set(key, grams);
    if (known === undefined) this.#forget();
    return grams;
  }

  #forget(): void {
    let bytes = 0;
    for (const grams of this.#kept.values()) bytes += grams.bytes;
    for (const [oldest, grams] of this.#kept) {
      if (this.#kept.size <= KEPT_MAX && bytes <= KEPT_BYTES_MAX) break;
      this.#kept.delete(oldest);
      bytes -= grams.bytes;
    }
  }
}

/** What the caller wrote or was told before: saying it again gives nothing away. */
export class KnownToCaller {
  readonly #prompt: Prompt | undefined;
  #grams: ProtectedGrams | undefined;
  #texts: readonly Text[] = [];

  constructor(prompt: Prompt | undefined) {
    this.#prompt = prompt;
  }

  has(gram: number, isCoded: boolean): boolean {
    if (this.#grams === undefined) {
      this.#texts = this.#read();
      this.#grams = new ProtectedGrams(this.#texts);
    }
    const { plain } = this.#grams;
    return (isCoded ? this.#grams.coded(this.#texts) : plain).find(gram) !== undefined;
  }

  #read(): readonly Text[] {
    const texts: Text[] = [];
    let left = KNOWN_UNITS_MAX;
    for (const { role, kind, text } of (this.#prompt?.leaves ?? []).toReversed()) {
      if (left <= 0) break;
      if (kind !== "text" || (role !== "user" && role !== "assistant")) continue;
      texts.push({ kind: "known", text: text.length > left ? text.slice(-left) : text });
      left -= text.length;
    }
    return texts;
  }
}
