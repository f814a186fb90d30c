/**
 * Decides whether a request body may be read at all, so that what the layers judge is what the upstream's
 * parser will see: UTF-8 without a byte order mark, a JSON object, nested no deeper than a bound, no name
 * twice in one object, no `__proto__`, no lone surrogate. The bytes themselves are what is forwarded, so
 * integers beyond 2^53 stay as they are.
 *
 * The good case is fast: one scan for depth and colons, JSON.parse, one walk that counts members. As many
 * members as colons means that no name came twice; only a refusal pays for finding out where. A body with a
 * name that is spelled with an escape is not left to JSON.parse, which can misread it (see parseJson).
 */
import { type Problem, problem } from "../layer/problems.ts";
import {
  type Json,
  type JsonObject,
  JsonTextFault,
  lineAndColumn,
  pointerToken,
  readJsonText,
  walkJsonText,
} from "./json-text.ts";

export { replaceStrings } from "./json-text.ts";

export type Admission =
  | { readonly ok: true; readonly text: string; readonly value: JsonObject }
  | { readonly ok: false; readonly problem: Problem };

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const QUOTE = 34;
const COLON = 58;
const COMMA = 44;
const BACKSLASH = 92;
const OPEN_BRACKET = 91;
const CLOSE_BRACKET = 93;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const FORBIDDEN = "__proto__";
/** Bytes of a string looked at one by one before indexOf jumps ahead; doubled after each jump in vain. */
const STEPS_BEFORE_JUMP = 64;
/** Bounds on work: 10 MB of `[],` or of tiny members would stall the process for half a second. */
const VALUES_MAX = 1_000_000;
const MEMBERS_MAX = 250_000;
/** Of those, what a body may have that is read by the walk, which takes about four times as long. */
const SLOW_SHARE = 0.25;

export function admitJson(bytes: Buffer, options: { readonly depthMax: number }): Admission {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return refuse("body_bom");
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return refuse("body_utf8");
  }
  const { depth, colons, values, hasEscapedName } = measure(bytes, options.depthMax);
  if (depth > options.depthMax) {
    return refuse("body_too_deep", {
      message: `The body is nested more than ${options.depthMax} levels deep.`,
    });
  }
  const share = hasEscapedName ? SLOW_SHARE : 1;
  if (values > VALUES_MAX * share || colons > MEMBERS_MAX * share) {
    const why = hasEscapedName ? ", which is the most where a member's name is spelled with an escape" : "";
    return refuse("body_too_large", {
      message: `The body has more than ${VALUES_MAX * share} values or ${MEMBERS_MAX * share} object members${why}.`,
    });
  }
  let value: Json;
  try {
    value = hasEscapedName ? readJsonText(text) : (JSON.parse(text) as Json);
  } catch {
    return refuse("body_json", { message: `The body is not valid JSON${whereJsonFails(text)}.` });
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return refuse("body_not_object");

  const members = countMembers(value);
  if (members < 0) {
    const forbidden = find(value, "", isForbidden);
    if (forbidden !== undefined) return refuse("body_forbidden_key", { param: forbidden });
    return refuse("body_surrogate", { param: find(value, "", isBroken) ?? "" });
  }
  if (members !== colons) return refuse("body_duplicate_key", { param: findDuplicate(text) ?? "" });
  return { ok: true, text, value };
}

function refuse(code: Problem["code"], more: Omit<Problem, "code"> = {}): Admission {
  return { ok: false, problem: problem(code, more) };
}

interface Measures {
  readonly depth: number;
  readonly colons: number;
  readonly values: number;
  readonly hasEscapedName: boolean;
}

/**
 * Deepest nesting (up to one past `depthMax`, where it stops), the colons and about the values outside
 * strings, and whether a string before a colon has a backslash: UTF-8 never hides an ASCII byte. Linear for
 * any bytes, also those that are not JSON.
 */
