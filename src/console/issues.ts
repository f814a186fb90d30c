/**
 * What a schema found wrong with a call, as one sentence a field: what it takes, and for a name that is not
 * known the nearest one that is. Values are not repeated: somebody may have put a key in the wrong field.
 */
import type { z } from "zod";
import { formatPath } from "../policy/problems.ts";
import { suggestion } from "../policy/schema-issues.ts";
import type { FieldError } from "./faults.ts";

/** A body can be wrong in thousands of places; the first ones are enough to go on with. */
const ERRORS_MAX = 20;

export function fieldErrors(error: z.ZodError, schema: z.ZodType): readonly FieldError[] {
  return error.issues.flatMap((issue) => errorsOf(issue, schema)).slice(0, ERRORS_MAX);
}

function errorsOf(issue: z.core.$ZodIssue, schema: z.ZodType): readonly FieldError[] {
  const path = formatPath(issue.path);
  switch (issue.code) {
    case "unrecognized_keys": {
      const known = fieldsAt(schema, issue.path);
      return issue.keys.map((name) => ({
        path: formatPath([...issue.path, name]),
        message: `there is no such field${suggestion(name, known)}`,
      }));
    }
    case "invalid_type":
      return [{ path, message: typeWords(issue) }];
    case "invalid_value":
      return [{ path, message: `must be one of ${issue.values.map(String).join(", ")}` }];
    case "invalid_format":
      return [{ path, message: formatWords(issue) }];
    case "too_big":
    case "too_small": {
      const bound = issue.code === "too_big" ? `at most ${issue.maximum}` : `at least ${issue.minimum}`;
      return [
        {
          path,
          message: isOwnWords(issue.message) ? issue.message : `must be ${bound}${unitOf(issue.origin)}`,
        },
      ];
    }
    default:
      return [{ path, message: issue.message }];
  }
}

function typeWords(issue: z.core.$ZodIssueInvalidType): string {
  // zod says "received undefined" for what is not there.
  if (/received undefined$/.test(issue.message)) return "is missing";
  const words: Readonly<Record<string, string>> = {
    string: "text",
    number: "a number",
    int: "a whole number",
    boolean: "true or false",
    array: "a list",
    object: "an object",
  };
  return `must be ${words[issue.expected] ?? issue.expected}`;
}

function formatWords(issue: z.core.$ZodIssueInvalidStringFormat): string {
  if (issue.format === "datetime") return "must be a time in RFC 3339, such as 2027-01-01T12:00:00Z";
  return isOwnWords(issue.message)
    ? issue.message
    : `must be ${issue.message.replace(/^Invalid /, "a valid ")}`;
}

/** False for the sentences that zod makes by itself. */
function isOwnWords(message: string): boolean {
  return !/^(Invalid|Too (big|small)|Unrecognized)/.test(message);
}

function unitOf(origin: string): string {
  if (origin === "string") return " characters";
  return origin === "array" ? " entries" : "";
}

/** Names of the fields of the object at `path`; none where the schema has no object there. */
function fieldsAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: z.core.$ZodType | undefined = schema;
  for (const part of path) at = at === undefined ? undefined : shapeOf(at)?.[String(part)];
  return at === undefined ? [] : Object.keys(shapeOf(at) ?? {});
}

function shapeOf(schema: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | undefined {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "object":
      return def.shape;
    case "optional":
    case "default":
    case "prefault":
      return shapeOf(def.innerType);
    default:
      return undefined;
  }
}
