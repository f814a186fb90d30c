/**
 * The small language in which the wire format's tables are written. A shape says, for each JSON type that
 * may stand at a place, what is known of it; whatever a shape does not name is not modelled. Prompts and
 * answers are read by different walkers over the same tables.
 */
import type { Json } from "../dialect.ts";

/**
 * What a string is in a request:
 * - `words` text of the turn, tool result or schema that it stands in · `parameter` a setting or an id
 * - `media` base64 or a URL · `arguments` what the model asks of a tool · `schema` a tool's description
 */
export type StringClass = "words" | "parameter" | "media" | "arguments" | "schema";

/** Channel names of an answer's own text; any other string is `other`. */
export type Speech = "answer" | "thinking" | "signature" | "redacted" | "tool" | "tool-name" | "tool-id";

export interface Shape {
  readonly string?: StringClass;
  /** The channel in an answer, when the string is a member of a content block or a delta. */
  readonly speech?: Speech;
  /** Values that carry no text of anybody's: no segment in an answer. */
  readonly tags?: ReadonlySet<string>;
  readonly items?: Shape;
  /** A content block of the answer (or its delta), or a list of them: the number is part of channel names. */
  readonly numbered?: boolean;
  readonly fields?: ReadonlyMap<string, Shape>;
  /** Objects told apart by `type`; `untyped` is the variant of an object without one. */
  readonly variants?: ReadonlyMap<string, Shape>;
  readonly untyped?: string;
  /** Any JSON at all, every string and name in it of this class. */
  readonly tree?: StringClass;
  /** What the text below is, where that differs from its surroundings. */
  readonly within?: "tool-result" | "tool-schema" | "instructions";
  /** Stands in an answer for a value that was redacted and has no smaller part to cut. */
  readonly blank?: Json;
}

export type Fields = Readonly<Record<string, Shape>>;

/** Numbers, booleans and null only. */
export const PLAIN: Shape = {};
export const WORDS: Shape = { string: "words" };
export const PARAMETER: Shape = { string: "parameter" };
export const MEDIA: Shape = { string: "media" };

export function tags(...values: readonly string[]): Shape {
  return { string: "parameter", tags: new Set(values) };
}

export function object(fields: Fields): Shape {
  return { fields: new Map(Object.entries(fields)) };
}

export function list(items: Shape): Shape {
  return { items };
}

export function tree(kind: StringClass): Shape {
  return { tree: kind };
}

/** Objects told apart by `type`, which is itself modelled. */
export function tagged(variants: Readonly<Record<string, Fields>>): Shape {
  return {
    variants: new Map(
      Object.entries(variants).map(([type, fields]) => [type, object({ type: tags(type), ...fields })]),
    ),
  };
}

/** A place where several JSON types may stand. */
export function either(...shapes: readonly Shape[]): Shape {
  return Object.assign({}, ...shapes) as Shape;
}

/** The shape of an object, through its `type` where it has variants; undefined when that is not modelled. */
export function variantOf(shape: Shape, value: { readonly [key: string]: Json }): Shape | undefined {
  if (shape.variants === undefined) return shape.fields === undefined ? undefined : shape;
  const type = Object.hasOwn(value, "type") ? value["type"] : undefined;
  if (typeof type === "string") return shape.variants.get(type);
  return type === undefined || type === null ? shape.variants.get(shape.untyped ?? "") : undefined;
}
