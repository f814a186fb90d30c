/**
 * Answers that come whole: messages, token counts, models and error bodies. Their tables stand here too,
 * for a streamed message starts with the same object.
 */
import type { Operation, Usage } from "../../layer/index.ts";
import type { AnswerReading, Json, JsonObject } from "../dialect.ts";
import { AnswerText } from "./answer-text.ts";
import { BLOCK } from "./blocks.ts";
import { either, list, object, PARAMETER, PLAIN, type Shape, tagged, tags, tree, WORDS } from "./shape.ts";

const CONTEXT_MANAGEMENT = object({
  applied_edits: list(
    object({
      type: PARAMETER,
      cleared_input_tokens: PLAIN,
      cleared_tool_uses: PLAIN,
      cleared_thinking_turns: PLAIN,
    }),
  ),
  original_input_tokens: PLAIN,
});
const COUNTS = {
  input_tokens: PLAIN,
  output_tokens: PLAIN,
  cache_creation_input_tokens: PLAIN,
  cache_read_input_tokens: PLAIN,
  cache_creation: object({ ephemeral_1h_input_tokens: PLAIN, ephemeral_5m_input_tokens: PLAIN }),
};
export const USAGE = object({
  ...COUNTS,
  output_tokens_details: object({ thinking_tokens: PLAIN }),
  server_tool_use: object({ web_fetch_requests: PLAIN, web_search_requests: PLAIN }),
  service_tier: tags("standard", "priority", "batch"),
  speed: tags("standard", "fast"),
  inference_geo: PARAMETER,
  iterations: list(object({ ...COUNTS, type: PARAMETER, model: PARAMETER })),
  fallback_credit: object({
    status: object({ type: PARAMETER, reason: PARAMETER, remove_to_redeem: list(PARAMETER) }),
  }),
});

/** What a message says of its end, also in `message_delta`. */
export const STOP = {
  stop_reason: tags(
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "compaction",
    "refusal",
    "model_context_window_exceeded",
  ),
  stop_sequence: WORDS,
  stop_details: object({
    type: PARAMETER,
    category: PARAMETER,
    explanation: WORDS,
    fallback_credit_token: PARAMETER,
    fallback_has_prefill_claim: PLAIN,
    recommended_model: PARAMETER,
  }),
  container: object({
    id: PARAMETER,
    expires_at: PARAMETER,
    skills: list(object({ type: PARAMETER, skill_id: PARAMETER, version: PARAMETER })),
  }),
};
/** What the API did to the request on its way to the model. */
export const DONE_TO_INPUT = {
  context_management: CONTEXT_MANAGEMENT,
  input_transformations: list(object({ type: PARAMETER, path: PARAMETER, reason: PARAMETER })),
};

export const MESSAGE_FIELDS = {
  id: PARAMETER,
  role: tags("assistant"),
  model: PARAMETER,
  content: { ...list(BLOCK), numbered: true },
  usage: USAGE,
  diagnostics: object({ cache_miss_reason: object({ type: PARAMETER, cache_missed_input_tokens: PLAIN }) }),
  ...STOP,
  ...DONE_TO_INPUT,
};
export const ERROR_FIELDS = {
  error: object({ type: PARAMETER, message: WORDS, details: tree("parameter") }),
  request_id: PARAMETER,
};
const MODEL_FIELDS = {
  id: PARAMETER,
  display_name: WORDS,
  created_at: PARAMETER,
  deprecated_at: PARAMETER,
  retires_at: PARAMETER,
  lifecycle: PARAMETER,
  line: PARAMETER,
  max_input_tokens: PLAIN,
  max_tokens: PLAIN,
  capabilities: tree("parameter"),
};
const MODEL_LIST = object({
  data: list(tagged({ model: MODEL_FIELDS })),
  first_id: PARAMETER,
  last_id: PARAMETER,
  has_more: PLAIN,
});
const TOKEN_COUNT = object({ input_tokens: PLAIN, context_management: CONTEXT_MANAGEMENT });

/** An object without `type` is the variant named "". */
const ANSWERS: Partial<Record<Operation, Shape>> = {
  messages: tagged({ message: MESSAGE_FIELDS, error: ERROR_FIELDS }),
  count_tokens: withUntyped(tagged({ error: ERROR_FIELDS }), TOKEN_COUNT),
  models: withUntyped(tagged({ model: MODEL_FIELDS, error: ERROR_FIELDS }), MODEL_LIST),
};

function withUntyped(shape: Shape, untyped: Shape): Shape {
  return either(shape, { variants: new Map([...(shape.variants ?? []), ["", untyped]]) });
}

export function readAnswer(operation: Operation, body: Json): AnswerReading {
  const text = new AnswerText(body, ANSWERS[operation] ?? PLAIN, "");
  const usage = usageOf(isObject(body) ? (operation === "count_tokens" ? body : body["usage"]) : undefined);
  return {
    segments: text.segments,
    modelled: text.modelled,
    ...(usage === undefined ? {} : { usage }),
    rewrite: (texts) => text.rewrite(texts),
    withheld: (words) => (operation === "messages" && isObject(body) ? withhold(body, words) : undefined),
  };
}

export function refused(explanation: string | null): JsonObject {
  return {
    stop_reason: "refusal",
    stop_sequence: null,
    stop_details: { type: "refusal", category: null, explanation },
  };
}

/** Only what no layer judges is kept: ids and counts. */
function withhold(message: JsonObject, words: string | null = null): string | undefined {
  if (message["type"] !== "message") return undefined;
  const { id, model, usage } = message;
  const counts = Object.entries(isObject(usage) ? usage : {}).filter(
    ([, count]) => typeof count === "number",
  );
  return JSON.stringify({
    id,
    type: "message",
    role: "assistant",
    model,
    content: [],
    ...refused(words),
    usage: { input_tokens: 0, output_tokens: 0, ...Object.fromEntries(counts) },
  });
}

export function isObject(value: Json | undefined): value is JsonObject {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * Tokens as counted so far; later counts replace earlier ones. The API names input that it wrote to or read from
 * a cache beside `input_tokens`; all of it is input, as in the other dialect. A later event may name a part of
 * that alone, so input never becomes less.
 */
export function usageOf(counts: Json | undefined, before?: Usage): Usage | undefined {
  if (!isObject(counts)) return before;
  const { input_tokens: fresh, output_tokens: output } = counts;
  const { cache_creation_input_tokens: written, cache_read_input_tokens: read } = counts;
  let input: number | undefined;
  for (const part of [fresh, written, read]) if (typeof part === "number") input = (input ?? 0) + part;
  if (input === undefined && typeof output !== "number") return before;
  return {
    ...before,
    ...(input === undefined ? {} : { inputTokens: Math.max(input, before?.inputTokens ?? 0) }),
    ...(typeof output === "number" ? { outputTokens: output } : {}),
  };
}
