/**
 * All rules of a seat behind one automaton. It reads each view of a text once; only where a rule's literal stands
 * does the rule's regex run, on stretches as wide as its longest match. Views are folded, so nothing here knows
 * case, white space or look-alikes; each match speaks of the view that it lies in.
 *
 * Work is counted in units that regexes look at, never by a clock: the same text has the same verdict everywhere,
 * which the runner's cache relies on.
 */
import type { ConfigProblem, Leaf, Tier } from "../../src/layer/index.ts";
import { canonical, type View } from "../../src/text/canonical.ts";
import { compileLiterals, isWordUnit, type Literals } from "../../src/text/literals.ts";
import { Evidence } from "./evidence.ts";
import { type Pack, type Rule, readPack } from "./pack.ts";

/** Rulebooks kept, so that a reload which changes another seat compiles no pack again. */
const RULEBOOKS_CACHED_MAX = 16;

/** Units that the regexes of one rule look at, and those of all rules: at least, and for each unit of the text. */
export const RULE_UNITS_MIN = 4096;
export const RULE_UNITS_SHARE = 1;
export const TEXT_UNITS_MIN = 16_384;
export const TEXT_UNITS_SHARE = 4;
/** Matches in one stretch that `accept` may turn down before the stretch counts as searched. */
const TURNED_DOWN_MAX = 16;

/** What is read: the views of one leaf, or of several joined. */
export interface Reading {
  readonly views: readonly View[];
  /** Of the leaves that the text came from; a rule reads it when it reads any of them. */
  readonly sources: readonly Pick<Leaf, "role" | "kind">[];
  /** Units of the text as it was sent. */
  readonly units: number;
  /** Whether a match counts; it is searched on where not. */
  accept?(match: RuleMatch): boolean;
  /** Of the caller; absent where nobody knows, as in proofs. */
  readonly tier?: Tier | undefined;
  /** Rules that do not run. */
  readonly rested?: ReadonlySet<number>;
  /** Rules that an operator switched off: they do not run, and nobody misses them. */
  readonly off?: ReadonlySet<number> | undefined;
}

export interface RuleMatch {
  /** Index in `rules`. */
  readonly rule: number;
  readonly view: View;
  /** Offsets in the view. */
  readonly start: number;
  readonly end: number;
}

export interface Outcome {
  /** The first match of each rule. */
  readonly matches: readonly RuleMatch[];
  /** Rules that did not look everywhere where they should have. */
  readonly over: readonly number[];
  /** Rules of `rested` that would have looked. */
  readonly missed: readonly number[];
}

export class Rulebook {
  readonly rules: readonly Rule[];
  readonly #literals: Literals;
  /** By literal id: index of its rule, and the literal's length; 0 for one of `also`. */
  readonly #ruleOf: Int32Array;
  readonly #lengthOf: Int32Array;
  /** By rule: the number of the text in which one of its `also` was last seen. One for all, as reading is synchronous. */
  readonly #alsoSeen: Float64Array;
  #text = 0;

  constructor(rules: readonly Rule[]) {
    const entries = rules.flatMap((rule, index) => [
      ...rule.literals.map((text) => ({ index, text, length: text.length })),
      ...rule.also.map((text) => ({ index, text, length: 0 })),
    ]);
    this.rules = rules;
    this.#ruleOf = Int32Array.from(entries, (entry) => entry.index);
    this.#lengthOf = Int32Array.from(entries, (entry) => entry.length);
    this.#alsoSeen = new Float64Array(rules.length);
    this.#literals = compileLiterals(
      entries.map((entry) => entry.text),
      { wordStart: true },
    );
  }

  /** Undefined (no allocation) when no rule has anything to say. */
  match(reading: Reading): Outcome | undefined {
    this.#text += 1;
    let search: Search | undefined;
    for (const view of reading.views) {
      const ends = this.#literals.endsIn(view.text);
      let evidence: Map<number, Evidence> | undefined;
      for (let k = 0; k < ends.length; k += 2) {
        const at = ends[k]!;
        for (const id of this.#literals.ended(ends[k + 1]!)) {
          const index = this.#ruleOf[id]!;
          const rule = this.rules[index]!;
          const length = this.#lengthOf[id]!;
          if (length === 0) {
            this.#alsoSeen[index] = this.#text;
            continue;
          }
          if (search?.isDone(index) === true || !reads(rule, reading, view)) continue;
          search ??= new Search(this.rules, reading);
          if (rule.regex === undefined) {
            search.literal(index, view, at - length, at);
            continue;
          }
          evidence ??= new Map();
          let own = evidence.get(index);
          if (own === undefined) {
            own = new Evidence();
            evidence.set(index, own);
          }
          own.add(at - length, at, rule.reach);
        }
      }
      if (evidence === undefined) continue;
      for (const [index, own] of evidence) {
        const lacksAlso = this.rules[index]!.also.length > 0 && this.#alsoSeen[index] !== this.#text;
        if (!lacksAlso) search?.regex(index, view, own);
      }
    }
    return search?.outcome();
  }
}

