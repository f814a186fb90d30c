/**
 * What a test may ask of the simulator: the answer's content, its pace, and one fault. The schema below is
 * the reference for README.md's table; a script that breaks it is refused with the field and the reason.
 * `ScriptBook` holds the scripts that were set ahead through the admin endpoint.
 */
import { z } from "zod";

export const BODY_BYTES_MAX = 64 * 1024 * 1024;

export const SCRIPT_HEADER = "x-sim-script";

/** Each kind is described in README.md and made in faults.ts. */
const FAULT_KINDS = [
  "reset",
  "silence",
  "half_close",
  "malformed_event",
  "oversize_event",
  "wrong_content_type",
  "status",
  "error_event",
  "json_for_stream",
  "truncate",
  "no_terminal",
  "slow_headers",
  "bad_encoding",
  "bad_utf8",
] as const;

const count = z.int().min(0);
const millis = z.number().min(0).max(3_600_000);

const faultSchema = z.strictObject({
  kind: z.enum(FAULT_KINDS),
  afterEvents: count.optional(),
  status: z.int().min(400).max(599).optional(),
  retryAfter: z.number().min(0).optional(),
  bytes: z.int().min(1).max(BODY_BYTES_MAX).optional(),
});

const capacitySchema = z.strictObject({
  concurrency: z.int().min(1),
  serviceMs: millis.optional(),
  queueMax: count.optional(),
  status: z.int().min(400).max(599).optional(),
});

const guardSchema = z.strictObject({
  format: z.enum(["openai-policy", "llama-guard", "qwen3guard", "http"]),
  unsafe: z
    .array(
      z.strictObject({
        match: z.string().min(1),
        category: z.string().min(1),
        score: z.number().min(0).max(1).optional(),
      }),
    )
    .max(1_000),
  mode: z.enum(["honest", "prose", "obeys", "parrots"]).optional(),
});

const scriptSchema = z
  .strictObject({
    text: z.string().optional(),
    words: z.int().min(1).max(1_000_000).optional(),
    chunks: z.array(z.string()).optional(),
    chunkChars: z.int().min(1).optional(),
    choices: z.array(z.string()).min(1).max(128).optional(),
    thinking: z.string().optional(),
    refusal: z.string().optional(),
    toolCalls: z
      .array(
        z.strictObject({
          name: z.string().min(1),
          arguments: z.union([z.string(), z.record(z.string(), z.unknown())]),
        }),
      )
      .optional(),
    citations: z.array(z.string()).optional(),
    logprobs: z.union([z.boolean(), z.int().min(0).max(20)]).optional(),
    finishReason: z.string().min(1).optional(),
    usage: z
      .strictObject({
        inputTokens: count.optional(),
        outputTokens: count.optional(),
        cachedTokens: count.optional(),
        thinkingTokens: count.optional(),
      })
      .optional(),
    tokensPerSecond: z.number().min(0).optional(),
    firstByteDelayMs: millis.optional(),
    eventGapMs: millis.optional(),
    coalesce: z.boolean().optional(),
    byteChunks: z.int().min(1).optional(),
    events: z
      .array(
        z.strictObject({
          event: z.string().optional(),
          data: z.union([z.string(), z.record(z.string(), z.unknown())]),
        }),
      )
      .optional(),
    rawBody: z.string().optional(),
    status: z.int().min(200).max(599).optional(),
    contentType: z.string().min(1).optional(),
    fault: faultSchema.optional(),
    capacity: capacitySchema.optional(),
    guard: guardSchema.optional(),
  })
  .superRefine((script, context) => {
    const exclusive = (a: keyof typeof script, b: keyof typeof script): void => {
      if (script[a] !== undefined && script[b] !== undefined) {
        context.addIssue({
          code: "custom",
          path: [b],
          message: `cannot stand beside "${a}"; keep one of the two`,
        });
      }
    };
    exclusive("text", "chunks");
    exclusive("text", "words");
    exclusive("text", "choices");
    exclusive("text", "guard");
    exclusive("chunks", "choices");
    exclusive("chunks", "chunkChars");
    exclusive("events", "rawBody");
    exclusive("coalesce", "byteChunks");
    if (script.status !== undefined && script.rawBody === undefined) {
      context.addIssue({
        code: "custom",
        path: ["status"],
        message: 'needs "rawBody"; for an error in the vendor\'s shape use {"fault":{"kind":"status"}}',
      });
    }
  });

