/**
 * How much of each limit is left, in the headers of an answer: the fields that are on their way to a standard
 * (draft-ietf-httpapi-ratelimit-headers-11), and the vendor's own, which its clients know.
 *
 *   RateLimit-Policy: "key-requests";q=600;w=60, "key-tokens";q=90000;qu="tokens";w=60
 *   RateLimit: "key-requests";r=599;t=60, "key-tokens";r=88000;t=12
 */
import type { Dialect } from "../dialect/dialect.ts";
import type { Quota } from "../layer/index.ts";

/** A policy has few; what a layer of the operator's own lists beyond is left out. */
const QUOTAS_MAX = 32;
/** What may stand between the quotes of a structured field's string (RFC 9651) without escapes. */
const PLAIN_NAME = /^[ !#-[\]-~]{1,64}$/;

/**
 * `qu` where the unit is not requests. The draft registers none for tokens; left out, it would say requests.
 * Undefined: not shown, as the draft has no unit for money.
 */
const UNITS: Readonly<Record<Quota["unit"], string | undefined>> = {
  requests: "",
  input_tokens: ';qu="input-tokens"',
  output_tokens: ';qu="output-tokens"',
  tokens: ';qu="tokens"',
  concurrency: ';qu="concurrent-requests"',
  spend: undefined,
};

export function quotaHeaders(
  quotas: readonly Quota[],
  dialect: Pick<Dialect, "quotaHeaders">,
  nowMs: number = Date.now(),
): Record<string, string> {
  let policies = "";
  let levels = "";
  let count = 0;
  for (const { name, unit, limit, remaining, resetMs, windowSec } of quotas) {
    const units = UNITS[unit];
    if (units === undefined || count >= QUOTAS_MAX || !PLAIN_NAME.test(name)) continue;
    const separator = count === 0 ? '"' : ', "';
    count += 1;
    policies += `${separator}${name}";q=${limit}${units}`;
    levels += `${separator}${name}";r=${remaining}`;
    if (windowSec > 0) {
      policies += `;w=${windowSec}`;
      levels += `;t=${Math.ceil(resetMs / 1_000)}`;
    }
  }
  if (count === 0) return {};
  const headers = dialect.quotaHeaders(quotas, nowMs);
  headers["ratelimit-policy"] = policies;
  headers["ratelimit"] = levels;
  return headers;
}
