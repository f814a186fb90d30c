/**
 * What all of the OpenAI endpoints share: creation times, usage, response headers and the error body with
 * the type and code that the vendor gives each status.
 */

import type { Random } from "./random.ts";
import { type Call, type Reply, usageOf } from "./reply.ts";

/** Creation times come from the seed too: some second of 2025. */
const EPOCH_SEC = 1_735_689_600;
const YEAR_SEC = 31_536_000;

export function createdAt(random: Random): number {
  return EPOCH_SEC + random.fork("created").below(YEAR_SEC);
}

export function openaiUsage(call: Call, replies: readonly Reply[], inputTokens: number) {
  const usage = usageOf(call, replies, inputTokens);
  return {
    prompt_tokens: usage.input,
    completion_tokens: usage.output,
    total_tokens: usage.input + usage.output,
    prompt_tokens_details: { cached_tokens: usage.cached, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: usage.thinking,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

const ERRORS: Readonly<Record<number, readonly [type: string, code: string | null, message: string]>> = {
  400: ["invalid_request_error", null, "The request is not valid."],
  401: ["invalid_request_error", "invalid_api_key", "Incorrect API key provided."],
  403: ["invalid_request_error", "unsupported_country_region_territory", "Access is not permitted."],
  404: ["invalid_request_error", "not_found", "The resource does not exist."],
  409: ["invalid_request_error", "conflict", "The resource was changed by another request."],
  413: ["invalid_request_error", "request_too_large", "The request body is too large."],
  422: ["invalid_request_error", "unprocessable", "The request could not be processed."],
  429: ["requests", "rate_limit_exceeded", "Rate limit reached for requests."],
  500: ["server_error", null, "The server had an error while processing your request."],
  503: ["server_error", "overloaded", "The engine is currently overloaded, please try again later."],
};

export function openaiErrorBody(
  status: number,
  message?: string,
  param: string | null = null,
  code?: string,
) {
  const [type, usualCode, text] = ERRORS[status] ?? ERRORS[status >= 500 ? 500 : 400]!;
  return { error: { message: message ?? text, type, param, code: code ?? usualCode } };
}

/** As the vendor sends them; the request id and the processing time come from the seed. */
export function openaiHeaders(random: Random): string[] {
  const fixed = random.fork("headers");
  return [
    "openai-organization",
    "simulated-org",
    "openai-processing-ms",
    String(20 + fixed.below(400)),
    "openai-version",
    "2020-10-01",
    "x-ratelimit-limit-requests",
    "10000",
    "x-ratelimit-limit-tokens",
    "2000000",
    "x-ratelimit-remaining-requests",
    "9999",
    "x-ratelimit-remaining-tokens",
    "1999000",
    "x-ratelimit-reset-requests",
    "6ms",
    "x-ratelimit-reset-tokens",
    "30ms",
    "x-request-id",
    `req_${fixed.bytes(16).toString("hex")}`,
    "strict-transport-security",
    "max-age=31536000; includeSubDomains; preload",
    "x-content-type-options",
    "nosniff",
  ];
}
