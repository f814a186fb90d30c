import assert from "node:assert/strict";
import { test } from "node:test";
import { areaUnderCurve, bootstrap, type Scored, shareAbove, thresholdAt, wilson } from "./figures.ts";
import { Random } from "./random.ts";

const rows = (benign: readonly number[], malicious: readonly number[]): Scored[] => [
  ...benign.map((score) => ({ score, malicious: false })),
  ...malicious.map((score) => ({ score, malicious: true })),
];

test("area under the curve: told apart, mixed up, all alike", () => {
  assert.equal(areaUnderCurve(rows([1, 2], [3, 4])), 1);
  assert.equal(areaUnderCurve(rows([3, 4], [1, 2])), 0);
  assert.equal(areaUnderCurve(rows([1, 1, 1], [1, 1])), 0.5);
  // Of six pairs, four in order and one tie.
  assert.equal(areaUnderCurve(rows([1, 2, 3], [2, 4])), 4.5 / 6);
});

test("a threshold flags at most its share of benign rows", () => {
  const benign = Array.from({ length: 1000 }, (_, i) => i);
  for (const rate of [0.1, 0.01, 0.001]) {
    const all = rows(benign, [5000]);
    const threshold = thresholdAt(all, rate);
    assert.equal(shareAbove(all, threshold, false), rate);
    assert.equal(shareAbove(all, threshold, true), 1);
  }
  // Ties flag fewer, never more.
  const tied = rows(
    Array.from({ length: 100 }, () => 1),
    [1, 2],
  );
  assert.equal(shareAbove(tied, thresholdAt(tied, 0.05), false), 0);
  assert.equal(shareAbove(tied, thresholdAt(tied, 0.05), true), 0.5);
});

test("the bootstrap is the same for the same seed, and its interval holds the figure", () => {
  const random = new Random(7);
  const sample = rows(
    Array.from({ length: 200 }, () => random.next()),
    Array.from({ length: 100 }, () => random.next() + 0.3),
  );
  const options = { resamples: 200, seed: 3 };
  const interval = bootstrap(sample, areaUnderCurve, options);
  assert.deepEqual(interval, bootstrap(sample, areaUnderCurve, options));
  assert.ok(interval.low < interval.value && interval.value < interval.high, JSON.stringify(interval));
  assert.ok(interval.high - interval.low < 0.2);
});

test("Wilson's interval stays inside 0..1 and narrows with the count", () => {
  const [low, high] = wilson(0, 100);
  assert.ok(low === 0 && high > 0.03 && high < 0.04);
  const [low2, high2] = wilson(0.5, 10_000);
  assert.ok(low2 > 0.49 && high2 < 0.51);
});
