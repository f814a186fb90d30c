/** The network against the same training written plainly, and against what it must and must not learn from. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type NetworkModel, type NetworkRows, type NetworkSettings, trainNetwork } from "./network.ts";
import { Random } from "./random.ts";

const SETTINGS: NetworkSettings = {
  hidden: 5,
  epochs: 3,
  rate: 0.5,
  decay: 0.01,
  dropInput: 0,
  dropHidden: 0,
  batch: 8,
};

const all = (rows: number) => Int32Array.from({ length: rows }, (_, row) => row);

/** Noise off centre; the first head says whether the first two inputs have one sign, the others noise or nothing. */
function drawRows(count: number, width: number, heads: number): NetworkRows {
  const random = new Random(11);
  const draws = Float32Array.from({ length: count * width }, () => random.next() * 2 - 1);
  const labels = Array.from({ length: heads }, (_, head) =>
    Int8Array.from({ length: count }, (_, row) =>
      head === 0 ? Number(draws[row * width]! * draws[row * width + 1]! > 0) : random.below(3) - 1,
    ),
  );
  const inputs = draws.map((value, i) => value * (1 + (i % width)) + (i % width) * 0.5);
  return { inputs, width, labels, weights: Float32Array.from({ length: count }, () => 0.5 + random.next()) };
}

const logitsOf = (
  { width, hidden, heads, first, firstBias, second, secondBias }: NetworkModel,
  x: Float32Array,
) => {
  const answers = Array.from(firstBias, (bias, h) => {
    let sum = bias;
    for (let d = 0; d < width; d++) sum += x[d]! * first[d * hidden + h]!;
    return Math.max(0, sum);
  });
  return Array.from({ length: heads }, (_, head) =>
    answers.reduce((sum, answer, h) => sum + answer * second[h * heads + head]!, secondBias[head]!),
  );
};

const rowOf = ({ inputs, width }: NetworkRows, row: number) =>
  inputs.subarray(row * width, (row + 1) * width);

/** What `trainNetwork` does, in doubles and one row at a time; no dropout. */
function trainPlainly(data: NetworkRows, settings: NetworkSettings, random: Random): NetworkModel {
  const { width, labels, weights } = data;
  const { hidden, epochs, batch } = settings;
  const heads = labels.length;
  const count = weights.length;
  const columns = Array.from({ length: width }, (_, d) =>
    Array.from(weights, (_, row) => rowOf(data, row)[d]!),
  );
  const mean = columns.map((column) => column.reduce((sum, value) => sum + value, 0) / count);
  const inverse = columns.map((column, d) => {
    const variance = column.reduce((sum, value) => sum + (value - mean[d]!) ** 2, 0) / count;
    return 1 / Math.sqrt(variance + 1e-6);
  });
  const uniform = (size: number, fan: number) =>
    Array.from({ length: size }, () => (random.next() * 2 - 1) * Math.sqrt(3 / fan));
  const zeros = (size: number) => Array<number>(size).fill(0);
  const layers = [
    uniform(width * hidden, width),
    zeros(hidden),
    uniform(hidden * heads, hidden),
    zeros(heads),
  ];
  const [first, firstBias, second, secondBias] = layers as [number[], number[], number[], number[]];
  // The seeds of the dropout.
  for (let lane = 0; lane < 4; lane++) random.next();
  const moments = layers.map((layer) => layer.map(() => ({ mean: 0, square: 0 })));
  const order = all(count);
  const steps = Math.ceil(count / batch) * epochs;
  let step = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    random.shuffle(order);
    for (let from = 0; from < count; from += batch) {
      const members = order.subarray(from, from + batch);
      const gradients = layers.map((layer) => zeros(layer.length));
      const add = (layer: number, i: number, value: number) => {
        gradients[layer]![i] = gradients[layer]![i]! + value;
      };
      for (const row of members) {
        const x = Array.from(rowOf(data, row), (value, d) => (value - mean[d]!) * inverse[d]!);
        const answers = firstBias.map((bias, h) =>
          Math.max(
            0,
            x.reduce((sum, value, d) => sum + value * first[d * hidden + h]!, bias),
          ),
        );
        const answerSlopes = zeros(hidden);
        for (let head = 0; head < heads; head++) {
          const label = labels[head]![row]!;
          if (label < 0) continue;
          const z = answers.reduce((sum, a, h) => sum + a * second[h * heads + head]!, secondBias[head]!);
          const slope = ((1 / (1 + Math.exp(-z)) - label) * weights[row]!) / members.length;
          add(3, head, slope);
          answers.forEach((answer, h) => {
            add(2, h * heads + head, slope * answer);
            if (answer > 0) answerSlopes[h] = answerSlopes[h]! + slope * second[h * heads + head]!;
          });
        }
        answerSlopes.forEach((slope, h) => {
          add(1, h, slope);
          x.forEach((value, d) => {
            add(0, d * hidden + h, value * slope);
          });
        });
      }
      step += 1;
      const rate = settings.rate * Math.min(1, step / 200) * (0.5 + 0.5 * Math.cos((Math.PI * step) / steps));
      layers.forEach((layer, l) => {
        layer.forEach((value, i) => {
          const moment = moments[l]![i]!;
          const gradient = gradients[l]![i]!;
          moment.mean = 0.9 * moment.mean + 0.1 * gradient;
          moment.square = 0.999 * moment.square + 0.001 * gradient ** 2;
          const spread = Math.sqrt(moment.square / (1 - 0.999 ** step)) + 1e-8;
          const move = moment.mean / (1 - 0.9 ** step) / spread;
          layer[i] = value - rate * (move + settings.decay * value);
        });
      });
    }
  }
  return {
    width,
    hidden,
    heads,
    first: Float32Array.from(first, (weight, i) => weight * inverse[Math.floor(i / hidden)]!),
    firstBias: Float32Array.from(firstBias, (bias, h) =>
      mean.reduce((sum, value, d) => sum - value * first[d * hidden + h]! * inverse[d]!, bias),
    ),
    second: Float32Array.from(second),
    secondBias: Float32Array.from(secondBias),
  };
}

