/**
 * How much a request asks for, as far as its numbers say: what limits reserve before the model has answered.
 * The upstream judges whether the numbers are valid; here an odd one counts as none.
 */
import type { Json } from "./dialect.ts";

export interface Ask {
  /** Most tokens that the request lets the model write, over all its answers; absent where it names no maximum. */
  readonly outputTokensMax?: number;
  /** Answers asked for at once (`n`, `best_of`, prompts in a list); absent: one. */
  readonly choices?: number;
  /** Tokens given as numbers in place of text, which no leaf holds. */
  readonly inputTokenIds?: number;
}

const COUNT_MAX = 1_000_000_000;

export function askOf(
  max: Json | undefined,
  choices = 1,
  inputTokenIds = 0,
): { -readonly [Name in keyof Ask]: Ask[Name] } {
  const ask: { -readonly [Name in keyof Ask]: Ask[Name] } = {};
  const each = countOf(max);
  if (each !== undefined) ask.outputTokensMax = Math.min(COUNT_MAX, each * choices);
  if (choices > 1) ask.choices = choices;
  if (inputTokenIds > 0) ask.inputTokenIds = inputTokenIds;
  return ask;
}

/** A whole number above zero, or undefined. */
export function countOf(value: Json | undefined): number | undefined {
  if (typeof value !== "number" || !Number.isInteger(value) || value <= 0) return undefined;
  return Math.min(COUNT_MAX, value);
}
