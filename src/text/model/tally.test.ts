/** What is remembered of words changes no sum: against the places that training reads, on texts of many kinds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FEATURES_MAX, FEATURES_TEXT_MAX, readFeatures, shapeOf } from "../features.ts";
import { Tally } from "./tally.ts";

const BITS = 12;
const tables = [0x9e3779b1, 0x85ebca6b].map((prime) =>
  Int32Array.from({ length: 2 ** BITS }, (_, place) => Math.imul(place + 1, prime)),
) as [Int32Array, Int32Array];
const [table] = tables;
const places = new Int32Array(FEATURES_MAX);

function expected(text: string, start: number, end: number): { count: number; sums: number[] } {
  const count = readFeatures(text, start, end, shapeOf(text), BITS, places);
  const sums = tables.flatMap((of) => {
    const four = [0, 0, 0, 0];
    for (let k = 0; k < count; k++) {
      const weights = new Int8Array(of.buffer, places[k]! * 4, 4);
      for (let head = 0; head < 4; head++) four[head]! += weights[head]!;
    }
    return four;
  });
  return { count, sums };
}

const shared = new Tally(...tables);

function agrees(tally: Tally, text: string, why: string, start = 0, end = text.length): void {
  // Twice: what the first reading remembers is what the second finds.
  for (let times = 0; times < 2; times++) {
    tally.read(text, start, end, shapeOf(text));
    const { count, sums } = expected(text, start, end);
    assert.deepEqual([tally.count, [...tally.sums]], [count, sums.slice(0, tally.sums.length)], why);
  }
}

test("words that are remembered, and those that are not", () => {
  const texts: readonly (readonly [text: string, why: string])[] = [
    ["", "nothing"],
    ["a b a b", "one letter"],
    ["restrictions unrestricted restrictions", "as long as is remembered"],
    ["constitutional constitutionals onstitutional", "longer: the last twelve letters are the same"],
    ["it's snake_case 'quoted' __init__", "marks that words are made of"],
    ["gpt4 4gpt 4 44 444", "digits"],
    ["пароль naïve 日本語 ไทย 😀 a日b", "other scripts"],
    ["### [inst] stop! (now)", "marks"],
    ["same same same same", "the words before it differ"],
  ];
  for (const [text, why] of texts) {
    agrees(new Tally(table), text, why);
    agrees(new Tally(...tables), text, why);
    agrees(shared, text, why);
  }
});

test("any text, any part of it, whatever was read before", () => {
  const word = fc.stringMatching(/^[a-z'_]{1,14}$/);
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 200 }),
    fc.array(fc.oneof(word, fc.string({ maxLength: 5 })), { maxLength: 60 }).map((words) => words.join(" ")),
  );
  fc.assert(
    fc.property(text, fc.nat(), fc.nat(), (some, one, other) => {
      const [start, end] = [one % (some.length + 1), other % (some.length + 1)].sort((a, b) => a - b);
      agrees(shared, some, JSON.stringify(some), start, end);
    }),
    { numRuns: 500 },
  );
});

test("weights at both ends of their range, in the longest text", () => {
  for (const byte of [0x80808080, 0x7f7f7f7f]) {
    const extreme = new Int32Array(2 ** BITS).fill(byte);
    const tally = new Tally(extreme, extreme);
    const text = "a, ".repeat(FEATURES_TEXT_MAX / 3);
    tally.read(text, 0, text.length, shapeOf(text));
    const each = tally.count * (byte === 0x7f7f7f7f ? 127 : -128);
    assert.deepEqual([...tally.sums], new Array(8).fill(each));
  }
});

test("more words than are remembered, in a text longer than a window", () => {
  const words = Array.from({ length: 20_000 }, (_, i) =>
    i.toString(26).replace(/\d/g, (digit) => "qrstuvwxyz"[+digit]!),
  );
  for (let at = 0; at < words.length; at += 500)
    agrees(shared, words.slice(at, at + 500).join(" "), `words from ${at} on`);
  const text = words.join(" ");
  assert.ok(text.length > FEATURES_TEXT_MAX);
  agrees(shared, text, "cut at the window");
});
