/**
 * Reads the list of prices that spend limits count by. It is a file that people edit, so a problem names its
 * line and field. Money is whole nano-dollars: sums of fractions would drift from what is booked elsewhere.
 */
import { isCollection, isPair, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import { z } from "zod";
import { ConfigProblem } from "../../src/layer/index.ts";

const NANOS_PER_MICRO = 1_000;
const MODELS_MAX = 2_000;
/** Names that were looked up; callers choose them, so the table starts anew at this many. */
const KNOWN_MAX = 1_000;

/** A dollar for a million tokens is 1,000 nano-dollars a token. */
const Price = z
  .number()
  .min(0)
  .max(100_000)
  .refine((dollars) => isWhole(dollars * NANOS_PER_MICRO), "must have at most three decimals")
  .describe("US dollars per million tokens.");
const Long = z.strictObject({
  overTokens: z.int().min(1).describe("Input tokens above which these prices hold for the whole request."),
  input: Price,
  output: Price,
});
const PricesSchema = z.strictObject({
  asOf: z
    .string()
    .regex(/^\d{4}-\d{2}-\d{2}$/, "must be a date such as 2026-01-31")
    .describe("When the prices were looked up."),
  source: z.array(z.string().min(1)).max(20).default([]).describe("Where they come from."),
  default: z.strictObject({ input: Price, output: Price }).describe("For a model that is not listed."),
  models: z
    .array(
      z.strictObject({
        model: z
          .string()
          .min(1)
          .max(128)
          .refine((pattern) => !pattern.slice(0, -1).includes("*"), 'takes "*" only at the end')
          .describe('Exact, or ending in "*".'),
        input: Price,
        output: Price,
        long: Long.optional(),
      }),
    )
    .max(MODELS_MAX)
    .default([]),
});

/** Nano-dollars a token. */
export interface Rate {
  readonly input: number;
  readonly output: number;
}

interface Rates extends Rate {
  readonly long?: Rate & { readonly overTokens: number };
}

export class Prices {
  readonly #exact = new Map<string, Rates>();
  /** Longest first. */
  readonly #prefixes: (readonly [prefix: string, rates: Rates])[] = [];
  readonly #default: Rates;
  readonly #known = new Map<string, Rates>();

  constructor(list: z.infer<typeof PricesSchema>) {
    this.#default = ratesOf(list.default);
    for (const entry of list.models) {
      const pattern = entry.model.toLowerCase();
      if (pattern.endsWith("*")) this.#prefixes.push([pattern.slice(0, -1), ratesOf(entry)]);
      else this.#exact.set(pattern, ratesOf(entry));
    }
    this.#prefixes.sort(([a], [b]) => b.length - a.length);
  }

  /** What a request of this many input tokens costs a token. */
  rate(model: string, inputTokens: number): Rate {
    const rates = this.#known.get(model) ?? this.#look(model);
    return rates.long !== undefined && inputTokens > rates.long.overTokens ? rates.long : rates;
  }

  #look(model: string): Rates {
    const name = model.toLowerCase();
    const rates =
      this.#exact.get(name) ??
      this.#prefixes.find(([prefix]) => name.startsWith(prefix))?.[1] ??
      this.#default;
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    if (model.length <= 128) this.#known.set(model, rates);
    return rates;
  }
}

/** `path` names the file in problems. Throws ConfigProblem. */
export function readPrices(text: string, path: string): Prices {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const problemAt = (offset: number, message: string) => {
    const { line, col } = lines.linePos(offset);
    return new ConfigProblem(`${path}:${line}:${col}: ${message}`, ["prices"], path);
  };
  const broken = document.errors[0];
  if (broken !== undefined) throw problemAt(broken.pos[0], broken.message.split("\n")[0] ?? "is not YAML");
  const problem = (at: readonly PropertyKey[], message: string) =>
    problemAt(offsetOf(document.contents, at), `${at.map(String).join(".")}: ${message}`);
  const parsed = PricesSchema.safeParse(document.toJS({ maxAliasCount: 0 }));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw problem(issue.path, issue.message);
  }
  const first = new Map<string, number>();
  for (const [i, { model }] of parsed.data.models.entries()) {
    const name = model.toLowerCase();
    const other = first.get(name);
    if (other !== undefined) throw problem(["models", i, "model"], `"${model}" is already models.${other}`);
    first.set(name, i);
  }
  return new Prices(parsed.data);
}

function ratesOf(entry: {
  readonly input: number;
  readonly output: number;
  readonly long?: z.infer<typeof Long> | undefined;
}): Rates {
  const rate = {
    input: Math.round(entry.input * NANOS_PER_MICRO),
    output: Math.round(entry.output * NANOS_PER_MICRO),
  };
  return entry.long === undefined
    ? rate
    : {
        ...rate,
        long: { ...ratesOf({ ...entry.long, long: undefined }), overTokens: entry.long.overTokens },
      };
}

function isWhole(number: number): boolean {
  return Math.abs(number - Math.round(number)) < 1e-6;
}

/** Where the value at a path starts, or the innermost part of the path that exists. */
function offsetOf(node: Node | null, at: readonly PropertyKey[]): number {
  let offset = node?.range?.[0] ?? 0;
  let here: unknown = node;
  for (const step of at) {
    if (!isCollection(here)) break;
    const child: unknown = here.items.find((item, i) =>
      isPair(item) ? isScalar(item.key) && item.key.value === step : i === step,
    );
    if (child === undefined) break;
    here = isPair(child) ? child.value : child;
    const range = (here as Node | null)?.range;
    if (range === undefined || range === null) break;
    offset = range[0];
  }
  return offset;
}
