/** The encoder's arithmetic: WebAssembly kernels over one memory, written out when this file is loaded. */
import { floatProduct, productKernel } from "./product-kernels.ts";
import { layerNorm, quantise, softmax } from "./row-kernels.ts";
import { writeModule } from "./wasm-writer.ts";

/** All addresses and strides in bytes; every address a multiple of 16. */
export interface Kernels {
  /**
   * products = left (rows x k, 16-bit) * right (packed in panels) * rowScale * columnScale + bias.
   * `rows` is a multiple of ROW_BLOCK, k of 8. The relu kind clips at 0, the add kind adds to what is there.
   */
  readonly product: Product;
  readonly productRelu: Product;
  readonly productAdd: Product;
  /** Rows of k floats to 16 bits, each row by its own scale, which is stored: value = quantised * scale. */
  quantise(source: number, target: number, rows: number, k: number, scales: number, largest: number): void;
  layerNorm(source: number, target: number, rows: number, k: number, scale: number, bias: number): void;
  /** Floats: products = left * right; `k` a multiple of 4, `rows` of ROW_BLOCK; right is read a panel wide. */
  floatProduct(
    left: number,
    leftStride: number,
    right: number,
    rightStride: number,
    products: number,
    productStride: number,
    rows: number,
    k: number,
    panels: number,
  ): void;
  /** In place, over the first `columns` of each row; the rest of a row up to a panel's edge becomes 0. */
  softmax(matrix: number, stride: number, rows: number, columns: number): void;
}

type Product = (
  left: number,
  right: number,
  products: number,
  rows: number,
  k: number,
  panels: number,
  rowScales: number,
  columnScales: number,
  bias: number,
  productStride: number,
) => void;

const source = writeModule([
  productKernel("product"),
  productKernel("productRelu"),
  productKernel("productAdd"),
  quantise,
  layerNorm,
  floatProduct,
  softmax,
]);

/** The part of the standard global that is used; neither Node's types nor the language's know it. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (
    module: object,
    imports: { readonly env: { readonly memory: WasmMemory } },
  ) => { readonly exports: unknown };
};
interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
const PAGE_BYTES = 65_536;
/** A line of the caches; more than the 16 that the kernels' loads ask for. */
const ALIGNMENT_BYTES = 64;

/** The memory that the kernels work on. Places are reserved for good; views end with the next reservation. */
export interface KernelMemory {
  /** Address of so many new bytes, all 0. */
  reserve(bytes: number): number;
  floats(address: number, length: number): Float32Array<ArrayBuffer>;
  shorts(address: number, length: number): Int16Array<ArrayBuffer>;
}

/** The kernels, compiled anew, and a memory of their own. */
export function openKernels(): { readonly kernels: Kernels; readonly memory: KernelMemory } {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(source), { env: { memory } });
  let used = 0;
  return {
    kernels: instance.exports as Kernels,
    memory: {
      reserve(bytes) {
        const address = used;
        used += Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
        const missing = Math.ceil((used - memory.buffer.byteLength) / PAGE_BYTES);
        if (missing > 0) memory.grow(missing);
        return address;
      },
      floats: (address, length) => new Float32Array(memory.buffer, address, length),
      shorts: (address, length) => new Int16Array(memory.buffer, address, length),
    },
  };
}
