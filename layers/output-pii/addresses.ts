/**
 * Postal addresses: a number and a street, a street and a number, a box, a room; and behind them the room, the town,
 * the code and the country. Read as a chain of numbers and capitalised words, which ends at the first other word.
 */
import { STREETS } from "./gazetteer.ts";
import { FAILS, WAITS } from "./partial.ts";
import { fold, isCapital } from "./units.ts";

/** The most units of one address that are looked at. */
export const ADDRESS_UNITS_MAX = 128;
const LINKS_MAX = 24;

type LinkKind = "number" | "word" | "join" | "street" | "unit" | "box" | "country" | "state";

interface Link {
  readonly kind: LinkKind;
  readonly text: string;
  readonly folded: string;
  readonly end: number;
  /** What stands before it: " ", a comma, a line's end. */
  readonly gap: string;
}

const PIECE =
  /\d+(?:[-/]\d+)?[A-Za-z]?(?![\p{L}\p{M}\p{N}])|(?:[A-Z]\.){2,3}|\d*[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*/uy;
const GAP = /(?:\.?,? ?\n[ >]{0,2},? ?|\.? |\.?, ?|\.)/y;

function kindOf(text: string, folded: string): LinkKind | undefined {
  if (/^\d+(?:[-/]\d+)?[A-Za-z]?$/.test(text)) return "number";
  if (/^\d/.test(text)) return /^\d+(?:st|nd|rd|th)$/i.test(text) ? "word" : undefined;
  if (!isCapital(text.charCodeAt(0))) {
    if (folded === "ul") return "street";
    return STREETS.joins.has(folded) ? "join" : undefined;
  }
  if (STREETS.units.has(folded)) return "unit";
  if (STREETS.boxes.has(folded)) return "box";
  if (/^[A-Z]{2,3}$/.test(text) && STREETS.states.has(folded)) return "state";
  if (STREETS.before.has(folded) || STREETS.after.has(folded)) return "street";
  if (folded.length >= 6 && STREETS.ends.test(folded)) return "street";
  return STREETS.countries.has(folded) ? "country" : "word";
}

function readChain(window: string, open: boolean): readonly Link[] | "waits" {
  const chain: Link[] = [];
  let at = 0;
  let gap = "";
  while (chain.length < LINKS_MAX) {
    PIECE.lastIndex = at;
    const text = PIECE.exec(window)?.[0];
    if (text === undefined) return open && at === window.length ? "waits" : chain;
    const end = at + text.length;
    if (open && end === window.length) return "waits";
    if (open && end + 1 === window.length && /['’/.-]/.test(window[end]!)) return "waits";
    const folded = fold(text).replaceAll(".", "");
    const kind = kindOf(text, folded);
    if (kind === undefined) return chain;
    chain.push({ kind, text, folded, end, gap });
    // The gap may go on: up to two units of a line's front may follow.
    if (open && window.length < end + GAP_UNITS_MAX && /^[.,\s>]*$/.test(window.slice(end))) return "waits";
    GAP.lastIndex = end;
    const found = GAP.exec(window)?.[0];
    if (found === undefined || found.length > GAP_UNITS_MAX) return chain;
    gap = found;
    at = end + found.length;
  }
  return chain;
}

const GAP_UNITS_MAX = 7;
const isNumber = (link: Link | undefined, digits = /^\d{1,5}/): boolean =>
  link?.kind === "number" && digits.test(link.text);
const isName = (link: Link | undefined): boolean =>
  link !== undefined && ["word", "join", "street", "country", "state"].includes(link.kind);
const isNext = (link: Link | undefined): boolean => link?.gap === " ";
const isSameLine = (link: Link | undefined): boolean =>
  link !== undefined && !link.gap.includes("\n") && !link.gap.includes(",");
const isCode = (link: Link | undefined): boolean => isNumber(link, /^\d{4,5}(?:-\d{4})?$/);

/** How many links from the front are a street with its number, a box or a room; 0 where none is. */
function frontOf(chain: readonly Link[]): number {
  const first = chain[0]!;
  if (first.kind === "unit") return isNumber(chain[1]) && isSameLine(chain[1]) ? 2 : 0;
  const box = chain.findIndex((link) => link.kind === "box" && link.folded !== "psc");
  if (first.folded === "psc") return isNumber(chain[1]) ? (box === 2 && isNumber(chain[3]) ? 4 : 2) : 0;
  if (/^(?:apo|fpo|dpo)$/.test(first.folded)) return chain[1]?.kind === "state" && isCode(chain[2]) ? 3 : 0;
  let from = 0;
  while (from < 2 && isNumber(chain[from]) && (from === 0 || isNext(chain[from]))) from += 1;
  if (/^p\.?o$/i.test(chain[from]?.folded ?? "") || chain[from]?.kind === "box") {
    const at = chain[from]?.kind === "box" ? from : from + 1;
    return chain[at]?.folded === "box" && isNumber(chain[at + 1]) ? at + 2 : 0;
  }
  let to = from;
  let streetAt = -1;
  while (to < from + 6 && isName(chain[to]) && (to === from || isSameLine(chain[to]))) {
    if (chain[to]!.kind === "street") streetAt = to;
    to += 1;
  }
  while (to > from && chain[to - 1]!.kind === "join") to -= 1;
  if (to === from) return 0;
  const isNumbered = isNumber(chain[to], /^\d{1,4}[A-Za-z]?$/) && isNext(chain[to]);
  const names = chain.slice(from, to);
  if (from > 0 && !isNext(chain[from])) return 0;
  if (names.some((name) => STREETS.months.has(name.folded))) return 0;
  const isShouted = streetAt < 0 && names.every((name) => name.text === name.text.toUpperCase());
  if (from > 0 && isNumbered) return isShouted ? 0 : to + 1;
  if (from > 0 && (streetAt > from || (streetAt === from && STREETS.before.has(chain[from]!.folded))))
    return isBehind(chain, streetAt, from) ? streetAt + 1 : to;
  return streetAt >= 0 && isNumbered && to - from > (isOneWord(chain[streetAt]!) ? 0 : 1) ? to + 1 : 0;
}

/** A type behind its name ("Main Street") ends the street there; one before it ("Rue Cler") does not. */
function isBehind(chain: readonly Link[], at: number, from: number): boolean {
  return at > from && STREETS.after.has(chain[at]!.folded);
}

const isOneWord = (link: Link): boolean => link.folded.length >= 6 && STREETS.ends.test(link.folded);

/** What follows a front: rooms, and up to four words of a town where a code, a state or a country follows them. */
function behind(chain: readonly Link[], from: number): number {
  let at = from;
  for (;;) {
    if (chain[at]?.kind === "unit" && isNumber(chain[at + 1])) at += 2;
    else if (chain[at]?.kind === "box" && isNumber(chain[at + 1])) at += 2;
    else if (chain[at]?.kind === "box" && chain[at + 1]?.kind === "state" && isCode(chain[at + 2])) at += 3;
    else {
      let to = at;
      while (to < at + 5 && ["word", "join", "street"].includes(chain[to]?.kind ?? "")) to += 1;
      const town = to;
      while (chain[to]?.kind === "state" || chain[to]?.kind === "country") to += 1;
      const hasPlace = to > town;
      if (isCode(chain[to]) && (to > at || chain[to]!.gap !== " ")) to += 1;
      else if (!hasPlace) return at;
      if (to === at) return at;
      at = to;
    }
  }
}

/** The end of the address that begins at `at`, FAILS or WAITS. `beforeOf` gives the text before it. */
export function addressAt(
  text: string,
  at: number,
  open: boolean,
  beforeOf: (text: string, at: number) => string,
): number {
  const window = text.slice(at, at + ADDRESS_UNITS_MAX);
  const chain = readChain(window, open && window.length < ADDRESS_UNITS_MAX);
  if (chain === "waits") return WAITS;
  const first = chain[0];
  if (first === undefined) return FAILS;
  const front = frontOf(chain);
  if (front > 0) return at + chain[behind(chain, front) - 1]!.end;
  if (first.kind === "state" && isNumber(chain[1], /^\d{5}(?:-\d{4})?$/) && chain[1]!.gap === " ")
    return at + chain[1]!.end;
  return isCode(first) && STREETS.afterCode.test(beforeOf(text, at).toLowerCase()) ? at + first.end : FAILS;
}

/** Whether a word may begin an address: told before anything is held for it. */
export function mayBeginAddress(word: string): boolean {
  const folded = fold(word);
  const kind = kindOf(word, folded);
  return (
    kind === "unit" || kind === "box" || kind === "street" || kind === "state" || /^p$|^po$/.test(folded)
  );
}
