/**
 * The network's training as WebAssembly SIMD: two products, dropout, Adam. All of it is plain single floats in one
 * fixed order, so that it gives the same bytes on every machine.
 *
 * Weights, their gradients and moments stand in panels: 8 columns side by side, row after row, then the next 8.
 *
 *   product                                   transposedProduct
 *   left [rows, k] x right (panels of k rows)  left [rows, k]^T x right [rows, columns]
 *     += target [rows, columns]                  = target (panels of k rows)
 *
 * Either holds a block of 4 x 8 sums in registers, for as long as the middle dimension lasts.
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
  type Local,
  type Params,
  v128,
  writeModule,
} from "../text/encoder/wasm-writer.ts";

/** All addresses and strides in bytes; every address and stride a multiple of 16, but a constant's of 4. */
export interface NetworkKernels {
  /** Adds to target. `rows` and `k` are multiples of BLOCK; `panelStride` leads to the next panel of right. */
  product(
    left: number,
    leftStride: number,
    right: number,
    panelStride: number,
    target: number,
    targetStride: number,
    rows: number,
    k: number,
    panels: number,
  ): void;
  /** Overwrites target. `rows` and `k` are multiples of BLOCK; `panelStride` leads to the next panel of target. */
  transposedProduct(
    left: number,
    leftStride: number,
    right: number,
    rightStride: number,
    target: number,
    panelStride: number,
    rows: number,
    k: number,
    panels: number,
  ): void;
  /** In place, (x - mean) * factor, and 0 where dropped: see `dropped`. `width` is a multiple of PANEL_COLUMNS. */
  standardise(
    rows: number,
    stride: number,
    count: number,
    width: number,
    means: number,
    factors: number,
    lanes: number,
    lastDropped: number,
  ): void;
  /** In place, max(0, x) * factor, and 0 where dropped. `count` is a multiple of PANEL_COLUMNS. */
  activate(values: number, count: number, factor: number, lanes: number, lastDropped: number): void;
  /** The way back through `activate`: slope * factor where the unit answered, else 0. */
  gate(slopes: number, answers: number, count: number, factor: number): void;
  /** One step of AdamW on `count` parameters, a multiple of 4; `rates` as in ADAM_RATES. */
  adam(
    parameters: number,
    gradients: number,
    moments: number,
    squares: number,
    count: number,
    rates: number,
  ): void;
}

/** Rows, or steps of k, that a product takes at once. */
export const BLOCK = 4;
export const PANEL_COLUMNS = 8;
/** What `adam` reads, in this order. */
export const ADAM_RATES = [
  "keepMoment",
  "addMoment",
  "keepSquare",
  "addSquare",
  /** 1 / (1 - beta2^step). */
  "unbiasSquare",
  /** Rate / (1 - beta1^step). */
  "move",
  /** Rate * decay. */
  "decay",
] as const;

const VECTOR_BYTES = 16;
const PANEL_BYTES = PANEL_COLUMNS * 4;
const EPSILON = 1e-8;
/** Moments below this count as 0: a dead unit's would shrink into the subnormal numbers, slow on many machines. */
const MOMENT_MIN = 1e-30;

const many = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

const pair =
  (opcode: readonly number[]) =>
  (left: Code, right: Code): Code => [...left, ...right, 0xfd, ...opcode];
/** Instructions that only training needs; division and root are exact to the last bit everywhere. */
const divide = pair([0xe7, 0x01]);
const xor = pair([0x51]);
const isGreater = pair([0x3b]);
const root = (value: Code): Code => [...value, 0xfd, 0xe3, 0x01];
const shiftRight = (value: Code, bits: number): Code => [...value, ...i32.const(bits), 0xfd, 0xad, 0x01];
const splat = (value: Code): Code => [...value, 0xfd, 0x11];

const next = (local: Local): Code => advance(local, i32.const(VECTOR_BYTES));

