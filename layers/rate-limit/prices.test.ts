/** Prices: which entry speaks for a model, what a request costs, and where a broken list is broken. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ConfigProblem } from "../../src/layer/index.ts";
import { readPrices } from "./prices.ts";

const LIST = `asOf: 2026-01-01
default: { input: 10, output: 50 }
models:
  - { model: "gpt-5*", input: 1.25, output: 10 }
  - { model: "gpt-5-mini*", input: 0.25, output: 2 }
  - { model: "gpt-5-mini-2025", input: 0.001, output: 3 }
  - { model: "claude-x", input: 0.1, output: 0.5, long: { overTokens: 100000, input: 0.5, output: 2.5 } }
`;

test("an exact name goes before a pattern, a longer pattern before a shorter, the default before none", () => {
  const prices = readPrices(LIST, "prices.yaml");
  const rows = [
    ["gpt-5", 1_250, 10_000],
    ["GPT-5.4-nano", 1_250, 10_000],
    ["gpt-5-mini-latest", 250, 2_000],
    ["gpt-5-mini-2025", 1, 3_000],
    ["gpt-4", 10_000, 50_000],
    ["", 10_000, 50_000],
    ["claude-x-1", 10_000, 50_000],
  ] as const;
  for (const _ of [1, 2])
    for (const [model, input, output] of rows) {
      const rate = prices.rate(model, 1);
      assert.deepEqual([rate.input, rate.output], [input, output], model);
    }
  for (let i = 0; i < 5_000; i++) prices.rate(`model-${i}`, 1);
  assert.equal(prices.rate("gpt-5", 1).input, 1_250, "after more names than are kept");
});

test("a long prompt has its own price", () => {
  const prices = readPrices(LIST, "prices.yaml");
  assert.equal(prices.rate("claude-x", 100_000).output, 500);
  assert.deepEqual(
    [prices.rate("claude-x", 100_001).input, prices.rate("claude-x", 100_001).output],
    [500, 2_500],
  );
});

const BROKEN: readonly [why: string, change: (list: string) => string, message: RegExp][] = [
  ["no YAML", (list) => `${list}  - {`, /^prices\.yaml:8:\d+: /],
  ["a price in words", (list) => list.replace("0.25", "cheap"), /^prices\.yaml:5:36: models\.1\.input: /],
  [
    "a fourth decimal",
    (list) => list.replace("0.25", "0.2505"),
    /models\.1\.input: must have at most three decimals/,
  ],
  ["less than nothing", (list) => list.replace("0.25", "-1"), /^prices\.yaml:5:\d+: models\.1\.input: /],
  [
    "a star inside",
    (list) => list.replace("gpt-5-mini*", "gpt-*-mini"),
    /models\.1\.model: takes "\*" only at the end/,
  ],
  [
    "a name twice",
    (list) => list.replace("gpt-5-mini*", "GPT-5*"),
    /^prices\.yaml:5:14: models\.1\.model: "GPT-5\*" is already models\.0/,
  ],
  ["a field that is none", (list) => list.replace("output: 2 ", "out: 2 "), /^prices\.yaml:5:\d+: models\.1/],
  ["no default", (list) => list.replace(/default.*\n/, ""), /default/],
  ["no date", (list) => list.replace("2026-01-01", "lately"), /^prices\.yaml:1:7: asOf: must be a date/],
];

for (const [why, change, message] of BROKEN) {
  test(`broken: ${why}`, () => {
    assert.throws(
      () => readPrices(change(LIST), "prices.yaml"),
      (error) => {
        assert.ok(error instanceof ConfigProblem);
        assert.match(error.message, message);
        assert.deepEqual([error.path, error.artifact], [["prices"], "prices.yaml"]);
        return true;
      },
    );
  });
}

test("the shipped list is whole, and knows the models that the official clients name", () => {
  const prices = readPrices(
    readFileSync(new URL("../../config/prices.yaml", import.meta.url), "utf8"),
    "prices.yaml",
  );
  const rows = [
    ["gpt-6.1-sol", 2_000, 10_000],
    ["gpt-5.4-mini-2026-03-17", 750, 4_500],
    ["gpt-5-codex", 1_250, 10_000],
    ["gpt-4o-mini", 150, 600],
    ["o3-mini-2025-01-31", 1_100, 4_400],
    ["text-embedding-3-small", 20, 0],
    ["claude-opus-4-1-20250805", 15_000, 75_000],
    ["claude-opus-4-8", 5_000, 25_000],
    ["claude-opus-5-5", 4_000, 20_000],
    ["claude-sonnet-4-5-20250929", 3_000, 15_000],
    ["claude-haiku-5-5", 100, 500],
    ["a-model-of-tomorrow", 10_000, 50_000],
  ] as const;
  for (const [model, input, output] of rows) {
    const rate = prices.rate(model, 1_000);
    assert.deepEqual([rate.input, rate.output], [input, output], model);
  }
});
