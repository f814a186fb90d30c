/**
 * Reads what judges answer. Each format has one strict grammar, and whatever is not in it is undefined, which counts
 * as the judge's failure: a text that talks the judge into prose, a second verdict or an unknown word must not come
 * out as "safe". Pure functions of the answer's bytes as text.
 */
import hazards from "./hazards.json" with { type: "json" };
import type { AnswerPlaces } from "./settings.ts";

export interface Judgement {
  readonly isViolation: boolean;
  /** 0..1: how sure the judge is that the policy is broken. */
  readonly score: number;
  /** Codes; empty where nothing is broken. */
  readonly categories: readonly string[];
}

export type Reader = (answer: string) => Judgement | undefined;

const SAFE: Judgement = { isViolation: false, score: 0, categories: [] };
const VERDICT_MEMBERS = ["violation", "category", "score", "rationale"] as const;
const RATIONALE_UNITS_MAX = 4_000;
/** A model's verdict without a number: as sure as it can say, or as unsure. */
const SURE = 1;
const CONTROVERSIAL = 0.5;
/** Where score and verdict may not contradict each other. */
const MIDDLE = 0.5;

const LLAMA_CODES = new Map(Object.entries(hazards.llamaGuard));
const QWEN_CATEGORIES = new Map(Object.entries(hazards.qwen3guard));

/** The text of the one choice of a chat completion that ended by itself. */
export function chatText(answer: string): string | undefined {
  const choices = memberOf(parsed(answer), "choices");
  if (!Array.isArray(choices) || choices.length !== 1) return undefined;
  const choice: unknown = choices[0];
  const message = memberOf(choice, "message");
  const finish = memberOf(choice, "finish_reason");
  if (finish !== "stop" && finish !== null && finish !== undefined) return undefined;
  const [content, refusal, calls] = ["content", "refusal", "tool_calls"].map((name) =>
    memberOf(message, name),
  );
  if (refusal !== undefined && refusal !== null) return undefined;
  if (Array.isArray(calls) && calls.length > 0) return undefined;
  return typeof content === "string" ? content : undefined;
}

/** `{"violation": true, "category": "vcr", "score": 0.9, "rationale": "..."}` and nothing else. */
export function policyReader(codes: readonly string[]): Reader {
  const known = new Set(codes);
  return (answer) => {
    const text = chatText(answer) ?? "";
    const verdict = parsed(text);
    if (typeof verdict !== "object" || verdict === null || Object.keys(verdict).length !== 4)
      return undefined;
    // JSON.parse takes the last of two members of one name: whoever gets one in behind would have the last word.
    if (VERDICT_MEMBERS.some((name) => text.split(new RegExp(`"${name}"\\s*:`)).length !== 2))
      return undefined;
    const [violation, category, score, rationale] = VERDICT_MEMBERS.map((name) => memberOf(verdict, name));
    if (typeof violation !== "boolean" || typeof category !== "string" || !isScore(score)) return undefined;
    if (typeof rationale !== "string" || rationale.length > RATIONALE_UNITS_MAX) return undefined;
    if (!violation) return category === "none" && score <= MIDDLE ? { ...SAFE, score } : undefined;
    if (!known.has(category) || score < MIDDLE) return undefined;
    return { isViolation: true, score, categories: [category] };
  };
}

/** "safe", or "unsafe" and a line of codes such as "S1,S9". */
export const readLlamaGuard: Reader = (answer) => {
  const text = chatText(answer)?.trim();
  if (text === "safe") return SAFE;
  const match = /^unsafe\n(S\d{1,2}(?:, ?S\d{1,2})*)$/.exec(text ?? "");
  if (match === null) return undefined;
  const categories = match[1]!.split(/, ?/).map((code) => LLAMA_CODES.get(code));
  if (categories.includes(undefined)) return undefined;
  return { isViolation: true, score: SURE, categories: categories as string[] };
};

/** "Safety: Safe|Unsafe|Controversial" and a line "Categories: ...". */
export const readQwen3Guard: Reader = (answer) =>
  qwen3Verdict(/^Safety: (Safe|Unsafe|Controversial)\nCategories: ([^\n]+)$/, answer);

/** Of an answer it says besides whether it refuses, which is no verdict and must be there all the same. */
export const readQwen3Answer: Reader = (answer) =>
  qwen3Verdict(/^Safety: (Safe|Unsafe|Controversial)\nCategories: ([^\n]+)\nRefusal: (?:Yes|No)$/, answer);

function qwen3Verdict(grammar: RegExp, answer: string): Judgement | undefined {
  const match = grammar.exec(chatText(answer)?.trim() ?? "");
  if (match === null) return undefined;
  const [, safety, list = ""] = match;
  const names = list.split(", ");
  if (safety === "Safe") return list === "None" ? SAFE : undefined;
  const categories = names.map((name) => QWEN_CATEGORIES.get(name));
  if (categories.includes(undefined)) return undefined;
  return {
    isViolation: true,
    score: safety === "Unsafe" ? SURE : CONTROVERSIAL,
    categories: categories as string[],
  };
}

/** A number and a label where the policy says that they are. */
export function httpReader({ score, label, unsafe, safe, category }: AnswerPlaces): Reader {
  const unsafeLabels = new Map(Object.entries(unsafe));
  const safeLabels = new Set(safe);
  return (answer) => {
    const body = parsed(answer);
    const number = score === undefined ? undefined : at(body, score);
    if (score !== undefined && !isScore(number)) return undefined;
    if (label === undefined) {
      const sure = number as number;
      return sure >= MIDDLE
        ? { isViolation: true, score: sure, categories: [category] }
        : { ...SAFE, score: sure };
    }
    const name = at(body, label);
    if (typeof name !== "string") return undefined;
    const code = unsafeLabels.get(name);
    if (code !== undefined) {
      return { isViolation: true, score: isScore(number) ? number : SURE, categories: [code] };
    }
    // The number may be that of the label as well as that of harm: it says nothing of a safe one.
    return safeLabels.has(name) ? SAFE : undefined;
  };
}

function isScore(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= 1;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}

/** RFC 6901. */
function at(value: unknown, pointer: string): unknown {
  let found = value;
  for (const token of pointer.split("/").slice(1)) {
    found = memberOf(found, token.replaceAll("~1", "/").replaceAll("~0", "~"));
  }
  return found;
}