/** A block of 4 x 8 sums and what one step adds to it: 4 numbers times 8 numbers. */
function sumBlock(locals: { v128(): Local }) {
  const sums = many(BLOCK, () => many(2, () => locals.v128()));
  const halves = many(2, () => locals.v128());
  const value = locals.v128();
  return {
    clear: join(...sums.flat().map((sum) => sum.set(v128.zero))),
    load: (panel: Local, offset = 0): Code =>
      join(...halves.map((half, h) => half.set(v128.load(panel.get, offset + h * VECTOR_BYTES)))),
    add: (row: number, at: Local, offset: number): Code =>
      join(
        value.set(v128.load32Splat(at.get, offset)),
        ...sums[row]!.map((sum, h) => sum.set(f32x4.add(sum.get, f32x4.mul(value.get, halves[h]!.get)))),
      ),
    store: (store: (sum: Code, row: number, offset: number) => Code, row: number): Code =>
      join(...sums[row]!.map((sum, h) => store(sum.get, row, h * VECTOR_BYTES))),
  };
}

const product: KernelSource = {
  name: "product",
  paramCount: 9,
  build: (params, locals) => {
    const [left, leftStride, right, panelStride, target, targetStride, rows, k, panels] = params as Params<9>;
    const row = locals.i32();
    const at = many(BLOCK, () => locals.i32());
    const following = locals.i32();
    const end = locals.i32();
    const panel = locals.i32();
    const out = locals.i32();
    const sums = sumBlock(locals);
    const step = (k: number) =>
      join(sums.load(panel, k * PANEL_BYTES), ...at.map((pointer, r) => sums.add(r, pointer, k * 4)));
    const add = (sum: Code, _: number, offset: number) =>
      v128.store(out.get, f32x4.add(v128.load(out.get, offset), sum), offset);
    const rowBlock = join(
      sums.clear,
      ...at.map((pointer) => join(pointer.set(following.get), advance(following, leftStride.get))),
      end.set(i32.add(at[0]!.get, i32.shl(k.get, i32.const(2)))),
      panel.set(right.get),
      doWhile(
        join(
          ...many(BLOCK, step),
          ...at.map((pointer) => advance(pointer, i32.const(BLOCK * 4))),
          advance(panel, i32.const(BLOCK * PANEL_BYTES)),
        ),
        i32.ltU(at[0]!.get, end.get),
      ),
      ...many(BLOCK, (r) => join(sums.store(add, r), advance(out, targetStride.get))),
      advance(row, i32.const(-BLOCK)),
    );
    return doWhile(
      join(
        row.set(rows.get),
        following.set(left.get),
        out.set(target.get),
        doWhile(rowBlock, row.get),
        advance(right, panelStride.get),
        advance(target, i32.const(PANEL_BYTES)),
        advance(panels, i32.const(-1)),
      ),
      panels.get,
    );
  },
};

const transposedProduct: KernelSource = {
  name: "transposedProduct",
  paramCount: 9,
  build: (params, locals) => {
    const [left, leftStride, right, rightStride, target, panelStride, rows, k, panels] = params as Params<9>;
    const row = locals.i32();
    const panel = locals.i32();
    const at = locals.i32();
    const across = locals.i32();
    const column = locals.i32();
    const out = locals.i32();
    const sums = sumBlock(locals);
    const step = join(
      sums.load(across),
      ...many(BLOCK, (r) => sums.add(r, at, r * 4)),
      advance(at, leftStride.get),
      advance(across, rightStride.get),
    );
    const set = (sum: Code, r: number, offset: number) => v128.store(out.get, sum, r * PANEL_BYTES + offset);
    const panelBlock = join(
      sums.clear,
      row.set(rows.get),
      at.set(left.get),
      across.set(column.get),
      doWhile(join(...many(BLOCK, () => step), advance(row, i32.const(-BLOCK))), row.get),
      ...many(BLOCK, (r) => sums.store(set, r)),
      advance(out, panelStride.get),
      advance(column, i32.const(PANEL_BYTES)),
      advance(panel, i32.const(-1)),
    );
    return doWhile(
      join(
        panel.set(panels.get),
        column.set(right.get),
        out.set(target.get),
        doWhile(panelBlock, panel.get),
        next(left),
        advance(target, i32.const(BLOCK * PANEL_BYTES)),
        advance(k, i32.const(-BLOCK)),
      ),
      k.get,
    );
  },
};

