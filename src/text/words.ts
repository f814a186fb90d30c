/**
 * Words whose letters were set apart or replaced by digits: "i g n o r e", "i-g-n-o-r-e", "1gn0r3". One patch for
 * each gap or digit, so that offsets stay exact.
 */
import { letterOf, NO_LETTER, pairScore } from "./bigrams.ts";
import type { Patch } from "./lay.ts";

const APART = /(?<![A-Za-z0-9])(?:[A-Za-z0-9@$!|][^A-Za-z0-9]{1,3}){3,}[A-Za-z0-9](?![A-Za-z0-9])/g;
const GAP = /[^A-Za-z0-9@$|]+/g;

/** The commonest gap of a run vanishes; another gap is a space between words. */
export function spacedPatches(text: string): Patch[] {
  const patches: Patch[] = [];
  APART.lastIndex = 0;
  for (let run = APART.exec(text); run !== null; run = APART.exec(text)) {
    const gaps = [...run[0].matchAll(GAP)];
    const counts = new Map<string, number>();
    for (const [gap] of gaps) counts.set(gap, (counts.get(gap) ?? 0) + 1);
    let usual = "";
    for (const [gap, count] of counts) if (count > (counts.get(usual) ?? 0)) usual = gap;
    for (const { 0: gap, index } of gaps) {
      const start = run.index + index;
      const between = gap !== usual && (gap.length > usual.length || /\s/.test(gap));
      if (gap !== " " || !between) patches.push({ start, end: start + gap.length, text: between ? " " : "" });
    }
  }
  return patches;
}

/** A word by itself: not part of an identifier, an escape or a run of base64. */
const MIXED = /(?<![A-Za-z0-9+/=_%\\&#.:-])[A-Za-z0134578@$!|]{2,20}(?![A-Za-z0-9+/=_%-])/g;
const MIXES = /[A-Za-z][0134578@$!|]|[0134578@$!|][A-Za-z]/;
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

/** Digits and symbols that stand beside letters become the letter that fits best between its neighbours. */
export function leetPatches(text: string): Patch[] {
  const patches: Patch[] = [];
  MIXED.lastIndex = 0;
  for (let token = MIXED.exec(text); token !== null; token = MIXED.exec(text)) {
    const word = token[0].replace(/[!|$@]+$/, "");
    if (!MIXES.test(word)) continue;
    const letters = [...word];
    letters.forEach((unit, i) => {
      const meant = MEANT[unit];
      if (meant === undefined) return;
      const letter = fitting(meant, letters[i - 1] ?? " ", letters[i + 1] ?? " ");
      letters[i] = letter;
      const start = token.index + i;
      patches.push({ start, end: start + 1, text: letter });
    });
  }
  return patches;
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
