/**
 * The one table of coded errors: everything that can end a request other than a complete answer. The code
 * is stable: decisions, metrics, docs and clients depend on it. `source` says whose fault it is; `text` is
 * what the caller may read. The private detail goes to the log, never to the caller.
 */

export type Source = "client" | "upstream" | "layer" | "store" | "gateway";

export interface ProblemEntry {
  readonly status: number;
  readonly source: Source;
  readonly text: string;
}

export const PROBLEMS = {
  // The client's request
  route_unknown: { status: 404, source: "client", text: "This route is not served here." },
  method_not_allowed: { status: 405, source: "client", text: "This route does not take this method." },
  header_duplicate: {
    status: 400,
    source: "client",
    text: "A header that must be single was sent more than once.",
  },
  header_invalid: { status: 400, source: "client", text: "A header could not be read." },
  headers_too_large: { status: 431, source: "client", text: "The request's headers are too large." },
  query_invalid: { status: 400, source: "client", text: "The query string could not be read." },
  body_missing: { status: 400, source: "client", text: "This route needs a JSON body." },
  body_unexpected: { status: 400, source: "client", text: "This route takes no body." },
  body_media_type: { status: 415, source: "client", text: "The body must be application/json." },
  body_encoding: {
    status: 415,
    source: "client",
    text: "The body's content-encoding must be gzip, deflate, br or absent.",
  },
  body_inflate: { status: 400, source: "client", text: "The body could not be decompressed." },
  body_too_large: { status: 413, source: "client", text: "The request body is too large." },
  body_timeout: { status: 408, source: "client", text: "The request body did not arrive in time." },
  body_incomplete: { status: 400, source: "client", text: "The request body ended early." },
  body_utf8: { status: 400, source: "client", text: "The body is not valid UTF-8." },
  body_bom: {
    status: 400,
    source: "client",
    text: "The body starts with a byte order mark; send plain UTF-8.",
  },
  body_json: { status: 400, source: "client", text: "The body is not valid JSON." },
  body_not_object: { status: 400, source: "client", text: "The body must be a JSON object." },
  body_too_deep: { status: 400, source: "client", text: "The body is nested too deeply." },
  body_duplicate_key: {
    status: 400,
    source: "client",
    text: "The body has an object that names a key twice.",
  },
  body_forbidden_key: { status: 400, source: "client", text: "The body has a key named __proto__." },
  body_surrogate: { status: 400, source: "client", text: "The body has a string with a lone surrogate." },
  field_unknown: {
    status: 400,
    source: "client",
    text: "The body has a field that this gateway does not know.",
  },
  client_gone: { status: 499, source: "client", text: "The client closed the connection." },
  // What the layers decided
  unauthenticated: { status: 401, source: "layer", text: "No valid API key was given." },
  forbidden: { status: 403, source: "layer", text: "This API key may not do that." },
  rate_limited: { status: 429, source: "layer", text: "Too many requests; retry after the time given." },
  account_suspended: {
    status: 403,
    source: "layer",
    text: "This account may not use the API now; ask the operator.",
  },
  prompt_blocked: { status: 400, source: "layer", text: "The request was refused by the usage policy." },
  answer_blocked: { status: 200, source: "layer", text: "The answer was withheld by the usage policy." },
  answer_refused: { status: 400, source: "layer", text: "The answer was refused by the usage policy." },
  answer_cut: { status: 200, source: "layer", text: "The answer was cut at a usage limit." },
  layer_failed: {
    status: 503,
    source: "layer",
    text: "A check that this request needs did not finish; retry later.",
  },
  // The upstream
  upstream_not_configured: {
    status: 503,
    source: "gateway",
    text: "No upstream is configured for this route.",
  },
  upstream_connect: { status: 502, source: "upstream", text: "The model API could not be reached." },
  upstream_connect_timeout: {
    status: 504,
    source: "upstream",
    text: "The model API did not accept a connection in time.",
  },
  upstream_first_byte_timeout: {
    status: 504,
    source: "upstream",
    text: "The model API did not start to answer in time.",
  },
  upstream_idle_timeout: { status: 504, source: "upstream", text: "The model API stopped sending." },
  upstream_total_timeout: {
    status: 504,
    source: "upstream",
    text: "The answer took longer than is allowed.",
  },
  upstream_reset: { status: 502, source: "upstream", text: "The model API closed the connection." },
  upstream_truncated: { status: 502, source: "upstream", text: "The model API ended its answer early." },
  upstream_protocol: {
    status: 502,
    source: "upstream",
    text: "The model API sent an answer that breaks HTTP.",
  },
  upstream_content_type: {
    status: 502,
    source: "upstream",
    text: "The model API answered in a format that was not asked for.",
  },
  upstream_encoding: {
    status: 502,
    source: "upstream",
    text: "The model API answered with a content-encoding that was not asked for.",
  },
  upstream_body: { status: 502, source: "upstream", text: "The model API's answer could not be read." },
  upstream_too_large: { status: 502, source: "upstream", text: "The model API's answer is too large." },
  upstream_event_too_large: {
    status: 502,
    source: "upstream",
    text: "The model API sent an event that is too large.",
  },
  upstream_event_unknown: {
    status: 502,
    source: "upstream",
    text: "The model API sent an event that this gateway does not know.",
  },
  upstream_error: { status: 502, source: "upstream", text: "The model API reported an error." },
  // Ourselves
  hold_overflow: {
    status: 502,
    source: "gateway",
    text: "The answer could not be judged within the memory allowed.",
  },
  hold_exhausted: {
    status: 503,
    source: "gateway",
    text: "The gateway has no room to judge this answer now; retry later.",
  },
  connections_exhausted: {
    status: 503,
    source: "gateway",
    text: "The gateway has no room for this request; retry later.",
  },
  overloaded: {
    status: 503,
    source: "gateway",
    text: "The model API is at its capacity; retry after the time given.",
  },
  draining: { status: 503, source: "gateway", text: "The gateway is shutting down; retry." },
  spool_unavailable: {
    status: 503,
    source: "store",
    text: "The gateway cannot record decisions; retry later.",
  },
  internal: { status: 500, source: "gateway", text: "The gateway failed; the reference id is in the log." },
} as const satisfies Record<string, ProblemEntry>;

export type ProblemCode = keyof typeof PROBLEMS;

/** How a request ended, for decisions and metrics. */
export type Cause = "complete" | ProblemCode;

/** A problem on its way to the caller. `detail` is for the log alone; `param` names the field at fault. */
export interface Problem {
  readonly code: ProblemCode;
  readonly detail?: string;
  readonly param?: string;
  /** Public words that replace the table's, where they can name the field and the fix. */
  readonly message?: string;
  readonly retryAfterMs?: number;
}

export function problem(code: ProblemCode, more: Omit<Problem, "code"> = {}): Problem {
  return { code, ...more };
}
