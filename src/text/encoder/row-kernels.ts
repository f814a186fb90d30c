/** What is done to one row after the other, as WebAssembly SIMD: quantising, layer norm, softmax. */
import { PANEL_COLUMNS } from "./product-kernels.ts";
import {
  across,
  advance,
  type Code,
  doWhile,
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  join,
  type KernelSource,
  type Params,
  v128,
  whileDo,
} from "./wasm-writer.ts";

const VECTOR_BYTES = 16;
const PANEL_BYTES = PANEL_COLUMNS * 4;

export const quantise: KernelSource = {
  name: "quantise",
  paramCount: 6,
  build: (params, locals) => {
    const [source, target, rows, k, scales, largest] = params as Params<6>;
    const rowBytes = locals.i32();
    const at = locals.i32();
    const end = locals.i32();
    const top = locals.v128();
    const factor = locals.v128();
    const rounded = (offset: number) =>
      i32x4.truncSatF32x4(f32x4.nearest(f32x4.mul(v128.load(source.get, offset), factor.get)));
    return join(
      rowBytes.set(i32.shl(k.get, i32.const(2))),
      doWhile(
        join(
          at.set(source.get),
          end.set(i32.add(source.get, rowBytes.get)),
          // Never 0: a row of zeros divides by the smallest scale instead.
          top.set(f32x4.const(1e-30)),
          doWhile(
            join(
              top.set(f32x4.pmax(top.get, f32x4.abs(v128.load(at.get)))),
              advance(at, i32.const(VECTOR_BYTES)),
            ),
            i32.ltU(at.get, end.get),
          ),
          top.set(f32x4.splat(across(f32.max, top))),
          factor.set(f32x4.splat(f32.div(f32.fromI32(largest.get), f32x4.lane(top.get, 0)))),
          f32.store(scales.get, f32.div(f32x4.lane(top.get, 0), f32.fromI32(largest.get))),
          doWhile(
            join(
              v128.store(target.get, i16x8.narrowI32x4(rounded(0), rounded(VECTOR_BYTES))),
              advance(source, i32.const(2 * VECTOR_BYTES)),
              advance(target, i32.const(VECTOR_BYTES)),
            ),
            i32.ltU(source.get, end.get),
          ),
          advance(scales, i32.const(4)),
          advance(rows, i32.const(-1)),
        ),
        rows.get,
      ),
    );
  },
};

/** (x - mean) / sqrt(variance + 1e-6) * scale + bias, as in tensor2tensor. */
export const layerNorm: KernelSource = {
  name: "layerNorm",
  paramCount: 6,
  build: (params, locals) => {
    const [source, target, rows, k, scale, bias] = params as Params<6>;
    const rowBytes = locals.i32();
    const at = locals.i32();
    const end = locals.i32();
    const scaleAt = locals.i32();
    const biasAt = locals.i32();
    const sum = locals.v128();
    const mean = locals.v128();
    const factor = locals.v128();
    const centred = locals.v128();
    const over = (body: Code): Code =>
      join(
        at.set(source.get),
        doWhile(join(body, advance(at, i32.const(VECTOR_BYTES))), i32.ltU(at.get, end.get)),
      );
    const meanOfSum = f32.div(across(f32.add, sum), f32.fromI32(k.get));
    return join(
      rowBytes.set(i32.shl(k.get, i32.const(2))),
      doWhile(
        join(
          end.set(i32.add(source.get, rowBytes.get)),
          sum.set(v128.zero),
          over(sum.set(f32x4.add(sum.get, v128.load(at.get)))),
          mean.set(f32x4.splat(meanOfSum)),
          sum.set(v128.zero),
          over(
            join(
              centred.set(f32x4.sub(v128.load(at.get), mean.get)),
              sum.set(f32x4.add(sum.get, f32x4.mul(centred.get, centred.get))),
            ),
          ),
          factor.set(f32x4.splat(f32.div(f32.const(1), f32.sqrt(f32.add(meanOfSum, f32.const(1e-6)))))),
          scaleAt.set(scale.get),
          biasAt.set(bias.get),
          over(
            join(
              centred.set(f32x4.sub(v128.load(at.get), mean.get)),
              v128.store(
                target.get,
                f32x4.add(
                  f32x4.mul(f32x4.mul(v128.load(scaleAt.get), factor.get), centred.get),
                  v128.load(biasAt.get),
                ),
              ),
              ...[target, scaleAt, biasAt].map((pointer) => advance(pointer, i32.const(VECTOR_BYTES))),
            ),
          ),
          source.set(end.get),
          advance(rows, i32.const(-1)),
        ),
        rows.get,
      ),
    );
  },
};