/**
 * Dropout of 8 values. Four xorshift generators side by side (Marsaglia 2003, shifts 13, 17, 5) draw 32 bits each,
 * and each half of a draw decides on one value: it is dropped unless the half is above `last`.
 */
function dropped(lanes: Local, last: Local, values: readonly [Code, Code]): { draw: Code; kept: Code[] } {
  const xorShifted = (value: Code): Code => lanes.set(xor(lanes.get, value));
  const draw = join(
    xorShifted(i32x4.shl(lanes.get, 13)),
    xorShifted(shiftRight(lanes.get, 17)),
    xorShifted(i32x4.shl(lanes.get, 5)),
  );
  const halves = [v128.and(lanes.get, i32x4.const(0xffff)), shiftRight(lanes.get, 16)];
  return { draw, kept: halves.map((half, h) => v128.and(values[h]!, isGreater(half, last.get))) };
}

const standardise: KernelSource = {
  name: "standardise",
  paramCount: 8,
  build: (params, locals) => {
    const [rows, stride, count, width, means, factors, lanes, lastDropped] = params as Params<8>;
    const at = locals.i32();
    const end = locals.i32();
    const mean = locals.i32();
    const factor = locals.i32();
    const state = locals.v128();
    const last = locals.v128();
    const scaled = (offset: number): Code =>
      f32x4.mul(
        f32x4.sub(v128.load(at.get, offset), v128.load(mean.get, offset)),
        v128.load(factor.get, offset),
      );
    const { draw, kept } = dropped(state, last, [scaled(0), scaled(VECTOR_BYTES)]);
    return join(
      state.set(v128.load(lanes.get)),
      last.set(splat(lastDropped.get)),
      doWhile(
        join(
          at.set(rows.get),
          end.set(i32.add(rows.get, i32.shl(width.get, i32.const(2)))),
          mean.set(means.get),
          factor.set(factors.get),
          doWhile(
            join(
              draw,
              ...kept.map((value, h) => v128.store(at.get, value, h * VECTOR_BYTES)),
              ...[at, mean, factor].map((pointer) => advance(pointer, i32.const(PANEL_BYTES))),
            ),
            i32.ltU(at.get, end.get),
          ),
          advance(rows, stride.get),
          advance(count, i32.const(-1)),
        ),
        count.get,
      ),
      v128.store(lanes.get, state.get),
    );
  },
};

const activate: KernelSource = {
  name: "activate",
  paramCount: 5,
  build: (params, locals) => {
    const [values, count, factor, lanes, lastDropped] = params as Params<5>;
    const state = locals.v128();
    const last = locals.v128();
    const scale = locals.v128();
    const scaled = (offset: number): Code =>
      f32x4.mul(f32x4.pmax(v128.load(values.get, offset), v128.zero), scale.get);
    const { draw, kept } = dropped(state, last, [scaled(0), scaled(VECTOR_BYTES)]);
    return join(
      state.set(v128.load(lanes.get)),
      last.set(splat(lastDropped.get)),
      scale.set(v128.load32Splat(factor.get)),
      doWhile(
        join(
          draw,
          ...kept.map((value, h) => v128.store(values.get, value, h * VECTOR_BYTES)),
          advance(values, i32.const(PANEL_BYTES)),
          advance(count, i32.const(-PANEL_COLUMNS)),
        ),
        count.get,
      ),
      v128.store(lanes.get, state.get),
    );
  },
};