export type Script = z.infer<typeof scriptSchema>;
export type Fault = NonNullable<Script["fault"]>;

const registrationSchema = z.strictObject({ times: z.int().min(1).optional(), script: z.unknown() });

/** The text of the problem names the field. */
export class ScriptProblem extends Error {}

/** @throws {ScriptProblem} */
function readScript(value: unknown, path = "script"): Script {
  return check(scriptSchema, value, path);
}

/** @throws {ScriptProblem} */
export function parseScript(json: string, source: string): Script {
  return readScript(parseJson(json, source), source);
}

/** A script as a header value: HTTP headers carry no letters beyond Latin-1, JSON escapes do. */
export function scriptHeader(script: Script): Record<typeof SCRIPT_HEADER, string> {
  const json = JSON.stringify(script).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return { [SCRIPT_HEADER]: json };
}

function parseJson(json: string, source: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new ScriptProblem(`${source}: not valid JSON: ${error instanceof Error ? error.message : "?"}`);
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, path: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(
    (issue) => `${[path, ...issue.path.map(String)].join(".")}: ${issue.message}`,
  );
  throw new ScriptProblem(problems.join("; "));
}

interface Entry {
  readonly script: Script;
  /** Requests that it still serves. */
  left: number;
}

const MODELS_MAX = 1_000;
const QUEUE_MAX = 10_000;

const NO_SCRIPT: Script = {};

/**
 * Scripts set ahead. A model's own script goes first, then the queue of those with `times`, then the
 * standing one. `revision` moves with every change, so that an answer made under one revision can be kept.
 */
export class ScriptBook {
  revision = 0;
  #standing: Script = NO_SCRIPT;
  #queue: Entry[] = [];
  readonly #byModel = new Map<string, Entry>();

  /** Takes a script, or `{times, script}`. @throws {ScriptProblem} */
  set(value: unknown, model?: string): void {
    const wrapped = typeof value === "object" && value !== null && "script" in value;
    const { times, script } = wrapped
      ? check(registrationSchema, value, "body")
      : { times: undefined, script: value };
    const entry = {
      script: readScript(script, wrapped ? "body.script" : "script"),
      left: times ?? Number.POSITIVE_INFINITY,
    };
    if (model !== undefined) {
      if (!this.#byModel.has(model) && this.#byModel.size >= MODELS_MAX) {
        throw new ScriptProblem(
          `model: at most ${MODELS_MAX} models may have a script; clear with DELETE /_script`,
        );
      }
      this.#byModel.set(model, entry);
    } else if (times !== undefined) {
      if (this.#queue.length >= QUEUE_MAX) {
        throw new ScriptProblem(`body: at most ${QUEUE_MAX} scripts may wait; clear with DELETE /_script`);
      }
      this.#queue.push(entry);
    } else {
      this.#standing = entry.script;
    }
    this.revision += 1;
  }

  setJson(json: string, model?: string): void {
    this.set(parseJson(json, "body"), model);
  }

  clear(model?: string): void {
    if (model !== undefined) {
      this.#byModel.delete(model);
    } else {
      this.#standing = NO_SCRIPT;
      this.#queue = [];
      this.#byModel.clear();
    }
    this.revision += 1;
  }

  /** The script for the next request, which uses up one of its `times`. */
  take(model: string | undefined): Script {
    const own = model === undefined ? undefined : this.#byModel.get(model);
    const entry = own ?? this.#queue[0];
    if (entry === undefined) return this.#standing;
    if (entry.left !== Number.POSITIVE_INFINITY) {
      entry.left -= 1;
      this.revision += 1;
      if (entry.left === 0) {
        if (own !== undefined) this.#byModel.delete(model as string);
        else this.#queue.shift();
      }
    }
    return entry.script;
  }

  models(): IterableIterator<string> {
    return this.#byModel.keys();
  }
}
