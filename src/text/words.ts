/**
 * Words whose letters were set apart or replaced by digits: "i g n o r e", "i-g-n-o-r-e", "1gn0r3". One patch for
 * each gap or digit, so that offsets stay exact.
 */
import { letterOf, NO_LETTER, pairScore } from "./bigrams.ts";
import type { Patch } from "./lay.ts";
import type { Region } from "./scan.ts";

/** Units that a word before or after the region may add to it: marks set apart as its letters are. */
const MARKS_UNITS_MAX = 24;
const GAP = /[^\p{L}\p{N}\p{M}]+/gu;

/** The commonest gap between two letters vanishes; whatever else stands between them stays. */
export function spacedPatches(text: string, regions: readonly Region[]): Patch[] {
  const patches: Patch[] = [];
  let done = 0;
  for (const region of regions) {
    const gap = usualGap(text.slice(region.start, region.end));
    if (gap === "") continue;
    const { start, end } = withMarks(text, Math.max(done, region.start), region.end, gap);
    for (let at = start + unitsAt(text, start); at < end; at += unitsAt(text, at)) {
      if (!text.startsWith(gap, at)) continue;
      patches.push({ start: at, end: at + gap.length, text: "" });
      at += gap.length;
    }
    done = end;
  }
  return patches;
}

function unitsAt(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff ? 2 : 1;
}

function usualGap(region: string): string {
  const counts = new Map<string, number>();
  let usual = "";
  for (const [gap] of region.matchAll(GAP)) {
    if (gap.length > 3) continue;
    const count = (counts.get(gap) ?? 0) + 1;
    counts.set(gap, count);
    if (count > (counts.get(usual) ?? 0)) usual = gap;
  }
  return usual;
}

/** "< | i m | >": the marks belong to the word. */
function withMarks(text: string, from: number, to: number, gap: string): Region {
  const step = gap.length + 1;
  let start = from;
  while (
    from - start < MARKS_UNITS_MAX &&
    start >= step &&
    text.startsWith(gap, start - gap.length) &&
    !isLetterBefore(text, start - step)
  )
    start -= step;
  let end = to;
  while (end - to < MARKS_UNITS_MAX && end + step <= text.length && text.startsWith(gap, end)) end += step;
  return { start, end };
}

/** A letter there is the end of another word. */
function isLetterBefore(text: string, at: number): boolean {
  return (
    letterOf[text.charCodeAt(at)] !== NO_LETTER && at > 0 && letterOf[text.charCodeAt(at - 1)] !== NO_LETTER
  );
}

const MEANT: Readonly<Record<string, string>> = {
  "0": "o",
  "1": "il",
  "3": "e",
  "4": "a",
  "5": "s",
  "7": "t",
  "8": "b",
  "@": "a",
  $: "s",
  "!": "il",
  "|": "il",
};

/** Longest word, and what must not touch it: identifiers, escapes, runs of base64. */
const WORD_UNITS_MAX = 20;
const IN_WORD = unitsOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@$!|");
const NOT_BEFORE = unitsOf("+/=%\\&#");
const NOT_AFTER = unitsOf("+/=%");

function unitsOf(list: string): Uint8Array {
  const table = new Uint8Array(0x10000);
  for (const unit of list) table[unit.charCodeAt(0)] = 1;
  return table;
}

/**
 * Digits and symbols that stand beside letters become letters: "1" an "i", or, with `fits`, what is likelier
 * between its neighbours.
 */
export function leetPatches(
  text: string,
  places: readonly number[],
  { fits }: { readonly fits: boolean },
): Patch[] {
  const patches: Patch[] = [];
  let done = 0;
  let words = 0;
  let last = 0;
  for (const place of places) {
    if (place < done) continue;
    let start = place;
    while (start > done && place - start <= WORD_UNITS_MAX && IN_WORD[text.charCodeAt(start - 1)] === 1)
      start -= 1;
    let end = place + 1;
    while (end - start <= WORD_UNITS_MAX && IN_WORD[text.charCodeAt(end)] === 1) end += 1;
    done = end;
    if (end - start > WORD_UNITS_MAX) continue;
    if (NOT_BEFORE[text.charCodeAt(start - 1)] === 1 || NOT_AFTER[text.charCodeAt(end)] === 1) continue;
    // "70" between "1gn0r3" and "17" is a word as they are; alone it is a number.
    if (!fits) numbers(text, Math.max(last, start - NUMBERS_UNITS_MAX), start, patches);
    read(text.slice(start, end), start, fits, patches);
    words += 1;
    last = end;
  }
  if (words > 1 && !fits) numbers(text, last, text.length, patches);
  return patches;
}

/** Most units between two words of digits and letters in which numbers are words. */
const NUMBERS_UNITS_MAX = 48;
const NUMBER = /(?<![A-Za-z0-9.,$%:/#+-])[0134578]{1,3}(?![A-Za-z0-9%/#+]|[.,:]\d)/g;

function numbers(text: string, from: number, to: number, patches: Patch[]): void {
  const end = Math.min(to, from + NUMBERS_UNITS_MAX);
  for (const { 0: number, index } of text.slice(from, end).matchAll(NUMBER))
    read(number, from + index, false, patches);
}

/** "cat!" is no more than excited: symbols at the end are left. So is a digit after one that shows no letter. */
function read(token: string, from: number, fits: boolean, patches: Patch[]): void {
  let end = token.length;
  while (end > 0 && "!|$@".includes(token[end - 1]!)) end -= 1;
  let word = "";
  let changed = false;
  for (let i = 0; i < end; i++) {
    const unit = token[i]!;
    const meant = MEANT[unit];
    if (meant === undefined || (i === 0 && unit === "|") || "269".includes(token[i - 1] ?? " ")) {
      word += unit;
      continue;
    }
    word += fits && meant.length > 1 ? fitting(meant, word.at(-1) ?? " ", token[i + 1] ?? " ") : meant[0]!;
    changed = true;
  }
  if (changed) patches.push({ start: from, end: from + end, text: word });
}

function fitting(choices: string, before: string, after: string): string {
  let best = choices[0]!;
  let bestScore = Number.NEGATIVE_INFINITY;
  const first = letterAt(before);
  const last = letterAt(after.length === 1 && MEANT[after] !== undefined ? MEANT[after]![0]! : after);
  for (const choice of choices) {
    const score = pairScore(first, letterAt(choice)) + pairScore(letterAt(choice), last);
    if (score > bestScore) {
      best = choice;
      bestScore = score;
    }
  }
  return best;
}

function letterAt(unit: string): number {
  return letterOf[unit.charCodeAt(0)] ?? NO_LETTER;
}
