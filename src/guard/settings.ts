/** The settings that every seat with a remote guard has: where it is, what it speaks, what its verdicts lead to. */
import { z } from "zod";
import type { JudgeEndpoint } from "../layer/index.ts";
import { networkNamed } from "../text/address-space.ts";

const FORMATS = ["openai-policy", "llama-guard", "qwen3guard", "http"] as const;

const CATEGORY = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
const POINTER = /^(\/([^~/]|~[01])*)+$/;
export const PATTERN = /^[a-z0-9-]+(\.[a-z0-9_-]+)*(\.\*)?$/;
/** Codes of this layer's own reasons, which a category must not pass for. */
const OWN_CODES = ["malformed", "unavailable", "budget", "partial"];

export const category = z
  .string()
  .max(40)
  .regex(CATEGORY, 'lower-case words joined by "-"')
  .refine((code) => !OWN_CODES.includes(code), "is a word of the layer's own");

function isNetwork(text: string): boolean {
  try {
    networkNamed(text);
    return true;
  } catch {
    return false;
  }
}

const endpoint = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/ })
      .max(2_048)
      .describe(
        "Whole URL, such as https://guard.example.com/v1/chat/completions. http only to what `addresses` or `allowPrivate` lets in.",
      ),
    keyEnv: z
      .string()
      .regex(/^SALLYPORT_JUDGE_[A-Z0-9_]{1,64}$/, "must begin with SALLYPORT_JUDGE_")
      .optional()
      .describe("Environment variable with the judge's key, sent as a bearer token. Default: none is sent."),
    addresses: z
      .array(z.string().max(64).refine(isNetwork, "must be an address or a network such as 10.0.0.0/24"))
      .max(64)
      .default([])
      .describe("The only addresses that the name may lead to, private ones too. []: any public one."),
    allowPrivate: z
      .boolean()
      .default(false)
      .describe(
        "The name may lead to private, loopback and link-local addresses; never to a cloud's metadata.",
      ),
    timeoutMs: z
      .int()
      .min(10)
      .max(60_000)
      .default(1_500)
      .describe(
        "Deadline of a question: its turn, the connection, the answer. Keep the seat's timeoutMs above.",
      ),
    answerBytesMax: z.int().min(256).max(1_048_576).default(65_536).describe("Longer answers are failures."),
    concurrencyMax: z.int().min(1).max(1_000).default(16).describe("Questions under way at once."),
    queueMax: z.int().min(0).max(10_000).default(64).describe("Questions that may wait for their turn."),
    breaker: z
      .strictObject({
        failuresMax: z
          .int()
          .min(1)
          .max(1_000)
          .default(5)
          .describe("Failures in a row that open the circuit."),
        openMs: z.int().min(10).max(3_600_000).default(10_000).describe("How long nobody is asked then."),
        successesMin: z
          .int()
          .min(1)
          .max(100)
          .default(2)
          .describe("Good answers in a row, one at a time, that close it."),
      })
      .prefault({})
      .describe("When a failing judge is left alone."),
  })
  .superRefine(({ url, addresses, allowPrivate }, context) => {
    if (!URL.canParse(url)) return;
    const { protocol, username, password } = new URL(url);
    const report = (message: string) => context.addIssue({ code: "custom", path: ["url"], message });
    if (username !== "" || password !== "") report("must not hold a password; use keyEnv");
    if (protocol === "http:" && addresses.length === 0 && !allowPrivate)
      report("http is taken only to what `addresses` names or `allowPrivate` lets in; use https");
  })
  .describe("Where the judge is; taken from here alone, never from a request.");

