/**
 * What the Anthropic endpoints share: the error body with the type that the vendor gives each status, the
 * response headers, and the list of models, which both vendors serve under one path.
 */
import type { ModelInfo } from "@anthropic-ai/sdk/resources/models";
import type { Random } from "./random.ts";
import type { Call } from "./reply.ts";

const ERRORS: Readonly<Record<number, readonly [type: string, message: string]>> = {
  400: ["invalid_request_error", "The request is not valid."],
  401: ["authentication_error", "invalid x-api-key"],
  402: ["billing_error", "There is a problem with the account's billing."],
  403: ["permission_error", "The API key may not use this resource."],
  404: ["not_found_error", "The resource does not exist."],
  413: ["request_too_large", "The request body is too large."],
  429: ["rate_limit_error", "Number of requests has exceeded the rate limit."],
  500: ["api_error", "Internal server error"],
  504: ["timeout_error", "The request timed out."],
  529: ["overloaded_error", "Overloaded"],
};

export function anthropicErrorBody(status: number, message?: string, requestId?: string) {
  const [type, text] = ERRORS[status] ?? ERRORS[status >= 500 ? 500 : 400]!;
  const error = { type: "error", error: { type, message: message ?? text } };
  return requestId === undefined ? error : { ...error, request_id: requestId };
}

export function anthropicRequestId(random: Random): string {
  return random.fork("request id").id("req_011", 22);
}

/** As the vendor sends them; the request id comes from the seed. */
export function anthropicHeaders(random: Random): string[] {
  return [
    "anthropic-organization-id",
    "5a111900-0000-4000-8000-51a1a7edca5e",
    "anthropic-ratelimit-requests-limit",
    "4000",
    "anthropic-ratelimit-requests-remaining",
    "3999",
    "anthropic-ratelimit-requests-reset",
    "2026-01-01T00:00:00Z",
    "anthropic-ratelimit-tokens-limit",
    "400000",
    "anthropic-ratelimit-tokens-remaining",
    "399000",
    "request-id",
    anthropicRequestId(random),
    "strict-transport-security",
    "max-age=31536000; includeSubDomains; preload",
    "x-robots-tag",
    "none",
  ];
}

const MODELS = ["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"];
const YES = { supported: true };
const NO = { supported: false };

function modelOf(id: string): ModelInfo {
  return {
    type: "model",
    id,
    display_name: id,
    created_at: "2025-10-01T00:00:00Z",
    deprecated_at: null,
    retires_at: null,
    lifecycle: "active",
    line: id.includes("haiku") ? "haiku" : id.includes("sonnet") ? "sonnet" : null,
    max_input_tokens: 200_000,
    max_tokens: 64_000,
    capabilities: {
      batch: NO,
      citations: YES,
      code_execution: NO,
      context_management: {
        clear_thinking_20251015: null,
        clear_tool_uses_20250919: null,
        compact_20260112: null,
        supported: false,
      },
      effort: { low: NO, medium: NO, high: NO, xhigh: null, max: NO, supported: false },
      image_input: YES,
      pdf_input: YES,
      server_tools: { supported: false, code_execution: NO, web_search: NO },
      structured_outputs: YES,
      thinking: { supported: true, types: { adaptive: YES, between_tools: NO, disabled: YES, enabled: YES } },
    },
  };
}

export function anthropicModelsWhole(call: Call) {
  const data = [...new Set([...MODELS, ...call.scripted])].map(modelOf);
  return { data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}

export function anthropicModelWhole(call: Call): ModelInfo {
  return modelOf(call.name);
}
