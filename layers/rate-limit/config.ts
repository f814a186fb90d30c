/**
 * The policy's words for limits, and what they come to when the policy is compiled: whole amounts (tokens,
 * nano-dollars), seconds, and which parts of a request each limit is counted by.
 */
import { z } from "zod";
import { TIERS, type Tier } from "../../src/layer/index.ts";
import { COUNTED_UNITS_MAX } from "../../src/text/tokens.ts";

export const UNITS = ["requests", "input_tokens", "output_tokens", "tokens", "spend", "concurrency"] as const;
export type Unit = (typeof UNITS)[number];

/** In the order in which they stand in a counter's key. */
export const PER = ["org", "project", "key", "address", "network", "end_user", "model"] as const;
export type Per = (typeof PER)[number];

const LIMITS_MAX = 32;
const NANOS_PER_DOLLAR = 1_000_000_000;
const DOLLARS_MAX = 1_000_000;
const MONTH_SEC = 31 * 86_400;
const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;
const WINDOW = /^([1-9]\d{0,6})([smhd])$/;

const Scale = z
  .number()
  .positive()
  .max(1_000)
  .optional()
  .describe("What the limit is multiplied by for this tier; absent: 1.");
const Scales = z.strictObject({
  trusted: Scale,
  normal: Scale,
  new: Scale,
  risky: Scale,
  suspended: Scale,
} satisfies Record<Tier, unknown>);

const LimitSchema = z
  .strictObject({
    name: z
      .string()
      .regex(/^[a-z0-9-]{1,40}$/, 'must be 1 to 40 of a-z, 0-9 and "-"')
      .describe("Unique in the seat. Stands in the RateLimit headers and before each counter's key."),
    of: z
      .enum(UNITS)
      .default("requests")
      .describe("What is counted. tokens: input and output together. concurrency: requests under way."),
    per: z
      .array(z.enum(PER))
      .max(PER.length)
      .default(["key"])
      .describe(
        "What is counted together: one counter for each mix of these; [] is one for all. address: an IPv4 address or an IPv6 /64. network: a /24 or an IPv6 /48. Where nobody is known, the address stands for org, project and key.",
      ),
    limit: z
      .number()
      .positive()
      .max(1_000_000_000_000)
      .describe("Most in any span of `window`, or at once for concurrency. US dollars for spend."),
    window: z
      .string()
      .optional()
      .describe(
        '"30s", "1m", "6h", "1d" or "month" (31 days); sliding; 1s to 31d, default 1m. Not for concurrency.',
      ),
    scale: Scales.default({}).describe(
      "Multiplies the limit by the caller's tier, as the reputation seat gives it; 1 where none is named.",
    ),
    models: z
      .array(z.string().min(1).max(128))
      .min(1)
      .max(100)
      .optional()
      .describe('Counts only requests for these models; each exact or ending in "*". Default: all.'),
  })
  .superRefine((limit, context) => {
    const report = (field: string, message: string) =>
      context.addIssue({ code: "custom", path: [field], message });
    if (limit.of === "spend") {
      if (limit.limit > DOLLARS_MAX) report("limit", `must be at most ${DOLLARS_MAX} dollars`);
      if (limit.limit * NANOS_PER_DOLLAR < 1) report("limit", "must be at least a billionth of a dollar");
    } else if (!Number.isInteger(limit.limit)) {
      report("limit", "must be a whole number; only spend takes fractions");
    }
    if (limit.of === "concurrency") {
      if (limit.window !== undefined) report("window", "concurrency has no window; remove it");
    } else if (windowSecOf(limit.window) === undefined) {
      report("window", 'must be a number with s, m, h or d, such as "30s", or "month"; 1s to 31d');
    }
    if (new Set(limit.per).size !== limit.per.length) report("per", "names the same thing twice");
    for (const [i, pattern] of (limit.models ?? []).entries()) {
      if (pattern.slice(0, -1).includes("*"))
        context.addIssue({ code: "custom", path: ["models", i], message: 'takes "*" only at the end' });
    }
  });

