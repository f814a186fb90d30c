/**
 * Matrix products as WebAssembly SIMD. The large ones, over the weights, multiply 16-bit integers: their sums are
 * exact, so that they come out the same on every machine, and take half the time of single floats. The small
 * ones, inside the attention, stay in single floats.
 */
import {
  advance,
  type Code,
  doWhile,
  f32x4,
  i32,
  i32x4,
  join,
  type KernelSource,
  type Params,
  v128,
} from "./wasm-writer.ts";

/** Rows of the left matrix and columns of the right one that a product holds in registers at once. */
export const ROW_BLOCK = 4;
export const PANEL_COLUMNS = 8;

const VECTOR_BYTES = 16;
const PANEL_BYTES = PANEL_COLUMNS * 4;
/** Steps along k between two looks at the loop's end. */
const UNROLLED = 4;

const many = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

type Ending = (value: Code, address: Code, offset: number) => Code;

const endings = {
  product: (value) => value,
  productRelu: (value) => f32x4.pmax(value, v128.zero),
  productAdd: (value, address, offset) => f32x4.add(value, v128.load(address, offset)),
} as const satisfies Record<string, Ending>;

/**
 *   left (rows x k)            right: panel after panel, k/2 pairs of rows x 8 columns
 *   +--------------+           +----------------+
 *   | pair pair .. | 4 rows    | c0c0 c1c1 .. c7| <- two vectors: one pair of k for 8 columns
 *   +--------------+           +----------------+
 * A panel (4 to 24 KB) stays in the first cache while all rows pass; 8 sums stay in registers.
 */
export function productKernel(name: keyof typeof endings): KernelSource {
  const ending: Ending = endings[name];
  const build: KernelSource["build"] = (params, locals) => {
    const [left, right, products, rows, k, panels, rowScales, columnScales, bias, stride] =
      params as Params<10>;
    const kBytes = locals.i32();
    const row = locals.i32();
    const at = many(ROW_BLOCK, () => locals.i32());
    const end = locals.i32();
    const target = locals.i32();
    const panel = locals.i32();
    const rowScale = locals.i32();
    const sums = many(ROW_BLOCK, () => many(2, () => locals.v128()));
    const weights = many(2, () => locals.v128());
    const pair = locals.v128();
    const step = (offset: number): Code =>
      join(
        ...weights.map((weight, half) =>
          weight.set(v128.load(panel.get, offset * PANEL_BYTES + half * VECTOR_BYTES)),
        ),
        ...at.map((pointer, r) =>
          join(
            pair.set(v128.load32Splat(pointer.get, offset * 4)),
            ...weights.map((weight, half) => {
              const sum = sums[r]![half]!;
              return sum.set(i32x4.add(sum.get, i32x4.dotI16x8(pair.get, weight.get)));
            }),
          ),
        ),
      );
    const finish = (r: number): Code =>
      join(
        pair.set(v128.load32Splat(rowScale.get, r * 4)),
        ...sums[r]!.map((sum, half) => {
          const offset = half * VECTOR_BYTES;
          const scaled = f32x4.mul(
            f32x4.mul(f32x4.fromI32x4(sum.get), pair.get),
            v128.load(columnScales.get, offset),
          );
          const value = f32x4.add(scaled, v128.load(bias.get, offset));
          return v128.store(target.get, ending(value, target.get, offset), offset);
        }),
        advance(target, stride.get),
      );
    const rowBlock = join(
      ...sums.flat().map((sum) => sum.set(v128.zero)),
      ...at.slice(1).map((pointer, r) => pointer.set(i32.add(at[r]!.get, kBytes.get))),
      end.set(at[1]!.get),
      panel.set(right.get),
      doWhile(
        join(
          ...many(UNROLLED, step),
          ...at.map((pointer) => advance(pointer, i32.const(UNROLLED * 4))),
          advance(panel, i32.const(UNROLLED * PANEL_BYTES)),
        ),
        i32.ltU(at[0]!.get, end.get),
      ),
      ...many(ROW_BLOCK, finish),
      at[0]!.set(at[ROW_BLOCK - 1]!.get),
      advance(rowScale, i32.const(ROW_BLOCK * 4)),
      advance(row, i32.const(-ROW_BLOCK)),
    );
    return join(
      kBytes.set(i32.shl(k.get, i32.const(1))),
      doWhile(
        join(
          row.set(rows.get),
          at[0]!.set(left.get),
          target.set(products.get),
          rowScale.set(rowScales.get),
          doWhile(rowBlock, row.get),
          right.set(panel.get),
          ...[products, columnScales, bias].map((pointer) => advance(pointer, i32.const(PANEL_BYTES))),
          advance(panels, i32.const(-1)),
        ),
        panels.get,
      ),
    );
  };
  return { name, paramCount: 10, build };
}

export const floatProduct: KernelSource = {
  name: "floatProduct",
  paramCount: 9,
  build: (params, locals) => {
    const [left, leftStride, right, rightStride, products, stride, rows, k, panels] = params as Params<9>;
    const row = locals.i32();
    const at = many(ROW_BLOCK, () => locals.i32());
    const next = locals.i32();
    const end = locals.i32();
    const target = locals.i32();
    const panel = locals.i32();
    const sums = many(ROW_BLOCK, () => many(2, () => locals.v128()));
    const halves = many(2, () => locals.v128());
    const value = locals.v128();
    const step = (offset: number): Code =>
      join(
        ...halves.map((half, h) => half.set(v128.load(panel.get, h * VECTOR_BYTES))),
        advance(panel, rightStride.get),
        ...at.map((pointer, r) =>
          join(
            value.set(v128.load32Splat(pointer.get, offset * 4)),
            ...halves.map((half, h) => {
              const sum = sums[r]![h]!;
              return sum.set(f32x4.add(sum.get, f32x4.mul(value.get, half.get)));
            }),
          ),
        ),
      );
    return join(
      doWhile(
        join(
          row.set(rows.get),
          next.set(left.get),
          target.set(products.get),
          doWhile(
            join(
              ...sums.flat().map((sum) => sum.set(v128.zero)),
              ...at.map((pointer) => join(pointer.set(next.get), advance(next, leftStride.get))),
              end.set(i32.add(at[0]!.get, i32.shl(k.get, i32.const(2)))),
              panel.set(right.get),
              doWhile(
                join(
                  ...many(UNROLLED, step),
                  ...at.map((pointer) => advance(pointer, i32.const(UNROLLED * 4))),
                ),
                i32.ltU(at[0]!.get, end.get),
              ),
              ...sums.map((pair) =>
                join(
                  ...pair.map((sum, h) => v128.store(target.get, sum.get, h * VECTOR_BYTES)),
                  advance(target, stride.get),
                ),
              ),
              advance(row, i32.const(-ROW_BLOCK)),
            ),
            row.get,
          ),
          advance(right, i32.const(PANEL_BYTES)),
          advance(products, i32.const(PANEL_BYTES)),
          advance(panels, i32.const(-1)),
        ),
        panels.get,
      ),
    );
  },
};
