/**
 * Turns zod's issues into sentences for a person: what was expected, what stands there, and for a name
 * that is not known the nearest one that is. Works for our own schemas and for those of the layers.
 */
import type { z } from "zod";
import { type FileProblem, PROBLEMS_MAX } from "./problems.ts";
import type { Spot, YamlSource } from "./yaml-source.ts";

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly spot?: Spot;
}

const UNITS: Readonly<Record<string, string>> = { string: " characters", array: " entries", set: " entries" };

/** Checks `value`, which stands at `at` in the source; the parsed value or every problem. */
export function checkShape<T>(
  schema: z.ZodType<T>,
  value: unknown,
  source: YamlSource,
  at: readonly PropertyKey[] = [],
): { readonly value: T } | { readonly problems: readonly FileProblem[] } {
  let result: z.ZodSafeParseResult<T>;
  try {
    result = schema.safeParse(value, { reportInput: true });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { problems: [source.problem(at, `could not be checked: ${why}`)] };
  }
  if (result.success) return { value: result.data };
  const issues = result.error.issues.slice(0, PROBLEMS_MAX + 1);
  const problems = issues
    .filter((issue) => !(issue.input === undefined && isThere(value, issue.path)))
    .flatMap((issue) => explain(issue, schema))
    .slice(0, PROBLEMS_MAX + 1)
    .map(({ path, message, spot }) => source.problem([...at, ...path], message, spot));
  return { problems: problems.length > 0 ? problems : source.problems };
}

/** A value that could not be read stands as undefined under its name; the reading has already said why. */
function isThere(value: unknown, path: readonly PropertyKey[]): boolean {
  let at = value;
  for (const part of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, part)) return false;
    at = (at as Readonly<Record<PropertyKey, unknown>>)[part];
  }
  return path.length > 0;
}

function explain(issue: z.core.$ZodIssue, schema: z.ZodType): readonly Issue[] {
  const { path } = issue;
  switch (issue.code) {
    case "unrecognized_keys": {
      const known = knownKeys(schema, path);
      return issue.keys.slice(0, PROBLEMS_MAX + 1).map((name) => ({
        path: [...path, name],
        message: `unknown field "${name}"${suggestion(name, known)}`,
        spot: "key",
      }));
    }
    case "invalid_type": {
      if (issue.input === undefined) return [{ path, message: missing(path, schema) }];
      return [{ path, message: `expected ${kindName(issue.expected)}, found ${shown(issue.input)}` }];
    }
    case "invalid_value": {
      if (issue.input === undefined) return [{ path, message: missing(path, schema) }];
      const values = issue.values.map((value) => JSON.stringify(value) ?? String(value));
      const wanted = values.length === 1 ? values[0]! : `one of ${values.join(", ")}`;
      const near =
        typeof issue.input === "string"
          ? nearest(
              issue.input,
              issue.values.filter((one) => typeof one === "string"),
            )
          : undefined;
      const hint = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
      return [{ path, message: `expected ${wanted}, found ${shown(issue.input)}${hint}` }];
    }
    case "too_big":
    case "too_small": {
      const bound = issue.code === "too_big" ? issue.maximum : issue.minimum;
      const side = issue.code === "too_big" ? "at most" : "at least";
      const unit = UNITS[issue.origin];
      const found = unit === undefined ? `, found ${shown(issue.input)}` : "";
      return [{ path, message: `expected ${side} ${bound}${unit ?? ""}${found}` }];
    }
    case "invalid_format":
      return [{ path, message: `expected ${plain(issue.message)}, found ${shown(issue.input)}` }];
    case "invalid_union":
      return explainUnion(issue, schema);
    case "invalid_key":
    case "invalid_element":
      return [{ path, message: plain(issue.message), spot: issue.code === "invalid_key" ? "key" : "value" }];
    default:
      return [{ path, message: plain(issue.message) }];
  }
}

