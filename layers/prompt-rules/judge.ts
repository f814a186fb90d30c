/**
 * What a rulebook finds, as verdicts: on one leaf, on leaves joined, and on a leaf too long to be read in one go.
 * The act of each rule is the seat's business and comes in from outside.
 */
import { setImmediate as others } from "node:timers/promises";
import {
  ALLOW,
  type Finding,
  join,
  type Leaf,
  type Prompt,
  type Tier,
  type Verdict,
} from "../../src/layer/index.ts";
import {
  type Canonical,
  canonicalOf,
  canonicalPart,
  type JoinedPart,
  joinedView,
  type View,
  windows,
} from "../../src/text/canonical.ts";
import type { RestingRules } from "./resting.ts";
import type { Outcome, Rulebook, RuleMatch } from "./rulebook.ts";

export type RuleAct = "flag" | "block";

/** Longest leaf that is read in one go, and longest window of a longer one: some milliseconds at worst. */
const AT_ONCE_UNITS = 32_768;
/** Units that two windows of a long leaf share: the longest match, encoded more than once. */
const OVERLAP_UNITS = 4096;

export interface Judging {
  readonly book: Rulebook;
  readonly acts: readonly RuleAct[];
  /** What is done where a budget ended the search. */
  readonly unseen: "flag" | "block";
  readonly resting: RestingRules;
  /** Rules that an operator switched off, by index. */
  readonly off?: ReadonlySet<number>;
}

/** True where a leaf is read by windows, in `judgeLong`, and not in one piece. */
export function isLong(leaf: Leaf): boolean {
  return leaf.text.length > AT_ONCE_UNITS;
}

export function judgeLeaf(judging: Judging, leaf: Leaf, tier?: Tier): Verdict {
  return judgeViews(judging, leaf, canonicalOf(leaf), leaf.text.length, tier);
}

/** A window at a time; others run in between. Ends early once it blocks. */
export async function judgeLong(judging: Judging, leaf: Leaf, tier?: Tier): Promise<Verdict> {
  let verdict: Verdict = ALLOW;
  const cuts = windows(leaf.text.length, { unitsMax: AT_ONCE_UNITS, overlap: OVERLAP_UNITS });
  for (const { start, end } of cuts) {
    await others();
    verdict = join(verdict, judgeViews(judging, leaf, canonicalPart(leaf, start, end), end - start, tier));
    if (verdict.act === "block") break;
  }
  return verdict;
}

function judgeViews(judging: Judging, leaf: Leaf, read: Canonical, units: number, tier?: Tier): Verdict {
  const { book, resting, off } = judging;
  const outcome = book.match({ views: read.views, sources: [leaf], units, tier, rested: resting.rules, off });
  if (outcome === undefined && !read.marks.truncated) return ALLOW;
  const place = (match: RuleMatch) => ({
    channel: leaf.channel,
    ...match.view.span(match.start, match.end),
  });
  const whole = { channel: leaf.channel, start: 0, end: leaf.text.length };
  return verdictOf(judging, outcome, { place, whole, truncated: read.marks.truncated });
}

/** What no leaf holds by itself. */
export function judgeJoined(judging: Judging, prompt: Prompt, tier?: Tier): Verdict {
  const joined = joinedView(prompt);
  if (joined.length === 0) return ALLOW;
  const { book, resting, off } = judging;
  const partsOf = new Map<View, (start: number, end: number) => JoinedPart[]>();
  for (const { view, parts } of joined) partsOf.set(view, parts);
  const parts = (match: RuleMatch) => partsOf.get(match.view)?.(match.start, match.end) ?? [];
  const outcome = book.match({
    views: joined.map(({ view }) => view),
    sources: joined[0]!.leaves.map((leaf) => prompt.leaves[leaf]!),
    units: joined[0]!.view.text.length,
    tier,
    rested: resting.rules,
    off,
    accept: (match) => {
      const [first, ...more] = parts(match);
      return more.some(({ leaf }) => leaf !== first?.leaf);
    },
  });
  const truncated = joined.some((part) => part.truncated);
  if (outcome === undefined && !truncated) return ALLOW;
  const place = (match: RuleMatch) => {
    const { leaf = 0, start = 0, end = 0 } = parts(match)[0] ?? {};
    return { channel: prompt.leaves[leaf]!.channel, start, end };
  };
  return verdictOf(judging, outcome, { place, whole: undefined, truncated });
}

interface Where {
  place(match: RuleMatch): NonNullable<Finding["where"]>;
  readonly whole: Finding["where"];
  readonly truncated: boolean;
}

/** One finding a rule: the first place where it matches. */
function verdictOf(judging: Judging, outcome: Outcome | undefined, where: Where): Verdict {
  const findings: Finding[] = [];
  const { book, acts, unseen } = judging;
  let act: "flag" | "block" = "flag";
  for (const match of outcome?.matches ?? []) {
    if (acts[match.rule] === "block") act = "block";
    const { reason, score, method, hazard } = book.rules[match.rule]!;
    const { kind, steps } = match.view;
    const via = kind === "joined" ? "joined" : steps.join(">");
    findings.push({
      reason,
      score,
      where: where.place(match),
      method,
      ...(hazard !== undefined && { hazard }),
      ...(via !== "" && { via }),
    });
  }
  const over = outcome?.over ?? [];
  const missed = outcome?.missed ?? [];
  judging.resting.note(over);
  const whole = where.whole === undefined ? {} : { where: where.whole };
  if (over.length > 0) findings.push({ reason: "prompt.rule.budget", score: UNSEEN_SCORE, ...whole });
  if (where.truncated) findings.push({ reason: "prompt.unseen", score: UNSEEN_SCORE, ...whole });
  if (over.length > 0 || where.truncated) act = unseen === "block" ? "block" : act;
  if (missed.length > 0) findings.push({ reason: "prompt.rule.rested", score: RESTED_SCORE, ...whole });
  return findings.length === 0 ? ALLOW : { act, findings };
}

/** No more than a suspicion: what was not read may be harmless. */
const UNSEEN_SCORE = 0.5;
const RESTED_SCORE = 0.3;
