/**
 * Names of persons: capitalised words of which enough are known as names, or which stand where a name must stand.
 * What is a word, a place or a month as well needs more than itself.
 */
import { NAMES } from "./gazetteer.ts";
import { FAILS, WAITS } from "./partial.ts";
import { fold, isCapital } from "./units.ts";

/** The most units that are looked at for one name, with the word behind it. */
export const NAME_UNITS_MAX = 64;
const NAME_WORDS_MAX = 5;

interface NameWord {
  readonly end: number;
  readonly folded: string;
  readonly isParticle: boolean;
  /** All in capitals: an abbreviation, or a text that shouts. */
  readonly isShouted: boolean;
}

interface Phrase {
  readonly words: readonly NameWord[];
  /** The word that stands behind, folded; "" where none does. */
  readonly behind: string;
}

const WORD = /[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*/uy;
const GENITIVE = /['’]s$/i;

/** Capitalised words from the window's front, each one space from the next. */
function readPhrase(window: string, open: boolean): Phrase | "waits" {
  const words: NameWord[] = [];
  let at = 0;
  while (words.length < NAME_WORDS_MAX) {
    WORD.lastIndex = at;
    const text = WORD.exec(window)?.[0];
    if (text === undefined) {
      if (at === window.length && open) return "waits";
      return { words, behind: window[at] === "&" ? "&" : "" };
    }
    const to = at + text.length;
    // An apostrophe or a hyphen may belong to the word or not.
    if (open && (to === window.length || (to + 1 === window.length && /['’.-]/.test(window[to]!))))
      return "waits";
    const genitive = GENITIVE.exec(text)?.[0].length ?? 0;
    const folded = fold(genitive > 0 ? text.slice(0, -genitive) : text);
    const isParticle = !isCapital(window.charCodeAt(at)) && NAMES.particles.has(folded);
    if (!isCapital(window.charCodeAt(at)) && !isParticle) return { words, behind: folded };
    const isShouted = text.length > 1 && text === text.toUpperCase();
    words.push({ end: to - genitive, folded, isParticle, isShouted });
    if (genitive > 0) return { words, behind: "" };
    const isInitial = text.length === 1 && window[to] === ".";
    at = isInitial ? to + 1 : to;
    if (at === window.length && open) return "waits";
    if (window[at] !== " " && window[at] !== "\u00a0") return { words, behind: "" };
    at += 1;
  }
  return { words, behind: "" };
}

const isFirst = (word: string): boolean => NAMES.first.has(word) || NAMES.first.has(word.split("-")[0]!);
const isLast = (word: string): boolean =>
  NAMES.last.has(word) ||
  (word.length >= 5 && NAMES.lastEnds.test(word)) ||
  /^(?:mc|o['’])[a-z]{3}/.test(word);
const isPlain = (word: string): boolean => !NAMES.ambiguous.has(word);

/** A place is likelier there than a person. */
const PLACED = /(?:^|[^a-z])(?:in|at|from|near|to|of|into|across|around|outside|inside|via|the|a|an)\s$/;
const BEGINS_SENTENCE = /(?:^|[.!?:;>\n"“*•-])\s*$/;
const LISTED = /([\p{L}-]+)(?:,| and| or|, and| &| to| at)\s$/u;

/** The end of the name that begins at `at`, FAILS or WAITS. `before`: the text before it as it stands. */
export function nameAt(text: string, at: number, open: boolean, before: string): number {
  const window = text.slice(at, at + NAME_UNITS_MAX);
  const phrase = readPhrase(window, open && window.length < NAME_UNITS_MAX);
  if (phrase === "waits") return WAITS;
  const words = trimmed(phrase.words);
  const first = words[0];
  if (first === undefined) return FAILS;
  const last = words[words.length - 1]!;
  const near = before.toLowerCase();
  const isShouted = words.every((word) => word.isShouted || word.folded.length === 1);
  const isAnnounced = !isShouted && (NAMES.afterTitle.test(near) || NAMES.afterStrong.test(near));
  const isWhole = words.length === phrase.words.length;
  const isFirm =
    phrase.behind === "&" ||
    near.endsWith("& ") ||
    phrase.words.some((word) => NAMES.organisations.has(word.folded));
  if (isFirm && !isAnnounced) return FAILS;
  const isNamed =
    words.length === 1
      ? !isShouted && isOne(first.folded, near, isAnnounced, isWhole ? phrase.behind : "")
      : isAnnounced || isSeveral(words, near, isShouted);
  return isNamed ? at + last.end : FAILS;
}

/** Up to the first word that is no name, without particles at the end. */
function trimmed(all: readonly NameWord[]): readonly NameWord[] {
  const cut = all.findIndex(
    (word, index) =>
      NAMES.never.has(word.folded) && !(index > 0 && isLast(word.folded)) && word.folded.length > 1,
  );
  const words = cut < 0 ? [...all] : all.slice(0, cut);
  while (words.length > 0 && words[words.length - 1]!.isParticle) words.pop();
  return words;
}

function isOne(word: string, near: string, isAnnounced: boolean, behind: string): boolean {
  if (word.length < 2) return false;
  if (isAnnounced || (NAMES.verbs.has(behind) && !PLACED.test(near))) return true;
  const known = isFirst(word) || isLast(word);
  if (!known || PLACED.test(near)) return false;
  if (isPlain(word)) return isFirst(word) || !BEGINS_SENTENCE.test(near);
  const listed = LISTED.exec(near)?.[1];
  return listed !== undefined && isPlain(fold(listed)) && (isFirst(fold(listed)) || isLast(fold(listed)));
}

function isSeveral(words: readonly NameWord[], near: string, isShouted: boolean): boolean {
  const [first, ...rest] = words.map((word) => word.folded);
  const final = rest[rest.length - 1]!;
  if (isFirst(first!)) return isPlain(first!) || isLast(final) || isFirst(final);
  if (isLast(final) && isPlain(final)) return true;
  return !isShouted && NAMES.afterBy.test(near);
}

/** Whether a word may begin a name at all: told before anything is held for it. */
export function mayBeginName(word: string): boolean {
  return !NAMES.never.has(fold(word)) && !NAMES.titles.has(fold(word));
}