/** One text's matches so far, and what its rules have looked at. */
class Search {
  readonly #rules: readonly Rule[];
  readonly #reading: Reading;
  readonly #matches: RuleMatch[] = [];
  readonly #done = new Set<number>();
  readonly #over = new Set<number>();
  readonly #missed = new Set<number>();
  readonly #unitsOf = new Map<number, number>();
  readonly #ruleUnitsMax: number;
  #unitsLeft: number;

  constructor(rules: readonly Rule[], reading: Reading) {
    this.#rules = rules;
    this.#reading = reading;
    this.#ruleUnitsMax = RULE_UNITS_MIN + reading.units * RULE_UNITS_SHARE;
    this.#unitsLeft = TEXT_UNITS_MIN + reading.units * TEXT_UNITS_SHARE;
  }

  /** True when the rule needs no further look. */
  isDone(rule: number): boolean {
    return this.#done.has(rule);
  }

  /** A literal alone must not end inside a word ("developer mode" is not in "developer models"). */
  literal(rule: number, view: View, start: number, end: number): void {
    if (this.#rests(rule)) return;
    const { text } = view;
    if (isWordUnit(text.charCodeAt(end)) && isWordUnit(text.charCodeAt(end - 1))) return;
    this.#take({ rule, view, start, end });
  }

  regex(rule: number, view: View, evidence: Evidence): void {
    if (this.#rests(rule)) return;
    const used = this.#unitsOf.get(rule) ?? 0;
    const unitsMax = Math.min(this.#ruleUnitsMax - used, this.#unitsLeft);
    if (evidence.units > unitsMax) this.#over.add(rule);
    if (unitsMax <= 0) return;
    const { regex } = this.#rules[rule]!;
    if (regex === undefined) return;
    let looked = 0;
    for (const stretch of evidence.stretches(view.text.length, unitsMax)) {
      looked += stretch.end - stretch.start;
      if (this.#lookAt(rule, view, regex, stretch.start, stretch.end)) break;
    }
    this.#unitsLeft -= looked;
    this.#unitsOf.set(rule, used + looked);
  }

  /** "\n" stands at the edges of the text, and nowhere else. */
  #lookAt(rule: number, view: View, regex: RegExp, from: number, to: number): boolean {
    const lead = from === 0 ? 1 : 0;
    const window = `${lead === 1 ? "\n" : ""}${view.text.slice(from, to)}${to === view.text.length ? "\n" : ""}`;
    regex.lastIndex = 0;
    for (let tries = 0; tries < TURNED_DOWN_MAX; tries++) {
      const found = regex.exec(window);
      if (found === null) return false;
      const start = from + Math.max(0, found.index - lead);
      const end = Math.min(to, from + found.index + found[0].length - lead);
      if (this.#take({ rule, view, start, end })) return true;
      regex.lastIndex = found.index + 1;
    }
    return false;
  }

  #take(match: RuleMatch): boolean {
    const { accept } = this.#reading;
    if (!this.#holds(match) || (accept !== undefined && !accept(match))) return false;
    this.#matches.push(match);
    this.#done.add(match.rule);
    return true;
  }

  /** The rule's own condition, for any of the leaves that it reads. */
  #holds({ rule, view }: RuleMatch): boolean {
    const { when } = this.#rules[rule]!;
    if (when === undefined) return true;
    const { sources, tier = "normal" } = this.#reading;
    const { kind, steps } = view;
    const depth = BigInt(steps.length);
    return sources.some((source) =>
      when.holds({ view: kind, steps, depth, role: source.role, kind: source.kind, tier }),
    );
  }

  #rests(rule: number): boolean {
    if (this.#reading.off?.has(rule) === true) return true;
    if (this.#reading.rested?.has(rule) !== true) return false;
    this.#missed.add(rule);
    return true;
  }

  outcome(): Outcome | undefined {
    if (this.#matches.length === 0 && this.#over.size === 0 && this.#missed.size === 0) return undefined;
    // A rule that matched has nothing left to look for.
    const over = [...this.#over].filter((rule) => !this.#done.has(rule));
    return { matches: this.#matches, over, missed: [...this.#missed] };
  }
}

function reads(rule: Rule, { sources }: Reading, view: View): boolean {
  if (rule.views !== undefined && !rule.views.has(view.kind)) return false;
  for (const { role, kind } of sources) {
    if (rule.roles.has(role) && (rule.kinds === undefined || rule.kinds.has(kind))) return true;
  }
  return false;
}

const cached = new Map<string, Rulebook>();

/** What the rules find in one text of this role and kind. */
export function matchText(
  book: Rulebook,
  text: string,
  source: Pick<Leaf, "role" | "kind">,
): Outcome | undefined {
  const { views } = canonical(text);
  return book.match({ views, sources: [source], units: text.length });
}

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
    const source = { role: role as Leaf["role"], kind: kind as Leaf["kind"] };
    const matches = (text: string) =>
      matchText(rulebook, text, source)?.matches.some((match) => match.rule === index) ?? false;
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
