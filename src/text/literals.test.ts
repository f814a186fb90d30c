/** The automaton against a slow oracle that looks at every end of the text by itself, at every split of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  compileLiterals,
  isWordUnit,
  type LiteralOptions,
  type Literals,
  TABLE_CELLS_MAX,
} from "./literals.ts";

interface Match {
  readonly id: number;
  readonly end: number;
}

function scan(literals: Literals, chunks: readonly string[]): { matches: Match[]; depth: number } {
  const matches: Match[] = [];
  const cursor = { state: 0, at: 0 };
  let base = 0;
  for (const chunk of chunks) {
    cursor.at = 0;
    while (literals.advance(chunk, cursor)) {
      for (const id of literals.ended(cursor.state)) matches.push({ id, end: base + cursor.at });
    }
    base += chunk.length;
  }
  return {
    matches: matches.sort((a, b) => a.end - b.end || a.id - b.id),
    depth: literals.depth(cursor.state),
  };
}

/** The whole text in one go, which remembers words. */
function scanWhole(literals: Literals, text: string): Match[] {
  const matches: Match[] = [];
  const ends = literals.endsIn(text);
  for (let i = 0; i < ends.length; i += 2)
    for (const id of literals.ended(ends[i + 1]!)) matches.push({ id, end: ends[i]! });
  return matches.sort((a, b) => a.end - b.end || a.id - b.id);
}

function fold(text: string, options: LiteralOptions): string {
  return options.ignoreCase ? text.toLowerCase() : text;
}

/** Whether `part` stands at the end of `seen` and may begin where it does. */
function stands(part: string, seen: string, options: LiteralOptions): boolean {
  if (!seen.endsWith(part)) return false;
  const before = seen.charCodeAt(seen.length - part.length - 1);
  return !(options.wordStart && isWordUnit(part.charCodeAt(0)) && isWordUnit(before));
}

function oracle(literals: readonly string[], text: string, options: LiteralOptions) {
  const space = (s: string) => (options.collapseSpace ? s.replace(/\s+/g, " ") : s);
  const parts = literals.map((literal) =>
    fold(options.collapseSpace ? space(literal.trim()) : literal, options),
  );
  const matches: Match[] = [];
  for (let end = 1; end <= text.length; end++) {
    if (options.collapseSpace && /\s/.test(text[end - 1]!)) continue;
    const seen = fold(space(text.slice(0, end)), options);
    parts.forEach((part, id) => {
      if (stands(part, seen, options)) matches.push({ id, end });
    });
  }
  let depth = 0;
  const all = fold(space(text), options);
  parts.forEach((part, id) => {
    if (!(options.held?.(id) ?? true)) return;
    for (let length = part.length - 1; length > depth; length--) {
      if (stands(part.slice(0, length), all, options)) depth = length;
    }
  });
  return { matches, depth };
}

const word = fc.string({
  unit: fc.constantFrom("a", "b", "A", "-", " ", "\n", "é"),
  minLength: 1,
  maxLength: 5,
});
const optionSets: readonly LiteralOptions[] = [
  {},
  { ignoreCase: true },
  { wordStart: true },
  { held: (id) => id % 2 === 0 },
  { ignoreCase: true, collapseSpace: true, wordStart: true },
];

test("finds what the oracle finds, whole, cut at every place and unit by unit", () => {
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 8 }),
      fc.array(word, { maxLength: 8 }),
      fc.constantFrom(...optionSets),
      (words, pieces, options) => {
        const literals = words.filter((literal) => !options.collapseSpace || literal.trim() !== "");
        const text = [...pieces, ...literals.slice(0, 2)].join("");
        const automaton = compileLiterals(literals, options);
        const expected = oracle(literals, text, options);
        assert.deepEqual(scan(automaton, [text]), expected);
        assert.deepEqual(scan(automaton, text.split("")), expected);
        for (let times = 0; times < 2; times++)
          assert.deepEqual(scanWhole(automaton, text), expected.matches);
        for (let cut = 0; cut <= text.length; cut++) {
          assert.deepEqual(scan(automaton, [text.slice(0, cut), text.slice(cut)]), expected);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("a word literal is not seen inside a word, a literal that begins otherwise is", () => {
  const automaton = compileLiterals(["sk-", "-----BEGIN "], { wordStart: true });
  assert.deepEqual(scan(automaton, ["task-1 sk-2 x-----BEGIN "]).matches, [
    { id: 0, end: 10 },
    { id: 1, end: 24 },
  ]);
  assert.equal(scan(automaton, ["it is"]).depth, 0);
  assert.equal(scan(automaton, ["it is s"]).depth, 1);
});

test("bounds: the table's size, empty literals", () => {
  assert.throws(() => compileLiterals([""]), /literal 0 is empty/);
  assert.throws(() => compileLiterals(["   "], { collapseSpace: true }), /literal 0 is empty/);
  const many = Array.from({ length: TABLE_CELLS_MAX / 1000 }, (_, i) => `${i}`.padStart(1000, "x"));
  assert.throws(() => compileLiterals(many), /more than 16777216/);
});

test("a thousand literals over a megabyte take well under a second", () => {
  const literals = Array.from({ length: 1000 }, (_, i) => `word${i.toString(36)} then`);
  const automaton = compileLiterals(literals, { ignoreCase: true, collapseSpace: true, wordStart: true });
  const text = "wordword1 then some Other text ".repeat(35_000);
  const start = performance.now();
  const { matches } = scan(automaton, [text]);
  assert.ok(performance.now() - start < 500);
  assert.equal(matches.length, 0);
});
