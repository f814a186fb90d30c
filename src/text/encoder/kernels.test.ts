/** The kernels against the same arithmetic written plainly, and at the edge of what 32 bits can sum. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openKernels } from "./kernels.ts";
import { packPanels, quantiseColumns } from "./network-weights.ts";

type Matrix = readonly (readonly number[])[];

const matrix = (rows: number, columns: number, value: (row: number, column: number) => number): Matrix =>
  Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => value(row, column)),
  );

const wave = (row: number, column: number) => Math.sin(row * 7.1 + column * 1.3) * (1 + (column % 5));

const multiplied = (left: Matrix, right: Matrix): Matrix =>
  left.map((row) =>
    right[0]!.map((_, column) => row.reduce((sum, value, k) => sum + value * right[k]![column]!, 0)),
  );

function near(actual: ArrayLike<number>, wanted: ArrayLike<number>, error: number, what: string): void {
  assert.equal(actual.length, wanted.length);
  for (let i = 0; i < wanted.length; i += 1) {
    assert.ok(Math.abs(actual[i]! - wanted[i]!) <= error, `${what}[${i}]: ${actual[i]} is not ${wanted[i]}`);
  }
}

const { kernels, memory } = openKernels();
function placed(values: Matrix): number {
  const flat = values.flat();
  const at = memory.reserve(flat.length * 4);
  memory.floats(at, flat.length).set(flat);
  return at;
}

/** Through quantising, as the network does it. */
function product(
  kind: "product" | "productRelu" | "productAdd",
  left: Matrix,
  right: Matrix,
  bias: readonly number[],
  there = 0,
): Float32Array {
  const rows = left.length;
  const k = right.length;
  const columns = right[0]!.length;
  const { quantised, scales, sumMax } = quantiseColumns(Float32Array.from(right.flat()), columns);
  const weights = memory.reserve(k * columns * 2);
  const source = placed(left);
  const shorts = memory.reserve(rows * k * 2);
  const rowScales = memory.reserve(rows * 4);
  const target = placed(matrix(rows, columns, () => there));
  const columnScales = placed([[...scales]]);
  const biasAt = placed([bias]);
  packPanels(quantised, columns, memory.shorts(weights, k * columns));
  const leftMax = Math.min(32_767, Math.floor((2 ** 31 - 1) / sumMax));
  kernels.quantise(source, shorts, rows, k, rowScales, leftMax);
  kernels[kind](shorts, weights, target, rows, k, columns / 8, rowScales, columnScales, biasAt, columns * 4);
  return memory.floats(target, rows * columns).slice();
}

test("products are those of the numbers, with bias, clipped or added as asked", () => {
  const left = matrix(8, 24, wave);
  const right = matrix(24, 16, (row, column) => Math.cos(row * 3 + column * 11));
  const bias = Array.from({ length: 16 }, (_, column) => column - 8);
  const wanted = multiplied(left, right).flatMap((row) => row.map((value, column) => value + bias[column]!));
  near(product("product", left, right, bias), wanted, 0.05, "product");
  const clipped = wanted.map((value) => Math.max(0, value));
  near(product("productRelu", left, right, bias), clipped, 0.05, "clipped");
  const added = wanted.map((value) => value + 3);
  near(product("productAdd", left, right, bias, 3), added, 0.05, "added");
});

test("no sum passes 32 bits: the longest rows of nothing but the largest values", () => {
  const k = 1536;
  for (const sign of [1, -1]) {
    const left = matrix(4, k, () => 7 * sign);
    const right = matrix(k, 8, () => 3);
    const products = product("product", left, right, Array<number>(8).fill(0));
    near(products, Array<number>(32).fill(21 * k * sign), 21 * k * 1e-6, "product");
  }
});

test("a row or column of zeros stays 0", () => {
  const right = matrix(8, 8, (row, column) => (column === 3 ? 0 : row));
  const left = matrix(4, 8, (row, column) => (row === 2 ? 0 : column));
  const products = product("product", left, right, Array<number>(8).fill(0));
  near(products, multiplied(left, right).flat(), 0.2, "product");
  assert.deepEqual([...products.subarray(16, 24)], Array<number>(8).fill(0));
  assert.equal(products[3], 0);
});

test("products of floats read the right side a panel at a time, with strides", () => {
  const left = matrix(8, 12, wave);
  const right = matrix(12, 24, wave);
  const target = memory.reserve(8 * 16 * 4);
  // The last 16 of 24 columns.
  kernels.floatProduct(placed(left), 48, placed(right) + 32, 96, target, 64, 8, 12, 2);
  const wanted = multiplied(
    left,
    right.map((row) => row.slice(8)),
  );
  near(memory.floats(target, 8 * 16), wanted.flat(), 1e-3, "product");
});

test("layer norm centres and scales each row", () => {
  const rows = matrix(3, 16, (row, column) => (row === 1 ? 5 : wave(row, column)));
  const scale = matrix(1, 16, (_, column) => 1 + column / 10);
  const bias = matrix(1, 16, (_, column) => column);
  const target = memory.reserve(3 * 16 * 4);
  kernels.layerNorm(placed(rows), target, 3, 16, placed(scale), placed(bias));
  const wanted = rows.flatMap((row) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / 16;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 16;
    return row.map(
      (value, column) =>
        ((value - mean) / Math.sqrt(variance + 1e-6)) * scale[0]![column]! + bias[0]![column]!,
    );
  });
  near(memory.floats(target, 48), wanted, 1e-4, "normed");
});

test("softmax sums to 1 over the columns asked for, and what stands beyond them weighs exactly nothing", () => {
  const spread = (row: number, column: number) => (row === 3 ? column * 100 : wave(row, column));
  for (const columns of [1, 2, 7, 8, 9, 16]) {
    const at = placed(matrix(4, 16, (row, column) => (column < columns ? spread(row, column) : 1e6)));
    kernels.softmax(at, 64, 4, columns);
    const width = Math.ceil(columns / 8) * 8;
    for (let row = 0; row < 4; row += 1) {
      const values = Array.from({ length: columns }, (_, column) => spread(row, column));
      const powers = values.map((value) => Math.exp(value - Math.max(...values)));
      const sum = powers.reduce((total, power) => total + power, 0);
      const got = memory.floats(at + row * 64, 16);
      near(
        got.subarray(0, columns),
        powers.map((power) => power / sum),
        1e-6,
        "weight",
      );
      assert.deepEqual([...got.subarray(columns, width)], Array<number>(width - columns).fill(0));
    }
  }
});
