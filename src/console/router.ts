/**
 * From a method and a path to the row that answers them, and from what was sent to what the row's schemas
 * let through. Pure: no sockets, no tokens.
 */
import type { z } from "zod";
import { type FieldError, fault, invalid } from "./faults.ts";
import { fieldErrors } from "./issues.ts";
import type { AdminRoute, Call, Reply } from "./route.ts";

/** Of a path or a query, beyond which it is not looked at. */
const URL_UNITS_MAX = 8_192;
const MAY_ACT_AS = /^[\w.@:+-]{1,64}$/;

export interface Target {
  readonly path: string;
  readonly query: string;
}

export function targetOf(url: string): Target {
  const mark = url.indexOf("?");
  return mark < 0 ? { path: url, query: "" } : { path: url.slice(0, mark), query: url.slice(mark + 1) };
}

export type Match =
  | { readonly found: AdminRoute; readonly segments: Readonly<Record<string, string>> }
  | { readonly found: undefined; readonly allowed: readonly string[] };

export class Router {
  readonly #rows: readonly { readonly route: AdminRoute; readonly segments: readonly string[] }[];

  constructor(routes: readonly AdminRoute[]) {
    this.#rows = routes.map((route) => ({ route, segments: route.path.split("/") }));
  }

  match(method: string, path: string): Match {
    if (path.length > URL_UNITS_MAX) return { found: undefined, allowed: [] };
    const given = path.split("/");
    // A HEAD is a GET whose body node leaves out.
    const wanted = method === "HEAD" ? "GET" : method;
    const allowed = new Set<string>();
    for (const { route, segments } of this.#rows) {
      const values = matchSegments(segments, given);
      if (values === undefined) continue;
      if (route.method === wanted) return { found: route, segments: values };
      allowed.add(route.method);
      if (route.method === "GET") allowed.add("HEAD");
    }
    return { found: undefined, allowed: [...allowed] };
  }
}

/** Values of the `{name}` segments as they were sent; undefined where the path is another. */
function matchSegments(
  wanted: readonly string[],
  given: readonly string[],
): Record<string, string> | undefined {
  if (wanted.length !== given.length) return undefined;
  const values: Record<string, string> = {};
  for (const [i, segment] of wanted.entries()) {
    const value = given[i]!;
    if (segment.startsWith("{") && value !== "") values[segment.slice(1, -1)] = value;
    else if (segment !== value) return undefined;
  }
  return values;
}

export interface Sent extends Pick<Call, "actor" | "caller" | "address"> {
  readonly segments: Readonly<Record<string, string>>;
  readonly query: string;
  readonly body: unknown;
  readonly ifMatch?: string | undefined;
}

/** The call that the row's handler takes, or the answer that says what is wrong with it. */
export function checkedCall(
  route: AdminRoute,
  { segments, query, body, ...by }: Sent,
): { readonly call: Call } | { readonly refused: Reply } {
  const decoded = decodedSegments(segments);
  if (decoded === undefined) {
    return { refused: invalid([{ path: "", message: "the path holds a % that no two hex digits follow" }]) };
  }
  const params = checked(route.params, decoded);
  if (params.errors.length > 0) return { refused: invalid(params.errors) };
  if (query.length > URL_UNITS_MAX) {
    return {
      refused: invalid([{ path: "", message: `the query must have at most ${URL_UNITS_MAX} characters` }]),
    };
  }
  const read = readQuery(query);
  const asked = read.errors.length > 0 ? read : checked(route.query, read.value);
  const sent =
    route.body === undefined && body === undefined
      ? { value: undefined, errors: [] }
      : route.body === undefined
        ? { value: undefined, errors: [{ path: "", message: "this takes no body" }] }
        : checked(route.body, body ?? {});
  const errors = [...asked.errors, ...sent.errors];
  if (errors.length > 0) return { refused: invalid(errors) };
  return { call: { params: params.value, query: asked.value, body: sent.value, ...by } };
}

/** Who is said to act; undefined where the header cannot be one's name. */
export function actorOf(
  header: string | readonly string[] | undefined,
  byDefault: string,
): string | undefined {
  if (header === undefined) return byDefault;
  return typeof header === "string" && MAY_ACT_AS.test(header) ? header : undefined;
}

export const BAD_ACTOR = fault(
  "invalid",
  "x-sallyport-actor: must be 1 to 64 of letters, digits and . _ @ : + -",
  { errors: [{ path: "x-sallyport-actor", message: "must be 1 to 64 of letters, digits and . _ @ : + -" }] },
);

interface Checked {
  readonly value: unknown;
  readonly errors: readonly FieldError[];
}

function checked(schema: z.ZodType | undefined, value: unknown): Checked {
  if (schema === undefined) {
    const names = Object.keys(value as object);
    return { value: undefined, errors: names.map((path) => ({ path, message: "this takes no query" })) };
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { value: parsed.data, errors: [] };
  return { value: undefined, errors: fieldErrors(parsed.error, schema) };
}

function readQuery(query: string): Checked {
  const value: Record<string, string> = {};
  const errors: FieldError[] = [];
  for (const [name, text] of new URLSearchParams(query)) {
    if (Object.hasOwn(value, name)) errors.push({ path: name, message: "was given twice" });
    // Defined, not assigned: a parameter may be called __proto__.
    Object.defineProperty(value, name, { value: text, enumerable: true, configurable: true });
  }
  return { value, errors };
}

function decodedSegments(
  segments: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> | undefined {
  try {
    return Object.fromEntries(
      Object.entries(segments).map(([name, value]) => [name, decodeURIComponent(value)]),
    );
  } catch {
    return undefined;
  }
}
