/**
 * Writes WebAssembly modules from TypeScript expressions, as far as the encoder's kernels need it: 32-bit
 * integers, single floats and 128-bit vectors over one imported memory. Code is a list of bytes in stack order,
 * so that a kernel reads as the arithmetic that it does, and nothing has to be built or shipped in binary.
 */
export type Code = readonly number[];

const I32 = 0x7f;
const V128 = 0x7b;

/** A local variable of a function, or a parameter: all parameters are 32-bit integers. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

/** The first of a function's parameters, when `Count` of them are wanted. */
export type Params<
  Count extends number,
  Found extends readonly Local[] = readonly [],
> = Found["length"] extends Count ? Found : Params<Count, readonly [...Found, Local]>;

/** Declares the locals of one function. */
export interface Locals {
  i32(): Local;
  v128(): Local;
}

export interface KernelSource {
  readonly name: string;
  readonly paramCount: number;
  readonly build: (params: unknown, locals: Locals) => Code;
}

function leb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
}

function signedLeb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

function floatBytes(value: number): number[] {
  return [...new Uint8Array(new Float32Array([value]).buffer)];
}

const binary =
  (opcode: number) =>
  (left: Code, right: Code): Code => [...left, ...right, opcode];
const vectorUnary =
  (opcode: number) =>
  (value: Code): Code => [...value, 0xfd, ...leb(opcode)];
const vectorBinary =
  (opcode: number) =>
  (left: Code, right: Code): Code => [...left, ...right, 0xfd, ...leb(opcode)];
const vectorLoad =
  (opcode: number, align: number) =>
  (address: Code, offset = 0): Code => [...address, 0xfd, ...leb(opcode), align, ...leb(offset)];

export const i32 = {
  const: (value: number): Code => [0x41, ...signedLeb(value)],
  add: binary(0x6a),
  and: binary(0x71),
  shl: binary(0x74),
  /** Unsigned less-than: addresses. */
  ltU: binary(0x49),
} as const;

export const f32 = {
  const: (value: number): Code => [0x43, ...floatBytes(value)],
  store: (address: Code, value: Code, offset = 0): Code => [...address, ...value, 0x38, 2, ...leb(offset)],
  fromI32: (value: Code): Code => [...value, 0xb2],
  sqrt: (value: Code): Code => [...value, 0x91],
  add: binary(0x92),
  div: binary(0x95),
  max: binary(0x97),
} as const;

export const v128 = {
  load: vectorLoad(0x00, 4),
  load32Splat: vectorLoad(0x09, 2),
  store: (address: Code, value: Code, offset = 0): Code => [
    ...address,
    ...value,
    0xfd,
    0x0b,
    4,
    ...leb(offset),
  ],
  and: vectorBinary(0x4e),
  zero: [0xfd, 0x0c, ...new Array<number>(16).fill(0)] as Code,
} as const;

export const i32x4 = {
  const: (value: number): Code => [...i32.const(value), 0xfd, 0x11],
  add: vectorBinary(0xae),
  shl: (value: Code, bits: number): Code => [...value, ...i32.const(bits), 0xfd, ...leb(0xab)],
  /** Products of eight 16-bit pairs, neighbours added: exact, whatever the machine. */
  dotI16x8: vectorBinary(0xba),
  truncSatF32x4: vectorUnary(0xf8),
} as const;

export const i16x8 = { narrowI32x4: vectorBinary(0x85) } as const;

export const f32x4 = {
  const: (value: number): Code => [...f32.const(value), 0xfd, 0x13],
  splat: (value: Code): Code => [...value, 0xfd, 0x13],
  lane: (value: Code, lane: number): Code => [...value, 0xfd, 0x1f, lane],
  gt: vectorBinary(0x44),
  nearest: vectorUnary(0x6a),
  abs: vectorUnary(0xe0),
  add: vectorBinary(0xe4),
  sub: vectorBinary(0xe5),
  mul: vectorBinary(0xe6),
  /** The right operand where it is larger, without the costly rules for NaN and signed zero. */
  pmax: vectorBinary(0xeb),
  fromI32x4: vectorUnary(0xfa),
} as const;

/** The sum, or the largest, of the four lanes of a vector, in one fixed order. */
export function across(combine: (left: Code, right: Code) => Code, vector: Local): Code {
  const lane = (index: number) => f32x4.lane(vector.get, index);
  return combine(combine(lane(0), lane(1)), combine(lane(2), lane(3)));
}

/** Runs the body, then again as long as the condition holds. */
export const doWhile = (body: Code, condition: Code): Code => [
  0x03,
  0x40,
  ...body,
  ...condition,
  0x0d,
  0,
  0x0b,
];

/** Runs the body as long as the condition holds before it. */
export const whileDo = (condition: Code, body: Code): Code => [
  ...[0x02, 0x40, 0x03, 0x40],
  ...condition,
  ...[0x45, 0x0d, 1],
  ...body,
  ...[0x0c, 0, 0x0b, 0x0b],
];

export const advance = (local: Local, by: Code): Code => local.set(i32.add(local.get, by));

export const join = (...parts: readonly Code[]): Code => parts.flat();

function section(id: number, content: Code): Code {
  return [id, ...leb(content.length), ...content];
}

function name(text: string): Code {
  const bytes = new TextEncoder().encode(text);
  return [...leb(bytes.length), ...bytes];
}

function bodyOf({ paramCount, build }: KernelSource): Code {
  const types: number[] = [];
  const local = (index: number): Local => ({
    get: [0x20, ...leb(index)],
    set: (value) => [...value, 0x21, ...leb(index)],
  });
  const declare = (type: number) => () => {
    types.push(type);
    return local(paramCount + types.length - 1);
  };
  const code = build(
    Array.from({ length: paramCount }, (_, index) => local(index)),
    { i32: declare(I32), v128: declare(V128) },
  );
  const body = [...leb(types.length), ...types.flatMap((type) => [1, type]), ...code, 0x0b];
  return [...leb(body.length), ...body];
}

/** The bytes of a module that imports `env.memory` and exports the kernels by name. */
export function writeModule(kernels: readonly KernelSource[]): Uint8Array<ArrayBuffer> {
  const count = leb(kernels.length);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [
      ...count,
      ...kernels.flatMap(({ paramCount }) => [0x60, ...leb(paramCount), ...Array(paramCount).fill(I32), 0]),
    ]),
    ...section(2, [1, ...name("env"), ...name("memory"), 2, 0, 1]),
    ...section(3, [...count, ...kernels.keys().flatMap(leb)]),
    ...section(7, [...count, ...kernels.flatMap((kernel, at) => [...name(kernel.name), 0, ...leb(at)])]),
    ...section(10, [...count, ...kernels.flatMap(bodyOf)]),
  ]);
}