export const Config = z
  .strictObject({
    limits: z
      .array(LimitSchema)
      .min(1)
      .max(LIMITS_MAX)
      .default([{ name: "key-requests", of: "requests", per: ["key"], limit: 600, window: "1m", scale: {} }])
      .describe("A request takes from all of them or, when one refuses, from none."),
    whenAway: z
      .enum(["share", "admit", "refuse"])
      .default("share")
      .describe(
        "While Redis is away. share: against this replica's share of each limit. admit: uncounted. refuse: 429.",
      ),
    cutAtLimit: z
      .boolean()
      .default(false)
      .describe(
        "Ends an answer that reaches a token or spend limit while it streams. Otherwise it runs over.",
      ),
    outputReserve: z
      .int()
      .min(16)
      .max(1_000_000)
      .default(512)
      .describe(
        "Output tokens kept back for a request without a maximum; also the step by which a running answer asks for more.",
      ),
    outputReserveMax: z
      .int()
      .min(16)
      .max(1_000_000)
      .default(4_096)
      .describe(
        "Most output tokens that a request's own maximum (max_tokens and the like) keeps back at first.",
      ),
    tokenizerUnitsMax: z
      .int()
      .min(0)
      .max(COUNTED_UNITS_MAX)
      .default(0)
      .describe(
        "Prompts of at most this many characters are counted by a real tokenizer, which takes 77 MB; 0: every prompt is estimated, and none is loaded.",
      ),
    prices: z
      .string()
      .min(1)
      .default("prices.yaml")
      .describe(
        "Prices of the models, relative to the policy's folder. Read only where a limit is of spend.",
      ),
  })
  .superRefine(({ limits }, context) => {
    const first = new Map<string, number>();
    for (const [i, { name }] of limits.entries()) {
      const other = first.get(name);
      if (other === undefined) first.set(name, i);
      else
        context.addIssue({
          code: "custom",
          path: ["limits", i, "name"],
          message: `"${name}" is already the name of limits[${other}]; names are unique`,
        });
    }
  });
export type RateLimitConfig = z.infer<typeof Config>;
export type LimitConfig = RateLimitConfig["limits"][number];

/** Undefined for what is no window. */
export function windowSecOf(text = "1m"): number | undefined {
  if (text === "month") return MONTH_SEC;
  const match = WINDOW.exec(text);
  if (match === null) return undefined;
  const seconds = Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS];
  return seconds <= MONTH_SEC ? seconds : undefined;
}

/** One limit, compiled. */
export interface Limit {
  /** Its place among the seat's limits. */
  readonly index: number;
  readonly name: string;
  readonly unit: Unit;
  /** Before any scale: requests, tokens, nano-dollars. */
  readonly amount: number;
  /** 0 for concurrency. */
  readonly windowSec: number;
  readonly scale: Readonly<Record<Tier, number>>;
  readonly per: Readonly<Record<Per, boolean>>;
  readonly models: ((model: string) => boolean) | undefined;
  /** Its claim cannot be named, or its amount known, before the body is read. */
  readonly needsBody: boolean;
}

export function limitOf(config: LimitConfig, index = 0): Limit {
  const { name, of: unit, limit, models } = config;
  const per = Object.fromEntries(PER.map((one) => [one, config.per.includes(one)])) as Record<Per, boolean>;
  return {
    index,
    name,
    unit,
    amount: unit === "spend" ? Math.round(limit * NANOS_PER_DOLLAR) : limit,
    windowSec: unit === "concurrency" ? 0 : (windowSecOf(config.window) ?? 60),
    scale: Object.fromEntries(TIERS.map((tier) => [tier, config.scale[tier] ?? 1])) as Record<Tier, number>,
    per,
    models: models === undefined ? undefined : modelMatcher(models),
    needsBody: countsTokens(unit) || per.model || per.end_user || models !== undefined,
  };
}

/** Requests and slots are one each; everything else depends on what is asked and answered. */
export function countsTokens(unit: Unit): boolean {
  return unit !== "requests" && unit !== "concurrency";
}

/** Upper and lower case are alike: a limit must not be passed by writing the name otherwise. */
export function modelMatcher(patterns: readonly string[]): (model: string) => boolean {
  const names = new Set<string>();
  const prefixes: string[] = [];
  for (const pattern of patterns) {
    const lower = pattern.toLowerCase();
    if (lower.endsWith("*")) prefixes.push(lower.slice(0, -1));
    else names.add(lower);
  }
  return (model) => {
    const lower = model.toLowerCase();
    return names.has(lower) || prefixes.some((prefix) => lower.startsWith(prefix));
  };
}
