/**
 * A small language for field tables, so that the vendor's vocabulary is data and not code. One table serves
 * both directions: the prompt walker turns a placement into a leaf's kind and role, the answer walker into
 * a channel. What no table names is by definition unmodelled.
 *
 *   name            a known member: strings (also in lists) are parameters
 *   name:words      ... placed as `words`
 *   name:schema*    any JSON below, strings placed as `schema`, member names covered
 *   name{a b{c}}    an object (or list of objects) with these members
 *   name@part       an object (or list of objects) of the union `part`, told apart by its `type`
 *   *:words@part    every other member; its name is covered too
 */
import type { Json, JsonObject } from "../dialect.ts";

/**
 * - `param` setting, id or enumerated word · `words` what a turn says · `refusal` · `thinking` · `transcript`
 * - `call` name of a tool that the model calls · `arguments` what it asks · `result` what the tool gave back
 * - `schema` tool or format definition · `media` base64 or address · `unknown` a string where none belongs
 */
export type Placement =
  | "param"
  | "words"
  | "refusal"
  | "thinking"
  | "transcript"
  | "call"
  | "arguments"
  | "result"
  | "schema"
  | "media"
  | "unknown";

export type Members = ReadonlyMap<string, Rule>;

export interface Rule {
  /** Placement of strings here and in lists here. */
  readonly place: Placement;
  /** Objects here may hold any JSON. */
  readonly free: boolean;
  readonly members: Members | undefined;
  readonly union: Union | undefined;
}

interface Union {
  cases: ReadonlyMap<string, Members>;
  /** Type of an object that names none. */
  untyped: (value: JsonObject) => string;
}

/** Name under which a table keeps the rule for members that it does not list. */
export const ANY_NAME = "*";

const PLACEMENTS: ReadonlySet<string> = new Set<Placement>([
  "param",
  "words",
  "refusal",
  "thinking",
  "transcript",
  "call",
  "arguments",
  "result",
  "schema",
  "media",
  "unknown",
]);
const ENTRY = /^(\*|\w+)(?::(\w+))?(\*)?(?:@([\w-]+))?$/;
const UNIONS = new Map<string, Union>();

function unionNamed(name: string): Union {
  let union = UNIONS.get(name);
  if (union === undefined) {
    union = { cases: new Map(), untyped: () => "" };
    UNIONS.set(name, union);
  }
  return union;
}

/** Reads a field table. A malformed one is a bug in this folder and throws when the module loads. */
export function shape(table: string): Members {
  const tokens = table.match(/[{}]|[^\s{}]+/g) ?? [];
  let next = 0;
  const level = (): Members => {
    const members = new Map<string, Rule>();
    while (next < tokens.length && tokens[next] !== "}") {
      const entry = ENTRY.exec(tokens[next++] ?? "");
      const name = entry?.[1];
      const place = entry?.[2];
      if (entry === null || name === undefined || (place !== undefined && !PLACEMENTS.has(place)))
        throw new Error(`field table: cannot read "${tokens[next - 1]}"`);
      let below: Members | undefined;
      if (tokens[next] === "{") {
        next++;
        below = level();
        next++;
      }
      const union = entry[4] === undefined ? undefined : unionNamed(entry[4]);
      const scalar = below === undefined && union === undefined;
      members.set(name, {
        place: (place as Placement | undefined) ?? (scalar ? "param" : "unknown"),
        free: entry[3] !== undefined,
        members: below,
        union,
      });
    }
    return members;
  };
  return level();
}

/** Fills the union `name`; `common` members belong to every case. */
export function defineUnion(
  name: string,
  common: string,
  cases: Readonly<Record<string, string>>,
  untyped: (value: JsonObject) => string = () => "",
): void {
  const union = unionNamed(name);
  union.cases = new Map(Object.entries(cases).map(([type, table]) => [type, shape(`${common} ${table}`)]));
  union.untyped = untyped;
}

/** A list or object of the union `name`, for callers that start inside one. */
export function unionRule(name: string): Rule {
  return { place: "unknown", free: false, members: undefined, union: unionNamed(name) };
}

/** An object with these members. */
export function objectRule(table: string): Rule {
  return { place: "unknown", free: false, members: shape(table), union: undefined };
}

/** Known members of `value` under `rule`; undefined when no object of its type belongs here. */
export function membersOf(rule: Rule, value: JsonObject): Members | undefined {
  if (rule.union === undefined) return rule.members;
  const type = value["type"];
  return rule.union.cases.get(typeof type === "string" ? type : rule.union.untyped(value));
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
