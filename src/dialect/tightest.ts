/**
 * Several limits may hold one request, and a vendor's header has room for one. The one with the least left
 * speaks: a client that keeps to it keeps to all.
 */
import type { Quota } from "../layer/index.ts";

export interface Tightest {
  readonly requests: Quota | undefined;
  readonly inputTokens: Quota | undefined;
  readonly outputTokens: Quota | undefined;
  /** Of all limits on tokens, whichever they count. */
  readonly tokens: Quota | undefined;
}

export function tightestOf(quotas: readonly Quota[]): Tightest {
  let requests: Quota | undefined;
  let inputTokens: Quota | undefined;
  let outputTokens: Quota | undefined;
  let tokens: Quota | undefined;
  for (const quota of quotas) {
    switch (quota.unit) {
      case "requests":
        requests = tighter(requests, quota);
        break;
      case "input_tokens":
        inputTokens = tighter(inputTokens, quota);
        tokens = tighter(tokens, quota);
        break;
      case "output_tokens":
        outputTokens = tighter(outputTokens, quota);
        tokens = tighter(tokens, quota);
        break;
      case "tokens":
        tokens = tighter(tokens, quota);
        break;
      case "spend":
      case "concurrency":
        break;
      default:
        quota.unit satisfies never;
    }
  }
  return { requests, inputTokens, outputTokens, tokens };
}

function tighter(a: Quota | undefined, b: Quota): Quota {
  if (a === undefined || b.remaining < a.remaining) return b;
  return a.remaining === b.remaining && b.resetMs > a.resetMs ? b : a;
}
