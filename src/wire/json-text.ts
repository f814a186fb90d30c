/**
 * Reads JSON as text, with offsets and JSON Pointers. JSON.parse is faster but says neither where a fault
 * lies nor that a name came twice, its value cannot be written back byte for byte, and it can misread a name
 * that is spelled with an escape. So this walk runs only where one of those matters: to explain a refusal,
 * to splice new strings into a body, and to read a text with such a name.
 */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** One reference token of a JSON Pointer (RFC 6901). */
export function pointerToken(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

interface JsonTextVisitor {
  /** A member's name was read. `names` holds the names that this object had before. */
  member?(pointer: string, name: string, names: ReadonlySet<string>): void;
  /** A string value stands at `start`..`end`, its quotes included. */
  string?(pointer: string, start: number, end: number): void;
}

/** Not JSON: `offset` (UTF-16 units) is the first place where no JSON text could go on. */
export class JsonTextFault extends Error {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.name = "JsonTextFault";
    this.offset = offset;
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const ESCAPES = new Uint8Array(128);
for (const c of '"\\/bfnrt') ESCAPES[c.charCodeAt(0)] = 1;
const UNICODE_ESCAPE = /u[0-9a-fA-F]{4}/y;

const QUOTE = 34;
const COLON = 58;
const BACKSLASH = 92;

/**
 * JSON.parse, but right about names. V8 12.8 to 14.6 at least take `{"\u0061":1}` for an object with the
 * member `\` once any object of the same shape had one of that name (nodejs/node#63785): a caller could
 * hide a member from the layers that the upstream reads. Names that are spelled with an escape are rare, so
 * only a text that has one is read by the walk. Throws SyntaxError or JsonTextFault for what is not JSON;
 * nesting must be bounded by the caller.
 */
export function parseJson(text: string): Json {
  return hasEscapedName(text) ? readJsonText(text) : (JSON.parse(text) as Json);
}

/** Whether some string of the text that a colon follows has a backslash. Any text will do. */
function hasEscapedName(text: string): boolean {
  const first = text.indexOf("\\");
  if (first < 0) return false;
  for (let at = text.indexOf('"'); at >= 0; ) {
    const end = endOfString(text, at + 1);
    let after = end + 1;
    while (isSpace(text.charCodeAt(after))) after += 1;
    if (text.charCodeAt(after) === COLON && end > first && text.slice(at, end).includes("\\")) return true;
    at = text.indexOf('"', after);
  }
  return false;
}

/** Offset of the quote that closes the string whose first unit is at `from`. Each unit is looked at twice at most. */
export function endOfString(text: string, from: number): number {
  for (let at = from; ; ) {
    const quote = text.indexOf('"', at);
    if (quote < 0) return text.length;
    let run = quote;
    while (run > at && text.charCodeAt(run - 1) === BACKSLASH) run -= 1;
    if ((quote - run) % 2 === 0) return quote;
    at = quote + 1;
  }
}

function isSpace(c: number): boolean {
  return c === 32 || c === 10 || c === 13 || c === 9;
}

/** The value of a JSON text, read by the walk alone. Of two members of one name the last one stays. */
export function readJsonText(text: string): Json {
  return walk(text, {}, true);
}

/** Walks a whole JSON text in document order. Nesting must be bounded by the caller. */
export function walkJsonText(text: string, visitor: JsonTextVisitor): void {
  walk(text, visitor, false);
}

/** As JSON.parse does: `__proto__` becomes a member like any other. */
function define(object: JsonObject, name: string, value: Json): void {
  if (name !== "__proto__") object[name] = value;
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

const NO_NAMES = new Set<string>();

/** The value when it `builds` one; otherwise null. */
function walk(text: string, visitor: JsonTextVisitor, builds: boolean): Json {
  let at = 0;

  function fault(expected: string): JsonTextFault {
    const found = at < text.length ? JSON.stringify(String.fromCodePoint(text.codePointAt(at)!)) : "the end";
    return new JsonTextFault(`expected ${expected}, found ${found}`, at);
  }

  function skipSpace(): void {
    while (isSpace(text.charCodeAt(at))) at += 1;
  }

  function take(pattern: RegExp): boolean {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  }

  function string(): void {
    at += 1;
    for (; ; at++) {
      const c = text.charCodeAt(at);
      if (c === QUOTE) break;
      if (!(c >= 32)) throw fault(at < text.length ? "an escaped control character" : "a closing quote");
      if (c !== BACKSLASH) continue;
      at += 1;
      const escaped = text.charCodeAt(at);
      if (escaped === 117) {
        if (!take(UNICODE_ESCAPE)) throw fault("four hex digits after \\u");
        at -= 1;
      } else if (ESCAPES[escaped] !== 1) {
        throw fault("a JSON escape");
      }
    }
    at += 1;
  }

  function value(pointer: string): Json {
    skipSpace();
    const start = at;
    const c = text[at];
    let read: Json = null;
    if (c === '"') {
      string();
      visitor.string?.(pointer, start, at);
      if (builds) read = literal(start);
    } else if (c === "{") {
      read = object(pointer);
    } else if (c === "[") {
      read = array(pointer);
    } else if (take(NUMBER)) {
      if (builds) read = Number(text.slice(start, at));
    } else if (take(WORD)) {
      read = c === "n" ? null : c === "t";
    } else {
      throw fault("a value");
    }
    skipSpace();
    return read;
  }

  /** The string literal from `start`. JSON.parse is right about a text that has no names. */
  function literal(start: number): string {
    const inner = text.slice(start + 1, at - 1);
    return inner.includes("\\") ? (JSON.parse(text.slice(start, at)) as string) : inner;
  }

  function object(pointer: string): JsonObject {
    const members: JsonObject = {};
    const names = builds ? NO_NAMES : new Set<string>();
    at += 1;
    skipSpace();
    if (text[at] === "}") {
      at += 1;
      return {};
    }
    for (;;) {
      skipSpace();
      if (text[at] !== '"') throw fault("a member name in double quotes");
      const start = at;
      string();
      const name = literal(start);
      const below = builds ? "" : `${pointer}/${pointerToken(name)}`;
      visitor.member?.(below, name, names);
      if (!builds) names.add(name);
      skipSpace();
      if (text[at] !== ":") throw fault("':'");
      at += 1;
      const item = value(below);
      if (builds) define(members, name, item);
      if (text[at] === "}") break;
      if (text[at] !== ",") throw fault("',' or '}'");
      at += 1;
    }
    at += 1;
    return members;
  }

  function array(pointer: string): Json[] {
    const items: Json[] = [];
    at += 1;
    skipSpace();
    if (text[at] === "]") {
      at += 1;
      return items;
    }
    for (let i = 0; ; i++) {
      const item = value(builds ? "" : `${pointer}/${i}`);
      if (builds) items.push(item);
      if (text[at] === "]") break;
      if (text[at] !== ",") throw fault("',' or ']'");
      at += 1;
    }
    at += 1;
    return items;
  }

  const read = value("");
  if (at < text.length) throw fault("the end of the text");
  return read;
}

/** "line:column", both from 1, column in UTF-16 units. */
export function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset);
  const line = before.split("\n").length;
  return `${line}:${offset - before.lastIndexOf("\n")}`;
}

/**
 * The text with the strings at these JSON Pointers replaced, every other byte as it was. The text must be
 * valid JSON without doubled names. Throws when a pointer leads to no string: an edit that was asked for
 * and not made would let through what it was to remove.
 */
export function replaceStrings(text: string, edits: ReadonlyMap<string, string>): string {
  let out = "";
  let copied = 0;
  let made = 0;
  walkJsonText(text, {
    string(pointer, start, end) {
      const replacement = edits.get(pointer);
      if (replacement === undefined) return;
      out += text.slice(copied, start) + JSON.stringify(replacement);
      copied = end;
      made += 1;
    },
  });
  if (made !== edits.size) throw new Error(`${edits.size - made} of ${edits.size} edits lead to no string`);
  return out + text.slice(copied);
}