function measure(bytes: Buffer, depthMax: number): Measures {
  let stringFrom = 0;
  let stringTo = 0;
  let hasEscapedName = false;
  let depth = 0;
  let deepest = 0;
  let colons = 0;
  let values = 0;
  for (let at = 0; at < bytes.length; at++) {
    const c = bytes[at];
    if (c === QUOTE) {
      stringFrom = at + 1;
      stringTo = at = endOfString(bytes, at + 1);
    } else if (c === COLON) {
      colons += 1;
      hasEscapedName ||= hasBackslash(bytes, stringFrom, stringTo);
      stringTo = stringFrom;
    } else if (c === COMMA) {
      values += 1;
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      values += 1;
      depth += 1;
      if (depth > deepest) {
        deepest = depth;
        if (depth > depthMax) break;
      }
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      depth -= 1;
    }
  }
  return { depth: deepest, colons, values, hasEscapedName };
}

function hasBackslash(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] === BACKSLASH) return true;
  return false;
}

/** Offset of the quote that closes the string whose first byte is at `from`; the length when none does. */
function endOfString(bytes: Buffer, from: number): number {
  let at = from;
  for (let steps = STEPS_BEFORE_JUMP; ; steps *= 2) {
    for (const stop = Math.min(bytes.length, at + steps); at < stop; at++) {
      const c = bytes[at];
      if (c === QUOTE) return at;
      if (c === BACKSLASH) at += 1;
    }
    if (at >= bytes.length) return bytes.length;
    // `at` does not stand right after an open escape, so the backslashes between it and the quote decide.
    const quote = bytes.indexOf(QUOTE, at);
    if (quote < 0) return bytes.length;
    let run = quote;
    while (run > at && bytes[run - 1] === BACKSLASH) run -= 1;
    if ((quote - run) % 2 === 0) return quote;
    at = quote + 1;
  }
}

/** Members of all objects below `value`, or -1 when a name is forbidden or a string has a lone surrogate. */
function countMembers(value: Json): number {
  if (typeof value === "string") return value.isWellFormed() ? 0 : -1;
  if (value === null || typeof value !== "object") return 0;
  if (Array.isArray(value)) {
    let count = 0;
    for (const item of value) {
      if (typeof item === "number") continue;
      const below = countMembers(item);
      if (below < 0) return -1;
      count += below;
    }
    return count;
  }
  const names = Object.keys(value);
  let count = names.length;
  for (const name of names) {
    if (name === FORBIDDEN || !name.isWellFormed()) return -1;
    const below = countMembers(value[name]!);
    if (below < 0) return -1;
    count += below;
  }
  return count;
}

function isForbidden(text: string, isName: boolean): boolean {
  return isName && text === FORBIDDEN;
}

function isBroken(text: string): boolean {
  return !text.isWellFormed();
}

/** Pointer of the first string or member for which `test` holds. */
function find(
  value: Json,
  pointer: string,
  test: (text: string, isName: boolean) => boolean,
): string | undefined {
  if (typeof value === "string") return test(value, false) ? pointer : undefined;
  if (value === null || typeof value !== "object") return undefined;
  const isArray = Array.isArray(value);
  for (const [name, item] of Object.entries(value)) {
    const below = `${pointer}/${pointerToken(name)}`;
    if (!isArray && test(name, true)) return below;
    const found = find(item, below, test);
    if (found !== undefined) return found;
  }
  return undefined;
}

function findDuplicate(text: string): string | undefined {
  let found: string | undefined;
  walkJsonText(text, {
    member(pointer, name, names) {
      if (found === undefined && names.has(name)) found = pointer;
    },
  });
  return found;
}

function whereJsonFails(text: string): string {
  try {
    walkJsonText(text, {});
  } catch (error) {
    if (error instanceof JsonTextFault) return ` at ${lineAndColumn(text, error.offset)}: ${error.message}`;
    throw error;
  }
  return "";
}
