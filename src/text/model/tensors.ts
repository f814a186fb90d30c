/**
 * A model file: named tensors behind a JSON header, in the safetensors layout (8 bytes of header length, little
 * endian; the header; the data). The format is read by many tools, holds no code, and can be checked in full
 * before a byte of it is used.
 */

export type TensorData = Float32Array | Int32Array | Int8Array | Uint8Array;

export interface Tensor {
  readonly shape: readonly number[];
  readonly data: TensorData;
}

export interface TensorFile {
  /** `__metadata__`: strings by name. */
  readonly about: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

const TYPES = { F32: Float32Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array } as const;
type TypeName = keyof typeof TYPES;

const HEADER_BYTES_MAX = 1_048_576;
/** Tensors begin at such offsets, so that typed arrays can look at the file's own bytes. */
const ALIGN = 8;

/** Throws an Error that says what is wrong with the file. */
export function readTensors(bytes: Uint8Array): TensorFile {
  if (bytes.length < 8) throw new Error("it is too short to be a model file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true);
  if (view.getUint32(4, true) !== 0 || length > HEADER_BYTES_MAX || 8 + length > bytes.length) {
    throw new Error("its header's length makes no sense");
  }
  const header: unknown = JSON.parse(
    new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)),
  );
  if (typeof header !== "object" || header === null || Array.isArray(header))
    throw new Error("its header is no object");
  const data = bytes.subarray(8 + length);
  const tensors = new Map<string, Tensor>();
  let about: Record<string, string> = {};
  for (const [name, entry] of Object.entries(header as Record<string, unknown>)) {
    if (name === "__metadata__") about = entry as Record<string, string>;
    else tensors.set(name, readTensor(name, entry, data));
  }
  return { about, tensors };
}

function readTensor(name: string, entry: unknown, data: Uint8Array): Tensor {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  const isNumbers = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((one) => Number.isSafeInteger(one) && one >= 0);
  if (typeof dtype !== "string" || !(dtype in TYPES) || !isNumbers(shape) || !isNumbers(offsets)) {
    throw new Error(`its tensor "${name}" is described in a way that is not understood`);
  }
  const [from = 0, to = 0] = offsets;
  const type = TYPES[dtype as TypeName];
  const count = shape.reduce((product, size) => product * size, 1);
  if (to > data.length || to - from !== count * type.BYTES_PER_ELEMENT) {
    throw new Error(`its tensor "${name}" does not fit its shape`);
  }
  // A copy where the file lies in memory at an odd place.
  const at = data.byteOffset + from;
  const values =
    at % type.BYTES_PER_ELEMENT === 0
      ? new type(data.buffer as ArrayBuffer, at, count)
      : new type(data.slice(from, to).buffer as ArrayBuffer);
  return { shape, data: values };
}

/** The same file for the same content: tensors in the order of their names. */
export function writeTensors(file: TensorFile): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: file.about };
  const parts: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  let offset = 0;
  for (const name of [...file.tensors.keys()].sort()) {
    const { shape, data } = file.tensors.get(name)!;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    header[name] = { dtype: typeNameOf(data), shape, data_offsets: [offset, offset + bytes.length] };
    parts.push({ offset, bytes });
    offset = Math.ceil((offset + bytes.length) / ALIGN) * ALIGN;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((ALIGN - (Buffer.byteLength(text) % ALIGN)) % ALIGN);
  const head = Buffer.from(text);
  const last = parts.at(-1);
  const out = new Uint8Array(8 + head.length + (last === undefined ? 0 : last.offset + last.bytes.length));
  new DataView(out.buffer).setUint32(0, head.length, true);
  out.set(head, 8);
  for (const part of parts) out.set(part.bytes, 8 + head.length + part.offset);
  return out;
}

function typeNameOf(data: TensorData): TypeName {
  for (const name of Object.keys(TYPES) as TypeName[]) {
    if (data instanceof TYPES[name]) return name;
  }
  throw new Error("a tensor of a type that cannot be written");
}

/** Throws an Error where the file has no such tensor, or one of another type or length. */
export function tensor<T extends Float32Array | Int32Array>(
  file: TensorFile,
  name: string,
  type: { new (length: number): T },
  length?: number,
): T {
  const data = file.tensors.get(name)?.data;
  if (!(data instanceof type)) throw new Error(`it has no tensor "${name}" of the right type`);
  if (length !== undefined && data.length !== length) {
    throw new Error(`its tensor "${name}" has ${data.length} numbers; ${length} were expected`);
  }
  return data;
}