const PARTS = ["first", "firstBias", "second", "secondBias"] as const;

function largestDifference(left: NetworkModel, right: NetworkModel): number {
  return Math.max(
    ...PARTS.flatMap((part) => {
      assert.equal(left[part].length, right[part].length, part);
      return Array.from(left[part], (value, i) => Math.abs(value - right[part][i]!));
    }),
  );
}

for (const { name, count, width, hidden, heads, batch } of [
  { name: "odd sizes, a short last batch", count: 21, width: 7, hidden: 5, heads: 3, batch: 8 },
  { name: "sizes that fill the panels", count: 32, width: 23, hidden: 16, heads: 8, batch: 16 },
  { name: "more heads than a panel has columns", count: 16, width: 8, hidden: 9, heads: 9, batch: 5 },
  { name: "more inputs than one pass multiplies", count: 12, width: 600, hidden: 12, heads: 4, batch: 12 },
  { name: "batches of one row", count: 6, width: 4, hidden: 3, heads: 1, batch: 1 },
]) {
  test(`as plain arithmetic has it: ${name}`, () => {
    const data = drawRows(count, width, heads);
    const settings = { ...SETTINGS, hidden, batch };
    const model = trainNetwork(data, all(count), settings, new Random(3));
    const plain = trainPlainly(data, settings, new Random(3));
    const untrained = trainNetwork(data, all(count), { ...settings, epochs: 0 }, new Random(3));
    const difference = largestDifference(model, plain);
    assert.ok(difference < 1e-3, `differs by ${difference}`);
    assert.ok(largestDifference(untrained, plain) > 1e-2, "nothing was learnt");
  });
}

test("learns what no single layer can, with dropout, and serves it on raw inputs", () => {
  const data = drawRows(2_000, 7, 2);
  const settings = { ...SETTINGS, hidden: 32, epochs: 40, rate: 0.01, dropInput: 0.02, dropHidden: 0.1 };
  const model = trainNetwork(data, all(1_500), { ...settings, batch: 64 }, new Random(1));
  let right = 0;
  for (let row = 1_500; row < 2_000; row++) {
    right += Number(logitsOf(model, rowOf(data, row))[0]! > 0 === (data.labels[0]![row] === 1));
  }
  assert.ok(right > 450, `${right} of 500 right`);
});

test("one seed gives the same bytes, another seed others", () => {
  const data = drawRows(50, 7, 3);
  const settings = { ...SETTINGS, dropInput: 0.2, dropHidden: 0.3 };
  const train = (seed: number) => trainNetwork(data, all(50), settings, new Random(seed));
  assert.deepEqual(train(7), train(7));
  assert.notDeepEqual(train(7), train(8));
});

test("training gives these bytes on every machine", () => {
  const settings = { ...SETTINGS, dropInput: 0.2, dropHidden: 0.3 };
  const { secondBias } = trainNetwork(drawRows(50, 7, 3), all(50), settings, new Random(7));
  assert.deepEqual([...new Uint32Array(secondBias.buffer)], [3_165_752_955, 3_174_492_374, 3_173_208_171]);
});

test("rows without a label, without weight or not asked for teach nothing", () => {
  const data = drawRows(20, 7, 2);
  const changed = (changes: Partial<NetworkRows>, rows = all(20)) =>
    trainNetwork({ ...data, ...changes }, rows, SETTINGS, new Random(2));
  const silent = changed({ labels: [data.labels[0]!, new Int8Array(20).fill(-1)] });
  // Decay alone has moved the second head; its bias began at 0.
  assert.equal(silent.secondBias[1], 0);
  assert.notEqual(silent.secondBias[0], 0);

  const flipped = data.labels.map((labels) => labels.map((label, row) => (row === 4 ? 1 - label : label)));
  const weights = data.weights.map((weight, row) => (row === 4 ? 0 : weight));
  assert.deepEqual(changed({ weights, labels: flipped }), changed({ weights }));
  const others = all(20).filter((row) => row !== 4);
  assert.deepEqual(changed({ labels: flipped }, others), changed({}, others));
  assert.notDeepEqual(changed({ labels: flipped }), changed({}));
});

test("an input that never changes and rows with nothing in them leave only numbers", () => {
  const data = drawRows(20, 7, 1);
  const inputs = data.inputs.map((value, i) => (i % 7 === 2 ? 3.7 : value));
  for (const rows of [all(20), all(0)]) {
    const model = trainNetwork({ ...data, inputs }, rows, SETTINGS, new Random(2));
    for (const part of PARTS) assert.ok(model[part].every(Number.isFinite), part);
  }
});