const answer = z
  .strictObject({
    score: z
      .string()
      .regex(POINTER)
      .optional()
      .describe("JSON Pointer to a number from 0 to 1. Absent: the label alone decides."),
    label: z
      .string()
      .regex(POINTER)
      .optional()
      .describe("JSON Pointer to a text. Absent: the number alone decides, from 0.5 on."),
    unsafe: z
      .record(z.string().min(1).max(100), category)
      .default({})
      .describe("Labels that break the policy, each with its category."),
    safe: z.array(z.string().min(1).max(100)).max(100).default([]).describe("Labels that do not."),
    category: category.default("harmful").describe("Category where no label names one."),
  })
  .refine(({ score, label }) => score !== undefined || label !== undefined, "needs score, label or both")
  .refine(({ label, unsafe, safe }) => label === undefined || Object.keys(unsafe).length + safe.length > 0, {
    path: ["unsafe"],
    error: "needs the labels that may come",
  })
  .describe(
    "Where an answer of `http` holds its verdict. Any other label, or no number, is a failure. Absent: another format.",
  );

export const guardFields = {
  format: z
    .enum(FORMATS)
    .describe(
      "openai-policy: any chat model, given a written policy. llama-guard, qwen3guard: those models behind an OpenAI-compatible server. http: any classifier that takes and gives JSON.",
    ),
  endpoint,
  model: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .describe("Name of the model; all formats but http need it. Absent: http."),
  structured: z
    .enum(["json-schema", "json-object", "none"])
    .default("json-schema")
    .describe("openai-policy: what the server is asked to hold the answer to (response_format)."),
  parameters: z
    .record(z.string(), z.json())
    .default({ temperature: 0, max_tokens: 400 })
    .describe("Further members of the request, all formats but http."),
  request: z
    .json()
    .optional()
    .describe(
      'http: the body, in which "{{text}}" inside any string becomes the text that is judged. Absent: another format.',
    ),
  answer: answer.optional(),
  act: z.enum(["block", "flag"]).default("block").describe("What a violation leads to."),
  blockAt: z.number().min(0).max(1).default(0.7).describe("Violations below this score are flagged."),
  ignore: z.array(category).max(100).default([]).describe("Categories that are no violation here."),
  whenUnavailable: z
    .enum(["allow", "block"])
    .default("allow")
    .describe(
      "Where no verdict came: allow flags and records it, block answers 503. It is never taken for a verdict.",
    ),
  budget: z
    .strictObject({
      questionsPerMinute: z.int().min(1).max(1_000_000).default(600).describe("Questions in any minute."),
      unitsPerMinute: z
        .int()
        .min(1_000)
        .max(1_000_000_000)
        .default(4_000_000)
        .describe("Characters in any minute, the judge's instructions included."),
    })
    .prefault({})
    .describe("Of this seat, on all gateways that share a Redis. What is beyond is not asked."),
};

/** Codes that `openai-policy` may answer, each explained. */
export function categoriesOf(standard: Readonly<Record<string, string>>) {
  return z.record(category, z.string().min(1).max(1_000)).default(standard);
}

const Guard = z.object({ ...guardFields, categories: categoriesOf({}) });
export type GuardConfig = z.infer<typeof Guard> & { readonly images?: number };
export type AnswerPlaces = NonNullable<GuardConfig["answer"]>;

/** What the fields ask of each other; `window` is what one request may make of questions. */
export function checkGuard(
  given: z.infer<z.ZodObject<typeof guardFields>> & {
    readonly window: { readonly units: number; readonly max: number };
  },
  report: (path: string, message: string) => void,
): void {
  const { format, model, request, answer, window, budget } = given;
  if (format === "http") {
    if (request === undefined) report("request", "http needs the request's JSON");
    else if (!JSON.stringify(request).includes("{{text}}"))
      report("request", 'holds no "{{text}}": the judge would never see what it judges');
    if (answer === undefined) report("answer", "http needs to know where the verdict is");
  } else {
    if (model === undefined) report("model", `${format} needs the model's name`);
    if (request !== undefined) report("request", "is for the format http alone");
    if (answer !== undefined) report("answer", "is for the format http alone");
  }
  if (window.max > budget.questionsPerMinute)
    report("budget", "questionsPerMinute is less than one request's window.max");
  if (window.max * window.units > budget.unitsPerMinute)
    report("budget", "unitsPerMinute is less than one request's windows");
}

/** What was left out is absent, not undefined. */
export function endpointOf({ keyEnv, ...rest }: GuardConfig["endpoint"]): JudgeEndpoint {
  return { ...rest, ...(keyEnv !== undefined && { keyEnv }) };
}
