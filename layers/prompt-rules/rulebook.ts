/**
 * All rules of a seat behind one automaton. It reads a leaf once; only where a rule's literal stands does
 * the rule's regex run, on a window as wide as its longest match. Matching ignores case and counts a run of
 * white space as one space; spans still speak of the leaf as it was sent.
 */
import type { ConfigProblem, Leaf } from "../../src/layer/index.ts";
import { compileLiterals, isWordUnit, type Literals } from "../../src/text/literals.ts";
import { type Pack, type Rule, readPack } from "./pack.ts";

/** Rulebooks kept, so that a reload which changes another seat compiles no pack again. */
const RULEBOOKS_CACHED_MAX = 16;

interface RuleMatch {
  /** Index in `rules`. */
  readonly rule: number;
  readonly start: number;
  readonly end: number;
}

type ReadLeaf = Pick<Leaf, "text" | "role" | "kind">;

/** A place where a rule's regex must look. */
interface Candidate {
  readonly rule: number;
  readonly start: number;
  readonly end: number;
}

export class Rulebook {
  readonly rules: readonly Rule[];
  readonly #literals: Literals;
  /** By literal id: index of its rule, and the literal's length in canonical units; 0 for one of `also`. */
  readonly #ruleOf: Int32Array;
  readonly #lengthOf: Int32Array;
  /** Scratch, one for all leaves because reading is synchronous. A mark is set when it equals the leaf's number. */
  readonly #cursor = { state: 0, at: 0 };
  readonly #alsoSeen: Float64Array;
  #leaf = 0;

  constructor(rules: readonly Rule[]) {
    const entries = rules.flatMap((rule, index) => [
      ...rule.literals.map((text) => ({ index, text: canonical(text), length: canonical(text).length })),
      ...rule.also.map((text) => ({ index, text: canonical(text), length: 0 })),
    ]);
    this.rules = rules;
    this.#ruleOf = Int32Array.from(entries, (entry) => entry.index);
    this.#lengthOf = Int32Array.from(entries, (entry) => entry.length);
    this.#alsoSeen = new Float64Array(rules.length);
    this.#literals = compileLiterals(
      entries.map((entry) => entry.text),
      { ignoreCase: true, collapseSpace: true, wordStart: true },
    );
  }

  /** The first match of each rule; undefined (no allocation) when there is none. */
  match(leaf: ReadLeaf): RuleMatch[] | undefined {
    const candidates = this.#candidates(leaf);
    if (candidates === undefined) return undefined;
    let matches: RuleMatch[] | undefined;
    let views: Map<number, View> | undefined;
    for (const { rule: index, start, end } of candidates) {
      const rule = this.rules[index]!;
      let found: Found | undefined;
      if (rule.regex === undefined) {
        found = wholeWord(leaf.text, start, end);
        if (matches?.some((match) => match.rule === index)) continue;
      } else {
        if (rule.also.length > 0 && this.#alsoSeen[index] !== this.#leaf) continue;
        views ??= new Map();
        const view = views.get(index);
        if (view !== undefined && end <= view.doneTo) continue;
        const next = look(leaf.text, start, end, rule.reach, view);
        views.set(index, next);
        found = search(rule.regex, next);
        if (found !== undefined) next.doneTo = Number.POSITIVE_INFINITY;
      }
      if (found === undefined) continue;
      matches ??= [];
      matches.push({ rule: index, start: found.start, end: found.end });
    }
    return matches;
  }

  /** One pass over the leaf. Of a rule's candidates closer than its reach, which one look covers, the first is kept. */
  #candidates(leaf: ReadLeaf): Candidate[] | undefined {
    const literals = this.#literals;
    const cursor = this.#cursor;
    cursor.state = 0;
    cursor.at = 0;
    this.#leaf += 1;
    let candidates: Candidate[] | undefined;
    let keptTo: Map<number, number> | undefined;
    while (literals.advance(leaf.text, cursor)) {
      for (const id of literals.ended(cursor.state)) {
        const index = this.#ruleOf[id]!;
        const length = this.#lengthOf[id]!;
        const rule = this.rules[index]!;
        if (length === 0) {
          this.#alsoSeen[index] = this.#leaf;
        } else if (reads(rule, leaf)) {
          if (keptTo !== undefined && cursor.at <= (keptTo.get(index) ?? 0)) continue;
          keptTo ??= new Map();
          keptTo.set(index, cursor.at + rule.reach);
          candidates ??= [];
          candidates.push({ rule: index, start: stepBack(leaf.text, cursor.at, length), end: cursor.at });
        }
      }
    }
    return candidates;
  }
}

function canonical(literal: string): string {
  return literal.trim().replace(/\s+/g, " ");
}

function reads(rule: Rule, leaf: ReadLeaf): boolean {
  return rule.roles.has(leaf.role) && (rule.kinds === undefined || rule.kinds.has(leaf.kind));
}

interface Found {
  readonly start: number;
  readonly end: number;
}

/** A literal alone must not end inside a word ("developer mode" is not in "developer models"). */
function wholeWord(text: string, start: number, end: number): Found | undefined {
  const inside = isWordUnit(text.charCodeAt(end)) && isWordUnit(text.charCodeAt(end - 1));
  return inside ? undefined : { start, end };
}

/** A part of a leaf as a regex sees it: single spaces, "\n" at the edges of the text alone. */
interface View {
  readonly window: string;
  /** Where the view begins in the leaf; by unit where white space was uneven. */
  readonly from: number;
  readonly offsets: readonly number[] | undefined;
  readonly to: number;
  /** Candidates that end before this offset of the leaf need no view of their own. */
  doneTo: number;
}

