/** Sentences: where they end, that cuts do not matter, and that together they are the text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SENTENCE_UNITS_MAX, SentenceCutter, sentencesOf } from "./sentences.ts";

test("where sentences end", () => {
  for (const [text, expected] of [
    ["1. Mix the flour. Then wait a bit.\nDone", ["1. Mix the flour. ", "Then wait a bit.\n", "Done"]],
    [
      'It costs 3.50 dollars at most. "Really?" she said.',
      ["It costs 3.50 dollars at most. ", '"Really?" she said.'],
    ],
    ["Dr. Ott came.", ["Dr. Ott came."]],
    ["这是第一个句子。这是第二个句子！好", ["这是第一个句子。", "这是第二个句子！", "好"]],
    ["هل هذا صحيح؟ نعم", ["هل هذا صحيح؟ ", "نعم"]],
    ["यह पहला वाक्य है। यह दूसरा", ["यह पहला वाक्य है।", " यह दूसरा"]],
    ["# Preparation\n- one\n", ["# Preparation\n", "- one\n"]],
    ["", []],
  ] as const) {
    assert.deepEqual(sentencesOf(text), expected);
  }
});

test("none is longer than the bound, and no surrogate pair is cut", () => {
  const sentences = sentencesOf("😀".repeat(1_000));
  assert.ok(sentences.every((sentence) => sentence.length <= SENTENCE_UNITS_MAX + 1));
  assert.ok(sentences.every((sentence) => sentence.isWellFormed()));
});

test("pieces give the same ends as the whole", () => {
  const piece = fc.constantFrom(
    "a word ",
    "end. ",
    "?!",
    "\n",
    "。",
    "…",
    '" ',
    "1.5",
    "x".repeat(200),
    "😀",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), fc.array(fc.nat(), { maxLength: 10 }), (pieces, at) => {
      const text = pieces.join("");
      assert.equal(sentencesOf(text).join(""), text);
      const cuts = [...new Set(at.map((n) => n % (text.length + 1)))].sort((a, b) => a - b);
      const cutter = new SentenceCutter();
      const ends: number[] = [];
      let start = 0;
      for (const end of [...cuts, text.length]) {
        const part = text.slice(start, end);
        for (let from = 0; from < part.length; ) {
          const found = cutter.end(part, from);
          if (found < 0) break;
          ends.push(start + found);
          from = found;
        }
        start = end;
      }
      let sum = 0;
      const expected = sentencesOf(text).map((sentence) => {
        sum += sentence.length;
        return sum;
      });
      // The last of them is only as long as the text is.
      if (cutter.open > 0) expected.pop();
      assert.deepEqual(ends, expected);
    }),
  );
});
