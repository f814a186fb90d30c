/**
 * Makes a value that fits a JSON Schema, for tool arguments and structured answers that no script gave.
 * It knows the parts of JSON Schema that tool definitions use in practice, not all of it.
 */
import { asList, asObject, asText, type JsonObject } from "./json.ts";
import type { Random } from "./random.ts";

/** A schema that refers to itself stops here. */
const DEPTH_MAX = 12;

export function sampleOf(schema: unknown, random: Random): unknown {
  return sample(schema, asObject(schema) ?? {}, random, 0);
}

function sample(schema: unknown, root: JsonObject, random: Random, depth: number): unknown {
  const node = asObject(schema);
  if (node === undefined || depth > DEPTH_MAX) return null;
  const below = (part: unknown): unknown => sample(part, root, random, depth + 1);
  if ("const" in node) return node["const"];
  if (Array.isArray(node["enum"])) return node["enum"][random.below(node["enum"].length)];
  const reference = asText(node["$ref"]);
  if (reference !== undefined) return below(resolve(reference, root));
  for (const choice of ["anyOf", "oneOf", "allOf"]) {
    if (Array.isArray(node[choice])) return below(node[choice][0]);
  }
  switch (Array.isArray(node["type"]) ? node["type"][0] : node["type"]) {
    case "string":
      return random.word();
    case "integer":
      return (asNumber(node["minimum"]) ?? 0) + random.below(10);
    case "number":
      return (asNumber(node["minimum"]) ?? 0) + random.below(100) / 10;
    case "boolean":
      return random.below(2) === 1;
    case "null":
      return null;
    case "array":
      return Array.from({ length: Math.max(1, asNumber(node["minItems"]) ?? 2) }, () => below(node["items"]));
    default:
      return object(node, below);
  }
}

function object(node: JsonObject, below: (part: unknown) => unknown): Record<string, unknown> {
  const properties = asObject(node["properties"]) ?? {};
  const required = new Set(asList(node["required"]));
  const names = Object.keys(properties).filter((name) => required.size === 0 || required.has(name));
  return Object.fromEntries(names.map((name) => [name, below(properties[name])]));
}

function resolve(reference: string, root: JsonObject): unknown {
  if (!reference.startsWith("#/")) return root;
  let node: unknown = root;
  for (const part of reference.slice(2).split("/")) node = asObject(node)?.[part];
  return node;
}

function asNumber(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