/**
 * Any match that holds the candidate lies within `reach` of it. The view looks further ahead, so that
 * candidates there need none of their own, and begins where the rule's view before it may have cut a match
 * off: however many candidates a hostile text brings, each unit is looked at about once by each rule.
 */
function look(text: string, start: number, end: number, reach: number, before: View | undefined): View {
  const touches = before !== undefined && start - reach <= before.to;
  const ahead = touches ? 8 * reach : reach;
  let from = Math.max(0, start - reach);
  let middle = Math.min(text.length, end + ahead);
  let to = Math.min(text.length, middle + reach);
  const even = !UNEVEN_SPACE.test(text.slice(from, to));
  if (!even) {
    from = stepBack(text, start, reach);
    middle = stepOn(text, end, ahead);
    to = stepOn(text, middle, reach);
  }
  if (touches) from = Math.max(from, even ? before.to - reach : stepBack(text, before.to, reach));
  const { window, offsets } = even
    ? { window: text.slice(from, to), offsets: undefined }
    : collapse(text, from, to);
  const doneTo = to === text.length ? to : middle;
  return {
    window: `${from === 0 ? "\n" : ""}${window}${to === text.length ? "\n" : ""}`,
    from,
    offsets,
    to,
    doneTo,
  };
}

function search(regex: RegExp, view: View): Found | undefined {
  const found = regex.exec(view.window);
  if (found === null) return undefined;
  const lead = view.from === 0 ? 1 : 0;
  const first = Math.max(0, found.index - lead);
  const last = found.index + found[0].length - lead;
  if (view.offsets === undefined)
    return { start: view.from + first, end: Math.min(view.to, view.from + last) };
  return { start: view.offsets[first]!, end: view.offsets[Math.min(last, view.offsets.length) - 1]! + 1 };
}

/** White space that is not one plain space between words. */
const UNEVEN_SPACE = /\s\s|[^\S ]/;

function isSpace(unit: number): boolean {
  return unit === 32 || (unit >= 9 && unit <= 13) || (unit >= 160 && /\s/.test(String.fromCharCode(unit)));
}

/** The offset `count` canonical units before `at`. */
function stepBack(text: string, at: number, count: number): number {
  for (let i = 0; i < count && at > 0; i++) {
    at--;
    if (isSpace(text.charCodeAt(at))) while (at > 0 && isSpace(text.charCodeAt(at - 1))) at--;
  }
  return at;
}

/** The offset `count` canonical units after `at`. */
function stepOn(text: string, at: number, count: number): number {
  for (let i = 0; i < count && at < text.length; i++) {
    at++;
    if (isSpace(text.charCodeAt(at - 1))) while (at < text.length && isSpace(text.charCodeAt(at))) at++;
  }
  return at;
}

/** The text with runs of white space as one space, and where each of its units stands in the leaf. */
function collapse(text: string, from: number, to: number): { window: string; offsets: readonly number[] } {
  const offsets: number[] = [];
  let window = "";
  let wasSpace = false;
  for (let i = from; i < to; i++) {
    const space = isSpace(text.charCodeAt(i));
    if (!(space && wasSpace)) {
      window += space ? " " : text[i];
      offsets.push(i);
    }
    wasSpace = space;
  }
  return { window, offsets };
}

const cached = new Map<string, Rulebook>();

/** Reads, proves and compiles packs; throws ConfigProblem. Packs that were proved before are not proved again. */
export function openRulebook(packs: readonly { readonly path: string; readonly text: string }[]): Rulebook {
  const key = packs.map((pack) => pack.text).join("\u0000");
  const known = cached.get(key);
  if (known !== undefined) return known;
  const owners = new Map<string, string>();
  const read = packs.map(({ path, text }, index) => {
    const pack = readPack(text, index, path);
    pack.rules.forEach((rule, i) => {
      const owner = owners.get(rule.id);
      if (owner !== undefined)
        throw pack.problem(i, ["id"], `"${rule.id}" stands in ${owner} too; ids are unique`);
      owners.set(rule.id, path);
    });
    const problem = disproved(pack);
    if (problem !== undefined) throw problem;
    return pack;
  });
  const rulebook = new Rulebook(read.flatMap((pack) => pack.rules));
  if (cached.size >= RULEBOOKS_CACHED_MAX) cached.delete(cached.keys().next().value ?? "");
  cached.set(key, rulebook);
  return rulebook;
}

/** The first proof that fails. */
function disproved(pack: Pack): ConfigProblem | undefined {
  const rulebook = new Rulebook(pack.rules);
  for (const [index, rule] of pack.rules.entries()) {
    const [role = "user"] = rule.roles;
    const [kind = "text"] = rule.kinds ?? [];
    const matches = (text: string) =>
      rulebook
        .match({ text, role: role as Leaf["role"], kind: kind as Leaf["kind"] })
        ?.some((match) => match.rule === index) ?? false;
    for (const [i, text] of rule.catches.entries()) {
      if (!matches(text)) {
        return pack.problem(index, ["catch", i], `rule "${rule.id}" does not catch ${JSON.stringify(text)}`);
      }
    }
    for (const [i, text] of rule.spares.entries()) {
      if (matches(text)) {
        return pack.problem(index, ["spare", i], `rule "${rule.id}" does not spare ${JSON.stringify(text)}`);
      }
    }
  }
  return undefined;
}
