/**
 * The routes that the gateway knows. A path is matched to the letter, with no decoding and no
 * normalising, so that what is matched is what is forwarded; anything else is 404. Which of them are
 * served is the policy's choice.
 */
import type { DialectName, Operation } from "../layer/index.ts";

export interface RouteKind {
  /** As the policy lists it. */
  readonly id: string;
  readonly dialect: DialectName;
  readonly operation: Operation;
  readonly method: "GET" | "POST";
  /** A segment ":name" takes one path segment. */
  readonly path: string;
}

export const ROUTES: readonly RouteKind[] = [
  { id: "openai.chat", dialect: "openai", operation: "chat", method: "POST", path: "/v1/chat/completions" },
  {
    id: "openai.completions",
    dialect: "openai",
    operation: "completions",
    method: "POST",
    path: "/v1/completions",
  },
  {
    id: "openai.responses",
    dialect: "openai",
    operation: "responses",
    method: "POST",
    path: "/v1/responses",
  },
  {
    id: "openai.embeddings",
    dialect: "openai",
    operation: "embeddings",
    method: "POST",
    path: "/v1/embeddings",
  },
  {
    id: "openai.moderations",
    dialect: "openai",
    operation: "moderations",
    method: "POST",
    path: "/v1/moderations",
  },
  { id: "openai.models", dialect: "openai", operation: "models", method: "GET", path: "/v1/models" },
  { id: "openai.models", dialect: "openai", operation: "models", method: "GET", path: "/v1/models/:model" },
  { id: "openai.realtime", dialect: "openai", operation: "realtime", method: "GET", path: "/v1/realtime" },
  {
    id: "anthropic.messages",
    dialect: "anthropic",
    operation: "messages",
    method: "POST",
    path: "/v1/messages",
  },
  {
    id: "anthropic.count_tokens",
    dialect: "anthropic",
    operation: "count_tokens",
    method: "POST",
    path: "/v1/messages/count_tokens",
  },
  { id: "anthropic.models", dialect: "anthropic", operation: "models", method: "GET", path: "/v1/models" },
  {
    id: "anthropic.models",
    dialect: "anthropic",
    operation: "models",
    method: "GET",
    path: "/v1/models/:model",
  },
];

export interface Target {
  readonly pathname: string;
  /** Path parameters and query, decoded; what is scanned and what the query is made of again. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
  /** The query in our own encoding, with its "?"; "" without one. */
  readonly search: string;
}

export type Match =
  | { readonly found: "route"; readonly route: RouteKind; readonly target: Target }
  | { readonly found: "none" | "method" | "query"; readonly dialect: DialectName; readonly pathname: string };

const EXACT = new Map<string, RouteKind[]>();
const PREFIXED: { readonly prefix: string; readonly name: string; readonly route: RouteKind }[] = [];
for (const route of ROUTES) {
  const colon = route.path.indexOf(":");
  if (colon >= 0) {
    PREFIXED.push({ prefix: route.path.slice(0, colon), name: route.path.slice(colon + 1), route });
    continue;
  }
  const listed = EXACT.get(route.path);
  if (listed === undefined) EXACT.set(route.path, [route]);
  else listed.push(route);
}

/** Query parameters per request; more is `query_invalid`. */
const PARAMETERS_MAX = 64;

/**
 * Finds the route of a request target. Both vendors use /v1/models: the one who sends `anthropic-version`
 * means Anthropic's.
 */
export function matchRoute(method: string, url: string, speaksAnthropic: boolean): Match {
  const question = url.indexOf("?");
  const pathname = question < 0 ? url : url.slice(0, question);
  const wanted: DialectName = speaksAnthropic ? "anthropic" : "openai";
  const [candidates, value] = candidatesFor(pathname);
  const route = pick(candidates, method, wanted);
  if (route === undefined) {
    const dialect = pathname.startsWith("/v1/messages") ? "anthropic" : wanted;
    return { found: candidates.length > 0 ? "method" : "none", dialect, pathname };
  }
  const parameters: [string, string][] = [];
  if (value !== undefined) {
    const decoded = decodeSegment(value);
    if (decoded === undefined) return { found: "query", dialect: route.dialect, pathname };
    parameters.push(["model", decoded]);
  }
  let search = "";
  if (question >= 0) {
    const query = decodeQuery(url.slice(question + 1));
    if (query === undefined) return { found: "query", dialect: route.dialect, pathname };
    parameters.push(...query);
    search = encodeQuery(query);
  }
  return { found: "route", route, target: { pathname, parameters, search } };
}

function candidatesFor(pathname: string): [RouteKind[], string | undefined] {
  const exact = EXACT.get(pathname);
  if (exact !== undefined) return [exact, undefined];
  const found = PREFIXED.filter(
    ({ prefix }) => pathname.startsWith(prefix) && /^[^/?#\\]+$/.test(pathname.slice(prefix.length)),
  );
  const first = found[0];
  if (first === undefined) return [[], undefined];
  return [found.map(({ route }) => route), pathname.slice(first.prefix.length)];
}

function pick(candidates: readonly RouteKind[], method: string, wanted: DialectName): RouteKind | undefined {
  const able = candidates.filter((route) => route.method === method);
  return able.length > 1 ? able.find((route) => route.dialect === wanted) : able[0];
}

/** Undefined for bad escapes, and for a value with a segment that a path would read as a step ("..", "a/../b"). */
function decodeSegment(value: string): string | undefined {
  try {
    const decoded = decodeURIComponent(value);
    const sly =
      /[\\\u0000-\u001f]/.test(decoded) || decoded.split("/").some((part) => part === "." || part === "..");
    return sly ? undefined : decoded;
  } catch {
    return undefined;
  }
}

function decodeQuery(query: string): [string, string][] | undefined {
  const parts = query.split("&").filter((part) => part !== "");
  if (parts.length > PARAMETERS_MAX) return undefined;
  const parameters: [string, string][] = [];
  for (const part of parts) {
    const equals = part.indexOf("=");
    try {
      const [name, value] = equals < 0 ? [part, ""] : [part.slice(0, equals), part.slice(equals + 1)];
      parameters.push([
        decodeURIComponent(name.replaceAll("+", " ")),
        decodeURIComponent(value.replaceAll("+", " ")),
      ]);
    } catch {
      return undefined;
    }
  }
  const names = new Set(parameters.map(([name]) => name));
  const repeated = parameters.some(
    ([name]) => !name.endsWith("[]") && names.size < parameters.length && count(parameters, name) > 1,
  );
  return repeated ? undefined : parameters;
}

function count(parameters: readonly (readonly [string, string])[], name: string): number {
  return parameters.reduce((sum, [other]) => sum + (other === name ? 1 : 0), 0);
}

function encodeQuery(query: readonly (readonly [string, string])[]): string {
  if (query.length === 0) return "";
  return `?${query.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&")}`;
}
