/** Pieces against those of the model's own tokenizer, against a slow search, and on texts made to cost much. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readModel } from "./model-files.ts";
import reference from "./reference.json" with { type: "json" };
import { openPieceCutter, type Vocabulary } from "./sentence-pieces.ts";

const { vocabulary } = readModel();
const cutter = openPieceCutter(vocabulary, { piecesMax: 128, charactersMax: 2_048 });

for (const { text, pieces } of reference.rows) {
  test(`cuts as the model's tokenizer: ${JSON.stringify(text.slice(0, 40))}`, () => {
    assert.deepEqual([...cutter.cut(text)], pieces);
  });
}

test("no text, no pieces; spaces are pieces", () => {
  assert.equal(cutter.cut("").length, 0);
  assert.ok(cutter.cut(" ").length > 0);
});

/** The best sum over all ways to cut a short text, each symbol of which is a piece. */
function bestScore(small: Vocabulary, text: string): number {
  if (text === "") return 0;
  const scores = small
    .slice(6)
    .filter(([piece]) => text.startsWith(piece))
    .map(([piece, score]) => score + bestScore(small, text.slice(piece.length)));
  return Math.max(...scores);
}

test("no other way to cut a text has a better score", () => {
  const reserved = ["�", "<s>", "</s>", "x1", "x2", "x3"].map((piece) => [piece, 0] as const);
  const small: Vocabulary = [
    ...reserved,
    ["▁", -3],
    ["a", -2],
    ["b", -2.5],
    ["ab", -4],
    ["ba", -4.7],
    ["aab", -5.5],
    ["▁a", -4.2],
    ["bbbb", -6],
  ];
  const smallCutter = openPieceCutter(small, { piecesMax: 64, charactersMax: 64 });
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("a", "b", " "), minLength: 1, maxLength: 12 }), (text) => {
      const pieces = [...smallCutter.cut(text)];
      assert.equal(pieces.map((piece) => small[piece]![0]).join(""), `▁${text.replaceAll(" ", "▁")}`);
      const score = pieces.reduce((sum, piece) => sum + small[piece]![1], 0);
      const best = bestScore(small, `▁${text.replaceAll(" ", "▁")}`);
      assert.ok(Math.abs(score - best) < 1e-9, `${score} is not ${best}`);
    }),
  );
});

test("any text at all gives pieces of the vocabulary, and no more than asked for", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 400 }), fc.nat(40), (text, lone) => {
      const pieces = cutter.cut(`${text}${String.fromCharCode(0xd800 + lone)}`);
      assert.ok(pieces.length >= 1 && pieces.length <= 128);
      assert.ok(pieces.every((piece) => piece >= 0 && piece < vocabulary.length));
    }),
  );
});

const CHARACTERS = 100_000;
const MS_MAX = 1_000;
const longest = vocabulary.reduce((best, [piece]) => (piece.length > best.length ? piece : best), "");
const hostile: readonly (readonly [why: string, text: string])[] = [
  ["one letter", "a".repeat(CHARACTERS)],
  ["spaces", " ".repeat(CHARACTERS)],
  ["the longest piece again and again", longest.repeat(CHARACTERS / longest.length)],
  ["the longest piece but for its end", `${longest.slice(0, -1)}\0`.repeat(CHARACTERS / longest.length)],
  ["a character that NFKC makes eighteen of", "\ufdfa".repeat(CHARACTERS)],
  ["marks that NFKC has to sort", "a\u0301\u0327\u0301\u0327\u0301\u0327\u0301\u0327".repeat(CHARACTERS / 9)],
  ["nothing that the vocabulary knows", "\u{1f642}".repeat(CHARACTERS / 2)],
  ["lone surrogates", "\ud83d".repeat(CHARACTERS)],
];
const longCutter = openPieceCutter(vocabulary, { piecesMax: 128, charactersMax: CHARACTERS });
for (const [why, text] of hostile) {
  test(`100,000 characters cost at most a second: ${why}`, () => {
    const start = performance.now();
    assert.ok(longCutter.cut(text).length <= 128);
    assert.ok(performance.now() - start < MS_MAX, `${performance.now() - start} ms`);
  });
}

test("text behind the bound is not looked at, also where NFKC makes more of it", () => {
  const short = openPieceCutter(vocabulary, { piecesMax: 128, charactersMax: 8 });
  assert.deepEqual(short.cut("the ship sails"), short.cut("the ship"));
  assert.deepEqual(short.cut("\ufdfa\ufdfa"), short.cut("\ufdfa"));
});

test("one long run of marks, which NFKC sorts by insertion, is harmless within the bound on characters", () => {
  const start = performance.now();
  cutter.cut(`a${"\u0301\u0327".repeat(50_000)}`);
  assert.ok(performance.now() - start < MS_MAX);
});
