/**
 * From probabilities to a verdict: which heads count for which kind of text, how strictly, and what is reported. Pure,
 * and all of it decided by tables, so that it can be read in one go.
 */
import type { Finding, Leaf, LeafKind, Role, Verdict } from "../../src/layer/index.ts";
import { ALLOW } from "../../src/layer/index.ts";
import { HEADS, type Head, type Scores } from "../../src/text/model/prompt-model.ts";
import type { Stretch } from "../../src/text/model/reading.ts";
import type { HeadThresholds, SetClassifier } from "./config.ts";

/**
 * How a kind of text shifts each head, in logits: below 0 it is judged more strictly; `off` is not judged.
 * `any` stands for what no single head is sure of, so it is as mild as the mildest of them.
 */
type Shifts = Readonly<Record<Head, number | "off">>;

/** The user's own words, and whatever nobody can name: all of it counts. */
const USER: Shifts = { any: 0, jailbreak: 0, injection: 0, harmful: 0 };
/** What tools and documents bring: orders in it are nobody's to give. It may well speak of harm. */
const BROUGHT: Shifts = { any: 2.5, jailbreak: 0.5, injection: -0.5, harmful: 2.5 };
/** The operator's words: rules, personas and refusals are what they are made of. */
const OPERATOR: Shifts = { any: 3, jailbreak: 2.5, injection: 2.5, harmful: 2 };
/** What the model said (or what a caller says that it said): a refusal names what it refuses. */
const MODEL: Shifts = { any: 3, jailbreak: 2.5, injection: 2.5, harmful: 1.5 };
/** Descriptions of tools give orders by nature. */
const SCHEMA: Shifts = { any: "off", jailbreak: 1.5, injection: 2, harmful: 2.5 };

export function shiftsFor({ kind, role }: { readonly kind: LeafKind; readonly role: Role }): Shifts {
  switch (kind) {
    case "tool-result":
      return BROUGHT;
    case "tool-schema":
      return SCHEMA;
    case "tool-arguments":
      return MODEL;
    case "text":
    case "unknown":
    case "parameter":
    case "key":
    case "query":
    case "media":
      return ofRole(role);
    default:
      return kind satisfies never;
  }
}

function ofRole(role: Role): Shifts {
  switch (role) {
    case "assistant":
      return MODEL;
    case "system":
    case "developer":
      return OPERATOR;
    case "tool":
      return BROUGHT;
    case "user":
    case "none":
      return USER;
    default:
      return role satisfies never;
  }
}

const LETTERS_MIN = 12;
const NAME_UNITS_MAX = 48;

/** Base64 of media holds no words; a short name, number or setting says nothing that a classifier could judge. */
export function isRead({ kind, text }: Pick<Leaf, "kind" | "text">): boolean {
  if (kind === "media") return false;
  if (kind === "text" || kind === "tool-result") return text.length > 1;
  if (text.length < LETTERS_MIN) return false;
  let letters = 0;
  let isOneWord = true;
  for (let i = 0; i < text.length && letters < LETTERS_MIN + NAME_UNITS_MAX; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 128 || (unit | 32) >= 97) letters += 1;
    if (unit <= 32) isOneWord = false;
  }
  return letters >= LETTERS_MIN && !(isOneWord && text.length <= NAME_UNITS_MAX);
}

/** What a score must reach; `scale` is the caller's tier. */
export type Thresholds = Pick<SetClassifier, Head>;

const REASON: Readonly<Record<Exclude<Head, "any">, string>> = {
  jailbreak: "prompt.classifier.jailbreak",
  injection: "prompt.classifier.injection",
  harmful: "prompt.classifier.harmful",
};
const NAMED = ["jailbreak", "injection", "harmful"] as const;

export interface Judged {
  readonly scores: Scores;
  /** In the order of HEADS. */
  readonly spans: readonly Stretch[];
}

/** A finding for each head that is reached; where only `any` is, under the name of the likeliest head. */
export function judge(leaf: Leaf, { scores, spans }: Judged, thresholds: Thresholds, scale: number): Verdict {
  const shifts = shiftsFor(leaf);
  let act: "flag" | "block" | undefined;
  let findings: Finding[] | undefined;
  for (const head of NAMED) {
    const reached = reach(scores[head], shifts[head], thresholds[head], scale);
    if (reached === undefined) continue;
    if (act !== "block") act = reached;
    findings ??= [];
    findings.push({ reason: REASON[head], score: scores[head], where: placeOf(leaf, spans, head) });
  }
  const any = reach(scores.any, shifts.any, thresholds.any, scale);
  if (any !== undefined && (findings === undefined || (any === "block" && act === "flag"))) {
    act = any;
    const head = likeliest(scores);
    if (findings === undefined || findings.every(({ reason }) => reason !== REASON[head])) {
      findings ??= [];
      findings.push({ reason: REASON[head], score: scores.any, where: placeOf(leaf, spans, "any") });
    }
  }
  return act === undefined || findings === undefined ? ALLOW : { act, findings };
}

function reach(
  score: number,
  shift: number | "off",
  { flagAt, blockAt }: HeadThresholds,
  scale: number,
): "flag" | "block" | undefined {
  if (shift === "off") return undefined;
  const shifted = shift === 0 ? score : shiftBy(score, shift);
  if (blockAt < 1 && shifted >= blockAt * scale) return "block";
  return shifted >= flagAt * scale ? "flag" : undefined;
}

/** The probability whose odds are `e^-shift` of these. */
function shiftBy(score: number, shift: number): number {
  return score / (score + (1 - score) * Math.exp(shift));
}

function likeliest(scores: Scores): Exclude<Head, "any"> {
  return NAMED.reduce((best, head) => (scores[head] > scores[best] ? head : best));
}

export function placeOf({ channel }: Leaf, spans: readonly Stretch[], head: Head) {
  const { start, end } = spans[HEADS.indexOf(head)]!;
  return { channel, start, end };
}
