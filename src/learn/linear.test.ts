import assert from "node:assert/strict";
import { test } from "node:test";
import { fitLogistic } from "./calibration.ts";
import { scoreLinear, trainLinear } from "./linear.ts";
import { Random } from "./random.ts";

const SETTINGS = { bits: 10, epochs: 20, rate: 0.5, decay: 1e-6 };

/** Feature 1 speaks for the first head, 2 for the second, the rest is noise. */
function sample(count: number) {
  const random = new Random(9);
  const features: Int32Array[] = [];
  const labels = [new Int8Array(count), new Int8Array(count)];
  for (let i = 0; i < count; i++) {
    const places = Array.from({ length: 6 }, () => 10 + random.below(500));
    for (const head of [0, 1]) {
      if (random.next() < 0.8) continue;
      labels[head]![i] = 1;
      places.push(1 + head);
    }
    features.push(Int32Array.from(places));
  }
  return { features, labels, weights: new Float32Array(count).fill(1) };
}

test("each head learns its own feature", () => {
  const data = sample(2000);
  const rows = Int32Array.from(data.features.keys());
  const model = trainLinear(data, rows, SETTINGS, new Random(1));
  const out = new Float32Array(2);
  let right = 0;
  for (const row of rows) {
    scoreLinear(model, data.features[row]!, out);
    for (const head of [0, 1]) if (out[head]! > 0 === (data.labels[head]![row] === 1)) right += 1;
  }
  assert.ok(right > 0.98 * 2 * rows.length, `${right} of ${2 * rows.length}`);
});

test("the same seed gives the same bytes; rows outside and unlabelled heads leave no trace", () => {
  const data = sample(300);
  const rows = Int32Array.from({ length: 200 }, (_, i) => i);
  const first = trainLinear(data, rows, SETTINGS, new Random(4));
  const changed = {
    ...data,
    labels: [data.labels[0]!.map((label, i) => (i < 200 ? label : 1 - label)), new Int8Array(300).fill(-1)],
  };
  const again = trainLinear(data, rows, SETTINGS, new Random(4));
  assert.deepEqual(again.weights, first.weights);
  const other = trainLinear(changed, rows, SETTINGS, new Random(4));
  for (let place = 0; place < 1024; place++) {
    assert.equal(other.weights[2 * place], first.weights[2 * place]);
    assert.equal(other.weights[2 * place + 1], 0);
  }
});

test("calibration finds the weights that made the labels", () => {
  const random = new Random(2);
  const terms: Float32Array[] = [];
  const labels: (0 | 1)[] = [];
  for (let i = 0; i < 20_000; i++) {
    const term = Float32Array.of(random.next() * 4 - 2, random.next() * 4 - 2, 1);
    terms.push(term);
    labels.push(random.next() < 1 / (1 + Math.exp(-(2 * term[0]! - term[1]!))) ? 1 : 0);
  }
  const [a, b, c] = fitLogistic(terms, labels);
  assert.ok(Math.abs(a! - 2) < 0.15 && Math.abs(b! + 1) < 0.1 && Math.abs(c!) < 0.1, `${a} ${b} ${c}`);
});
