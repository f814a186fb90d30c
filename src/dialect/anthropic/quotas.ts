/** What is left, in Anthropic's headers: `anthropic-ratelimit-*`, with times as RFC 3339 instants. */
import type { Quota } from "../../layer/index.ts";
import { tightestOf } from "../tightest.ts";

export function quotaHeaders(quotas: readonly Quota[], nowMs: number): Record<string, string> {
  const { requests, tokens, inputTokens, outputTokens } = tightestOf(quotas);
  const headers: Record<string, string> = {};
  if (requests !== undefined) {
    headers["anthropic-ratelimit-requests-limit"] = String(requests.limit);
    headers["anthropic-ratelimit-requests-remaining"] = String(requests.remaining);
    headers["anthropic-ratelimit-requests-reset"] = instant(nowMs + requests.resetMs);
  }
  // The vendor's word for it: the most restrictive limit on tokens that is in effect.
  if (tokens !== undefined) {
    headers["anthropic-ratelimit-tokens-limit"] = String(tokens.limit);
    headers["anthropic-ratelimit-tokens-remaining"] = String(tokens.remaining);
    headers["anthropic-ratelimit-tokens-reset"] = instant(nowMs + tokens.resetMs);
  }
  if (inputTokens !== undefined) {
    headers["anthropic-ratelimit-input-tokens-limit"] = String(inputTokens.limit);
    headers["anthropic-ratelimit-input-tokens-remaining"] = String(inputTokens.remaining);
    headers["anthropic-ratelimit-input-tokens-reset"] = instant(nowMs + inputTokens.resetMs);
  }
  if (outputTokens !== undefined) {
    headers["anthropic-ratelimit-output-tokens-limit"] = String(outputTokens.limit);
    headers["anthropic-ratelimit-output-tokens-remaining"] = String(outputTokens.remaining);
    headers["anthropic-ratelimit-output-tokens-reset"] = instant(nowMs + outputTokens.resetMs);
  }
  return headers;
}

let lastSecond = Number.NaN;
let lastText = "";

/** To the second, rounded up. Most instants of one answer, and of answers near it, are the same. */
export function instant(ms: number): string {
  const second = Math.ceil(ms / 1_000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastText = `${new Date(second * 1_000).toISOString().slice(0, 19)}Z`;
  }
  return lastText;
}
