/**
 * Headers in and out. What goes upstream and what comes back is an allow-list: hop-by-hop fields, the
 * caller's credential and everything unknown stay behind. A header that must be single and is not is
 * refused, because two readers would pick different ones.
 */
import { type Problem, problem } from "../layer/index.ts";

/**
 * Request headers that the upstream may see, besides our own framing and credential. Not among them:
 * `openai-organization` and `openai-project`, by which a caller would choose whom our key bills.
 */
const TO_UPSTREAM = new Set([
  "accept",
  "user-agent",
  "idempotency-key",
  "openai-beta",
  "anthropic-version",
  "anthropic-beta",
  "anthropic-dangerous-direct-browser-access",
]);
const TO_UPSTREAM_PREFIX = "x-stainless-";

/** Answer headers that the caller may see, besides our own framing. */
const TO_CLIENT = new Set([
  "x-request-id",
  "request-id",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  "openai-organization",
  "openai-processing-ms",
  "openai-project",
  "openai-version",
  "openai-model",
  "anthropic-organization-id",
]);
const TO_CLIENT_PREFIXES = ["x-ratelimit-", "anthropic-ratelimit-"];

export type HeadersRead =
  | { readonly ok: true; readonly headers: Record<string, string> }
  | { readonly ok: false; readonly problem: Problem };

/** Lower-case names to values from node's flat rawHeaders list. */
export function readHeaders(rawHeaders: readonly string[]): HeadersRead {
  const headers: Record<string, string> = { __proto__: null } as unknown as Record<string, string>;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    const value = rawHeaders[i + 1]!;
    const earlier = headers[name];
    if (earlier === undefined) {
      headers[name] = value;
    } else if (mayRepeat(name)) {
      headers[name] = `${earlier}, ${value}`;
    } else {
      return { ok: false, problem: problem("header_duplicate", { param: name }) };
    }
  }
  return { ok: true, headers };
}

/** Lists by RFC 9110 that clients and proxies do send in several lines. None decides framing or identity. */
function mayRepeat(name: string): boolean {
  return (
    name === "accept" ||
    name === "accept-encoding" ||
    name === "accept-language" ||
    name === "cache-control" ||
    name === "via" ||
    name === "forwarded" ||
    name === "x-forwarded-for" ||
    name === "cookie" ||
    name === "anthropic-beta" ||
    name === "openai-beta"
  );
}

/** The presented key: `x-api-key`, or `Authorization: Bearer`. Both with different values are refused. */
export function credentialOf(headers: Readonly<Record<string, string>>): string | undefined | Problem {
  const direct = headers["x-api-key"];
  const authorization = headers["authorization"];
  if (authorization === undefined) return direct;
  const bearer = /^bearer +([^\s]+) *$/i.exec(authorization)?.[1];
  if (bearer === undefined)
    return (
      direct ??
      problem("header_invalid", {
        param: "authorization",
        message: "Send the key as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
      })
    );
  if (direct !== undefined && direct !== bearer) {
    return problem("header_duplicate", {
      param: "authorization",
      message: "authorization and x-api-key name different keys; send one.",
    });
  }
  return bearer;
}

/** A flat name, value list for the upstream call: allow-listed fields only. */
export function upstreamHeaders(headers: Readonly<Record<string, string>>): string[] {
  const out: string[] = [];
  for (const name in headers) {
    if (TO_UPSTREAM.has(name) || name.startsWith(TO_UPSTREAM_PREFIX)) out.push(name, headers[name]!);
  }
  return out;
}

/** The upstream's answer headers that may pass, from undici's record. */
export function clientHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name in headers) {
    const lower = name.toLowerCase();
    if (!TO_CLIENT.has(lower) && !TO_CLIENT_PREFIXES.some((prefix) => lower.startsWith(prefix))) continue;
    const value = headers[name];
    if (typeof value === "string") out[lower] = value;
  }
  return out;
}

/** Adds them without the upstream's own rate limit headers: those speak of our account there, not of the caller's here. */
export function addWithoutQuotas(
  out: Record<string, string>,
  headers: Readonly<Record<string, string>>,
): void {
  for (const name in headers) {
    if (!TO_CLIENT_PREFIXES.some((prefix) => name.startsWith(prefix))) out[name] = headers[name]!;
  }
}