/** Of a union's branches the one that got furthest is the one that was meant. */
function explainUnion(issue: z.core.$ZodIssueInvalidUnion, schema: z.ZodType): readonly Issue[] {
  if (issue.input === undefined && issue.errors.length > 0) {
    return [{ path: issue.path, message: missing(issue.path, schema) }];
  }
  const branches = issue.errors.map((issues) =>
    issues.flatMap((below) => explain({ ...below, path: [...issue.path, ...below.path] }, schema)),
  );
  const depth = (issues: readonly Issue[]) => Math.max(0, ...issues.map(({ path }) => path.length));
  const deepest = Math.max(0, ...branches.map(depth));
  if (deepest <= issue.path.length) {
    const own = branches.flat().map(({ message }) => message);
    return [
      { path: issue.path, message: own.length > 0 ? [...new Set(own)].join(" or ") : plain(issue.message) },
    ];
  }
  return branches.find((issues) => depth(issues) === deepest) ?? [];
}

function missing(path: readonly PropertyKey[], schema: z.ZodType): string {
  const name = path.at(-1);
  const about = schemaAt(schema, path)?.description;
  return `missing field "${String(name)}"${about === undefined ? "" : ` (${about.replace(/\.$/, "")})`}`;
}

function plain(message: string): string {
  return message.replace(/^Invalid [\w ]+: /, "").replace(/\.$/, "");
}

function kindName(expected: string): string {
  const names: Readonly<Record<string, string>> = {
    string: "text",
    number: "a number",
    int: "a whole number",
    boolean: "true or false",
    array: "a list",
    object: "a mapping (name: value)",
    record: "a mapping (name: value)",
    null: "nothing",
  };
  return names[expected] ?? expected;
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  const text = JSON.stringify(String(value));
  return text.length <= 60 ? text : `${text.slice(0, 57)}..."`;
}

/** `; did you mean "x"?` for a near miss, otherwise the list of what is known. */
export function suggestion(name: string, known: readonly string[]): string {
  if (known.length === 0) return "";
  const near = nearest(name, known);
  return near === undefined ? `; known: ${known.join(", ")}` : `; did you mean "${near}"?`;
}

export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.ceil(name.length / 3)) + 1;
  for (const other of known) {
    if (Math.abs(other.length - name.length) >= least) continue;
    const distance = editDistance(name.toLowerCase(), other.toLowerCase());
    if (distance < least) {
      best = other;
      least = distance;
    }
  }
  return best;
}

/** Levenshtein's, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

type AnySchema = z.core.$ZodType & { readonly description?: string | undefined };

function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  const at = schemaAt(schema, path);
  return at === undefined
    ? []
    : [...new Set(alternatives(at).flatMap((one) => Object.keys(shapeOf(one) ?? {})))];
}

/** The schema of the place at `path`; undefined where the schema does not say. */
function schemaAt(schema: AnySchema, path: readonly PropertyKey[]): AnySchema | undefined {
  let candidates: readonly AnySchema[] = [schema];
  for (const part of path) {
    candidates = candidates.flatMap(alternatives).flatMap((one) => {
      const def = (one as z.core.$ZodTypes)._zod.def;
      if (def.type === "array") return [def.element];
      if (def.type === "record") return [def.valueType];
      const below = shapeOf(one)?.[String(part)];
      return below === undefined ? [] : [below];
    });
  }
  return candidates[0];
}

/** A schema without its wrappers (default, optional, pipe ...), and every branch of a union. */
function alternatives(schema: AnySchema): readonly AnySchema[] {
  const def = (schema as z.core.$ZodTypes)._zod.def;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "readonly":
    case "catch":
    case "nonoptional":
      return alternatives(def.innerType);
    case "pipe":
      return alternatives(def.in);
    case "union":
      return def.options.flatMap(alternatives);
    default:
      return [schema];
  }
}

function shapeOf(schema: AnySchema): Readonly<Record<string, AnySchema>> | undefined {
  const def = (schema as z.core.$ZodTypes)._zod.def;
  return def.type === "object" ? def.shape : undefined;
}
