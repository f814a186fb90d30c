/** What is judged is what leaves: a text that names a member twice never passes as it came. */
import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { readAnswerJson } from "./json-answer.ts";

function textOf(text: string): string {
  const read = readAnswerJson(text, 8);
  return typeof read === "string" ? read : read.text;
}

it("ordinary JSON passes as it came, spacing, escapes and big numbers included", () => {
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 5, stringUnit: "grapheme" }),
      fc.constantFrom(0, 1, "\t"),
      (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        assert.deepEqual(readAnswerJson(text, 64), { value: JSON.parse(text), text });
      },
    ),
  );
  const odd = '{"a\\"b:":[1.0,12345678901234567890,"{:\\\\"],"\\u0063":":"}';
  assert.equal(textOf(odd), odd);
});

it("a doubled name is written anew from the reading that is judged", () => {
  for (const [text, expected] of [
    ['{"content":"first","content":"last"}', '{"content":"last"}'],
    ['{"a":{"b":1,"\\u0062":2}}', '{"a":{"b":2}}'],
    ['{"choices":[{"x":1}],"choices":[]}', '{"choices":[]}'],
  ] as const) {
    assert.equal(textOf(text), expected);
  }
});

it("too deep, or not JSON, is told in linear time", () => {
  assert.equal(readAnswerJson("[[[]]]", 2), "too_deep");
  assert.equal(readAnswerJson("{", 2), "not_json");
  for (const text of ["[".repeat(2_000_000), `"${"\\".repeat(2_000_000)}`, '\\"'.repeat(1_000_000)]) {
    const startedMs = performance.now();
    assert.equal(typeof readAnswerJson(text, 64), "string");
    assert.ok(performance.now() - startedMs < 1_000);
  }
});
