/**
 * Words whose letters were set apart or replaced by digits: "i g n o r e", "i-g-n-o-r-e", "1gn0r3". One patch for
 * each gap or digit, so that offsets stay exact.
 */
import { letterOf, NO_LETTER, pairScore } from "./bigrams.ts";
import type { Patch } from "./lay.ts";
import type { Region } from "./scan.ts";

const APART = /(?:[A-Za-z0-9][^A-Za-z0-9]{1,3}){3,}[A-Za-z0-9](?![A-Za-z0-9])/g;
const GAP = /[^A-Za-z0-9]+/g;

/** The commonest gap of a run vanishes; another gap is a space between words. */
export function spacedPatches(text: string, regions: readonly Region[]): Patch[] {
  return regions.flatMap(({ start, end }) =>
    [...text.slice(start, end).matchAll(APART)].flatMap((run) => closed(run[0], start + run.index)),
  );
}

function closed(run: string, from: number): Patch[] {
  const gaps = [...run.matchAll(GAP)];
  const counts = new Map<string, number>();
  for (const [gap] of gaps) counts.set(gap, (counts.get(gap) ?? 0) + 1);
  let usual = "";
  for (const [gap, count] of counts) if (count > (counts.get(usual) ?? 0)) usual = gap;
  return gaps.map(({ 0: gap, index }) => {
    const between = gap !== usual && (gap.length > usual.length || /\s/.test(gap));
    return { start: from + index, end: from + index + gap.length, text: between ? " " : "" };
  });
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
  "|": "li",
};

/** Longest word, and what must not touch it: identifiers, escapes, runs of base64. */
const WORD_UNITS_MAX = 20;
const IN_WORD = unitsOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@$!|");
const NOT_BEFORE = unitsOf("+/=_%\\&#.:-");
const NOT_AFTER = unitsOf("+/=_%-");

function unitsOf(list: string): Uint8Array {
  const table = new Uint8Array(0x10000);
  for (const unit of list) table[unit.charCodeAt(0)] = 1;
  return table;
}

/** Digits and symbols that stand beside letters become the letter that fits best between its neighbours. */
export function leetPatches(text: string, places: readonly number[]): Patch[] {
  const patches: Patch[] = [];
  let done = 0;
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
    read(text.slice(start, end), start, patches);
  }
  return patches;
}

/** "cat!" is no more than excited: symbols at the end are left. */
function read(token: string, from: number, patches: Patch[]): void {
  const letters = [...token.replace(/[!|$@]+$/, "")];
  letters.forEach((unit, i) => {
    const meant = MEANT[unit];
    if (meant === undefined) return;
    const letter = fitting(meant, letters[i - 1] ?? " ", letters[i + 1] ?? " ");
    letters[i] = letter;
    patches.push({ start: from + i, end: from + i + 1, text: letter });
  });
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
