/** What is left, in OpenAI's headers: `x-ratelimit-*`, with times as Go writes durations ("120ms", "6m0s"). */
import type { Quota } from "../../layer/index.ts";
import { tightestOf } from "../tightest.ts";

export function quotaHeaders(quotas: readonly Quota[]): Record<string, string> {
  const { requests, tokens } = tightestOf(quotas);
  const headers: Record<string, string> = {};
  if (requests !== undefined) {
    headers["x-ratelimit-limit-requests"] = String(requests.limit);
    headers["x-ratelimit-remaining-requests"] = String(requests.remaining);
    headers["x-ratelimit-reset-requests"] = duration(requests.resetMs);
  }
  if (tokens !== undefined) {
    headers["x-ratelimit-limit-tokens"] = String(tokens.limit);
    headers["x-ratelimit-remaining-tokens"] = String(tokens.remaining);
    headers["x-ratelimit-reset-tokens"] = duration(tokens.resetMs);
  }
  return headers;
}

/** Whole milliseconds below a second, whole seconds above, rounded up. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.ceil(ms))}ms`;
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${seconds % 60}s`;
  return `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds % 60}s`;
}
