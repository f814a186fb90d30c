/**
 * Reads JSON as text, with offsets and JSON Pointers. JSON.parse is faster but says neither where a fault
 * lies nor that a name came twice, and its value cannot be written back byte for byte. So this walk runs
 * only where one of those is needed: to explain a refusal, and to splice new strings into a body.
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

/** Walks a whole JSON text in document order. Nesting must be bounded by the caller. */
export function walkJsonText(text: string, visitor: JsonTextVisitor): void {
  let at = 0;

  function fault(expected: string): JsonTextFault {
    const found = at < text.length ? JSON.stringify(String.fromCodePoint(text.codePointAt(at)!)) : "the end";
    return new JsonTextFault(`expected ${expected}, found ${found}`, at);
  }

  function skipSpace(): void {
    for (; at < text.length; at++) {
      const c = text.charCodeAt(at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
    }
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
      if (c === 34) break;
      if (!(c >= 32)) throw fault(at < text.length ? "an escaped control character" : "a closing quote");
      if (c !== 92) continue;
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

  function value(pointer: string): void {
    skipSpace();
    const c = text[at];
    if (c === '"') {
      const start = at;
      string();
      visitor.string?.(pointer, start, at);
    } else if (c === "{") {
      object(pointer);
    } else if (c === "[") {
      array(pointer);
    } else if (!take(NUMBER) && !take(WORD)) {
      throw fault("a value");
    }
    skipSpace();
  }

  function object(pointer: string): void {
    const names = new Set<string>();
    at += 1;
    skipSpace();
    if (text[at] === "}") {
      at += 1;
      return;
    }
    for (;;) {
      skipSpace();
      if (text[at] !== '"') throw fault("a member name in double quotes");
      const start = at;
      string();
      const name = JSON.parse(text.slice(start, at)) as string;
      const below = `${pointer}/${pointerToken(name)}`;
      visitor.member?.(below, name, names);
      names.add(name);
      skipSpace();
      if (text[at] !== ":") throw fault("':'");
      at += 1;
      value(below);
      if (text[at] === "}") break;
      if (text[at] !== ",") throw fault("',' or '}'");
      at += 1;
    }
    at += 1;
  }

  function array(pointer: string): void {
    at += 1;
    skipSpace();
    if (text[at] === "]") {
      at += 1;
      return;
    }
    for (let i = 0; ; i++) {
      value(`${pointer}/${i}`);
      if (text[at] === "]") break;
      if (text[at] !== ",") throw fault("',' or ']'");
      at += 1;
    }
    at += 1;
  }

  value("");
  if (at < text.length) throw fault("the end of the text");
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
