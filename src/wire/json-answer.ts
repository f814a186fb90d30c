/**
 * JSON that the upstream sends, read so that what is judged is what leaves: nesting is bounded, and a text
 * that two parsers could read differently (an object that names a member twice) is written anew from the
 * one reading that was judged. The ordinary text passes as it came.
 */
import { endOfString, type Json, parseJson } from "./json-text.ts";

export interface AnswerJson {
  readonly value: Json;
  /** What may be sent: the text itself, or the reading written anew. */
  readonly text: string;
}

const QUOTE = 34;

/** `too_deep`: nested more than `depthMax` levels. */
export function readAnswerJson(text: string, depthMax: number): AnswerJson | "not_json" | "too_deep" {
  const colons = countColons(text, depthMax);
  if (colons < 0) return "too_deep";
  try {
    const value = parseJson(text);
    return { value, text: countMembers(value) === colons ? text : JSON.stringify(value) };
  } catch {
    return "not_json";
  }
}

/** Colons outside strings, which are the members that the text names; -1 beyond `depthMax`. */
function countColons(text: string, depthMax: number): number {
  let colons = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at + 1);
        break;
      case 58: // :
        colons += 1;
        break;
      case 91: // [
      case 123: // {
        depth += 1;
        if (depth > depthMax) return -1;
        break;
      case 93: // ]
      case 125: // }
        depth -= 1;
        break;
    }
  }
  return colons;
}

function countMembers(value: Json): number {
  if (value === null || typeof value !== "object") return 0;
  let count = 0;
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === "object") count += countMembers(item);
    return count;
  }
  for (const name in value) {
    count += 1;
    const item = value[name];
    if (typeof item === "object") count += countMembers(item);
  }
  return count;
}