/** Below this the exponential counts as 0, so that padding weighs exactly nothing. */
const EXPONENT_MIN = -80;
/** 2^x on [-0.5, 0.5] by its Taylor series; the error is below 2^-24. */
const POWERS = [6, 5, 4, 3, 2, 1, 0].map((n) => Math.LN2 ** n / [1, 1, 2, 6, 24, 120, 720][n]!);

export const softmax: KernelSource = {
  name: "softmax",
  paramCount: 4,
  build: (params, locals) => {
    const [matrix, stride, rows, columns] = params as Params<4>;
    const width = locals.i32();
    const at = locals.i32();
    const end = locals.i32();
    const sum = locals.v128();
    const top = locals.v128();
    const x = locals.v128();
    const whole = locals.v128();
    const mask = locals.v128();
    const over = (body: Code): Code =>
      join(
        at.set(matrix.get),
        doWhile(join(body, advance(at, i32.const(VECTOR_BYTES))), i32.ltU(at.get, end.get)),
      );
    const fraction = x;
    const polynomial = POWERS.slice(1).reduce<Code>(
      (code, power) => f32x4.add(f32x4.mul(code, fraction.get), f32x4.const(power)),
      f32x4.const(POWERS[0]!),
    );
    const twoToWhole = i32x4.shl(i32x4.add(i32x4.truncSatF32x4(whole.get), i32x4.const(127)), 23);
    return join(
      width.set(
        i32.and(
          i32.add(i32.shl(columns.get, i32.const(2)), i32.const(PANEL_BYTES - 1)),
          i32.const(-PANEL_BYTES),
        ),
      ),
      doWhile(
        join(
          end.set(i32.add(matrix.get, width.get)),
          at.set(i32.add(matrix.get, i32.shl(columns.get, i32.const(2)))),
          whileDo(
            i32.ltU(at.get, end.get),
            join(f32.store(at.get, f32.const(-1e30)), advance(at, i32.const(4))),
          ),
          top.set(f32x4.const(-1e30)),
          over(top.set(f32x4.pmax(top.get, v128.load(at.get)))),
          top.set(f32x4.splat(across(f32.max, top))),
          sum.set(v128.zero),
          over(
            join(
              x.set(f32x4.sub(v128.load(at.get), top.get)),
              mask.set(f32x4.gt(x.get, f32x4.const(EXPONENT_MIN))),
              x.set(f32x4.mul(f32x4.pmax(x.get, f32x4.const(EXPONENT_MIN)), f32x4.const(Math.LOG2E))),
              whole.set(f32x4.nearest(x.get)),
              x.set(f32x4.sub(x.get, whole.get)),
              x.set(v128.and(f32x4.mul(polynomial, twoToWhole), mask.get)),
              sum.set(f32x4.add(sum.get, x.get)),
              v128.store(at.get, x.get),
            ),
          ),
          sum.set(f32x4.splat(f32.div(f32.const(1), across(f32.add, sum)))),
          over(v128.store(at.get, f32x4.mul(v128.load(at.get), sum.get))),
          advance(matrix, stride.get),
          advance(rows, i32.const(-1)),
        ),
        rows.get,
      ),
    );
  },
};
