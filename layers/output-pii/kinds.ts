/**
 * The kinds of personal data: what the configuration calls them, and the tables of numbers and lengths that ship
 * with the layer, read once.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { CHECKS } from "./checks.ts";
import { type Pattern, readPattern } from "./partial.ts";

/** Kinds with a form of their own (codes.ts), then those that are words (people.ts, addresses.ts). */
export const CODE_KINDS = ["email", "phone", "card", "iban", "national-number", "ip", "mac", "imei"] as const;
export const WORD_KINDS = ["person", "address"] as const;
export const KINDS = [...CODE_KINDS, ...WORD_KINDS] as const;
export type Kind = (typeof KINDS)[number];

/** Something found. Offsets are in the text that was read. */
export interface Sight {
  readonly kind: Kind;
  /** Last part of the reason, output.pii.<id>. */
  readonly id: string;
  readonly score: number;
  readonly start: number;
  readonly end: number;
  /** What stands in its place, where that is not the policy's mark. */
  readonly by?: string;
}

export interface NumberRow {
  readonly id: string;
  readonly kind: Kind;
  readonly patterns: readonly Pattern[];
  /** Whether one of the row's words stands in the text before; absent: no word is needed. */
  readonly near: RegExp | undefined;
  accepts(written: string): boolean;
}

const Rows = z.array(
  z.strictObject({
    id: z.string(),
    group: z.enum(CODE_KINDS),
    check: z.enum(Object.keys(CHECKS) as [keyof typeof CHECKS]).optional(),
    keep: z.string().optional(),
    near: z.array(z.string()).optional(),
    patterns: z.array(z.string()).min(1),
  }),
);

function load(name: string): unknown {
  return parse(readFileSync(new URL(name, import.meta.url), "utf8"));
}

const SEPARATOR = /[^0-9A-Z]/;

/** The number as its check wants it: upper case, without separators but those that are kept. */
function bare(written: string, keep: string): string {
  let out = "";
  for (const unit of written.toUpperCase()) if (!SEPARATOR.test(unit) || keep.includes(unit)) out += unit;
  return out;
}

/** One of the words, whole, in a text in lower case. */
export function anyWord(words: readonly string[]): RegExp {
  return new RegExp(
    `(?:^|[^a-z])(?:${words.map((word) => word.replace(/[.+]/g, "\\$&")).join("|")})(?![a-z])`,
  );
}

export const NUMBER_ROWS: readonly NumberRow[] = Rows.parse(load("./numbers.yaml")).map((row) => {
  const check = row.check === undefined ? undefined : CHECKS[row.check];
  const keep = row.keep ?? "";
  return {
    id: row.id,
    kind: row.group,
    patterns: row.patterns.map((pattern) => readPattern(pattern)),
    near: row.near && anyWord(row.near),
    accepts: (written) => check?.(bare(written, keep)) ?? true,
  };
});

export const IBAN_LENGTHS: ReadonlyMap<string, number> = new Map(
  Object.entries(z.record(z.string(), z.number()).parse(load("./iban-lengths.yaml"))),
);

const Words = z.strictObject({ phoneNear: z.array(z.string()), phoneAfter: z.string() });
export const WORDS = Words.parse(load("./words.yaml"));
