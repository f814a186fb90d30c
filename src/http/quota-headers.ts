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
  if (!isOf(last, quotas)) last = policiesOf(quotas);
  const { policies, fronts } = last;
  if (policies === "") return {};
  let levels = "";
  for (let i = 0; i < fronts.length; i++) {
    const front = fronts[i];
    if (front === undefined) continue;
    const { remaining, resetMs, windowSec } = quotas[i]!;
    levels += front + remaining;
    if (windowSec > 0) levels += `;t=${Math.ceil(resetMs / 1_000)}`;
  }
  const headers = dialect.quotaHeaders(quotas, nowMs);
  headers["ratelimit-policy"] = policies;
  headers["ratelimit"] = levels;
  return headers;
}

/** What of the headers does not change from one answer to the next. */
interface Policies {
  /** Of these quotas; what is left of them aside. */
  readonly quotas: readonly Quota[];
  readonly policies: string;
  /** What stands before the level of each, undefined for those that are not shown. */
  readonly fronts: readonly (string | undefined)[];
}

/** Of the answer before: nearly all are of one seat's limits, for callers of one tier. */
let last: Policies = { quotas: [], policies: "", fronts: [] };

function isOf({ quotas: known }: Policies, quotas: readonly Quota[]): boolean {
  if (known.length !== quotas.length) return false;
  for (let i = 0; i < quotas.length; i++) {
    const [a, b] = [known[i]!, quotas[i]!];
    if (a.name !== b.name || a.unit !== b.unit || a.limit !== b.limit || a.windowSec !== b.windowSec)
      return false;
  }
  return true;
}

function policiesOf(quotas: readonly Quota[]): Policies {
  const fronts: (string | undefined)[] = [];
  let policies = "";
  let count = 0;
  for (const { name, unit, limit, windowSec } of quotas) {
    const units = UNITS[unit];
    if (units === undefined || count >= QUOTAS_MAX || !PLAIN_NAME.test(name)) {
      fronts.push(undefined);
      continue;
    }
    const separator = count === 0 ? '"' : ', "';
    count += 1;
    policies += `${separator}${name}";q=${limit}${units}`;
    if (windowSec > 0) policies += `;w=${windowSec}`;
    fronts.push(`${separator}${name}";r=`);
  }
  return { quotas, policies, fronts };
}