const gate: KernelSource = {
  name: "gate",
  paramCount: 4,
  build: (params, locals) => {
    const [slopes, answers, count, factor] = params as Params<4>;
    const scale = locals.v128();
    const open = f32x4.gt(v128.load(answers.get), v128.zero);
    return join(
      scale.set(v128.load32Splat(factor.get)),
      doWhile(
        join(
          v128.store(slopes.get, v128.and(f32x4.mul(v128.load(slopes.get), scale.get), open)),
          next(slopes),
          next(answers),
          advance(count, i32.const(-4)),
        ),
        count.get,
      ),
    );
  },
};

const adam: KernelSource = {
  name: "adam",
  paramCount: 6,
  build: (params, locals) => {
    const [parameters, gradients, moments, squares, count, rates] = params as Params<6>;
    const [keepMoment, addMoment, keepSquare, addSquare, unbiasSquare, move, decay] = many(
      ADAM_RATES.length,
      () => locals.v128(),
    ) as [Local, Local, Local, Local, Local, Local, Local];
    const constants = [keepMoment, addMoment, keepSquare, addSquare, unbiasSquare, move, decay];
    const parameter = locals.v128();
    const gradient = locals.v128();
    const moment = locals.v128();
    const square = locals.v128();
    const mixed = (keep: Local, place: Local, add: Local, value: Code): Code =>
      f32x4.add(f32x4.mul(keep.get, v128.load(place.get)), f32x4.mul(add.get, value));
    const spread = f32x4.add(root(f32x4.mul(square.get, unbiasSquare.get)), f32x4.const(EPSILON));
    const change = f32x4.add(
      divide(f32x4.mul(move.get, moment.get), spread),
      f32x4.mul(decay.get, parameter.get),
    );
    return join(
      ...constants.map((constant, i) => constant.set(v128.load32Splat(rates.get, i * 4))),
      doWhile(
        join(
          gradient.set(v128.load(gradients.get)),
          moment.set(mixed(keepMoment, moments, addMoment, gradient.get)),
          moment.set(v128.and(moment.get, f32x4.gt(f32x4.abs(moment.get), f32x4.const(MOMENT_MIN)))),
          square.set(mixed(keepSquare, squares, addSquare, f32x4.mul(gradient.get, gradient.get))),
          parameter.set(v128.load(parameters.get)),
          v128.store(moments.get, moment.get),
          v128.store(squares.get, square.get),
          v128.store(parameters.get, f32x4.sub(parameter.get, change)),
          ...[parameters, gradients, moments, squares].map(next),
          advance(count, i32.const(-4)),
        ),
        count.get,
      ),
    );
  },
};

/** The part of the standard global that is used; neither Node's types nor the language's know it. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (
    module: object,
    imports: { readonly env: { readonly memory: object } },
  ) => { readonly exports: unknown };
};

const PAGE_BYTES = 65_536;
/** A line of the caches; more than the 16 that the kernels' loads ask for. */
const ALIGNMENT_BYTES = 64;

const source = writeModule([product, transposedProduct, standardise, activate, gate, adam]);

/** The kernels over a memory of their own that holds so many floats by name, all 0; a place's address is its byteOffset. */
export function openNetworkKernels<Name extends string>(
  lengths: Readonly<Record<Name, number>>,
): { readonly kernels: NetworkKernels; readonly places: Readonly<Record<Name, Float32Array<ArrayBuffer>>> } {
  let bytes = 0;
  const starts = new Map<string, number>();
  for (const [name, length] of Object.entries<number>(lengths)) {
    starts.set(name, bytes);
    bytes += Math.ceil((length * 4) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  }
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE_BYTES) });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(source), { env: { memory } });
  const views = Object.entries<number>(lengths).map(([name, length]) => [
    name,
    new Float32Array(memory.buffer, starts.get(name), length),
  ]);
  return { kernels: instance.exports as NetworkKernels, places: Object.fromEntries(views) };
}
