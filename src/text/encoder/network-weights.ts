/**
 * Puts the model's tensors into the kernels' memory: weights as 16-bit integers, each column by its own scale,
 * cut into panels in the order in which the product kernel reads them.
 */
import type { KernelMemory } from "./kernels.ts";
import type { EncoderModel } from "./model-files.ts";
import { PANEL_COLUMNS } from "./product-kernels.ts";

/** Width of a word's own embedding, which is the first layer's; of what the layers give; inside their second half. */
export const WORD_WIDTH = 256;
export const WIDTH = 512;
export const INNER_WIDTH = 1536;
export const HEADS = 4;
/** Pieces of a text that the network reads; the model was made for no more. */
export const PIECES_MAX = 128;

/** A product's right side. */
export interface Dense {
  readonly weights: number;
  readonly scales: number;
  readonly bias: number;
  readonly k: number;
  readonly columns: number;
  /** The largest number on the left side with which no sum can pass 32 bits. */
  readonly leftMax: number;
}

type Norm = readonly [scale: number, bias: number];

export interface Layer {
  readonly width: number;
  readonly norm: Norm;
  readonly qkv: Dense;
  readonly output: Dense;
  readonly innerNorm: Norm;
  readonly inner: Dense;
  readonly outer: Dense;
}

export interface NetworkWeights {
  /** Row-major, WORD_WIDTH to a piece. */
  readonly words: Float32Array;
  /** Row-major, WORD_WIDTH to a place. */
  readonly timing: Float32Array;
  readonly residual: Dense;
  readonly layers: readonly Layer[];
  readonly head: Dense;
}

const WEIGHT_MAX = 2047;
const SHORT_MAX = 32_767;
const SUM_MAX = 2 ** 31 - 1;

const ENCODER = "Encoder_en/KonaTransformer/Encode";
const FOLDED = `module_apply_default/${ENCODER}`;
const CONCAT = "ConcatPartitions/concat";
/** The embeddings have two rows more than the vocabulary has pieces. */
const SPARE_WORDS = 2;

export function placeWeights(model: EncoderModel, memory: KernelMemory): NetworkWeights {
  const store = (values: Float32Array): number => {
    const address = memory.reserve(values.length * 4);
    memory.floats(address, values.length).set(values);
    return address;
  };

  interface DenseNames {
    readonly weights: string;
    readonly bias: string;
  }
  /** `factor` multiplies the result in a column. */
  const dense = (names: DenseNames, k: number, columns: number, factor = (_column: number) => 1): Dense => {
    const { quantised, scales, sumMax } = quantiseColumns(model.tensor(names.weights, k * columns), columns);
    const weights = memory.reserve(quantised.length * 2);
    packPanels(quantised, columns, memory.shorts(weights, quantised.length));
    return {
      weights,
      scales: store(scales.map((scale, column) => scale * factor(column))),
      bias: store(model.tensor(names.bias, columns).map((bias, column) => bias * factor(column))),
      k,
      columns,
      leftMax: Math.min(SHORT_MAX, Math.floor(SUM_MAX / sumMax)),
    };
  };

  const layer = (index: number, width: number): Layer => {
    const own = `Layer_${index}/TransformerLayer`;
    const norm = (place: string, size: number): Norm => {
      const name = `${FOLDED}/${own}/${place}layer_prepostprocess/layer_norm/layer_norm`;
      const part = (what: string) => store(model.tensor(`${name}_${what}/${CONCAT}`, size));
      return [part("scale"), part("bias")];
    };
    const attention = (part: string): DenseNames => ({
      weights: `module/${ENCODER}/${own}/MultiheadAttention/${part}_transform_single/kernel/part_0`,
      bias: `${FOLDED}/${own}/MultiheadAttention/${part}_transform_single/bias/${CONCAT}`,
    });
    const forward = (part: string): DenseNames => ({
      weights: `${FOLDED}/TransformerStack/${own}/FFN/${part}/Tensordot/Reshape_1`,
      bias: `${FOLDED}/${own}/FFN/${part}/bias/${CONCAT}`,
    });
    const queryFactor = 1 / Math.sqrt(width / HEADS);
    return {
      width,
      norm: norm("", width),
      qkv: dense(attention("qkv"), width, 3 * width, (column) => (column < width ? queryFactor : 1)),
      output: dense(attention("output"), width, WIDTH),
      innerNorm: norm("FFN/", WIDTH),
      inner: dense(forward("conv1"), WIDTH, INNER_WIDTH),
      outer: dense(forward("conv2"), INNER_WIDTH, WIDTH),
    };
  };

  const wordCount = model.vocabulary.length + SPARE_WORDS;
  const frequencies = model.tensor(
    `${FOLDED}/TransformerStack/Layer_0/AddTimingSignal/TimingSignal/ExpandDims_1`,
    WORD_WIDTH / 2,
  );
  const residual = `${FOLDED}/Layer_0/TransformerLayer/dense`;
  const head = "module/Encoder_en/hidden_layers/tanh_layer_0";
  return {
    // A copy, so that the shards' bytes can go.
    words: model.tensor("module/Embeddings_en", wordCount * WORD_WIDTH).slice(),
    timing: timingSignal(frequencies),
    residual: dense(
      { weights: `${residual}/kernel/${CONCAT}`, bias: `${residual}/bias/${CONCAT}` },
      WORD_WIDTH,
      WIDTH,
    ),
    layers: [layer(0, WORD_WIDTH), layer(1, WIDTH)],
    head: dense({ weights: `${head}/weights`, bias: `${head}/bias` }, WIDTH, WIDTH),
  };
}

/** Each column's numbers as multiples of its scale, and the largest sum of magnitudes that a column has. */
export function quantiseColumns(
  matrix: Float32Array,
  columns: number,
): { readonly quantised: Int16Array; readonly scales: Float32Array; readonly sumMax: number } {
  const tops = new Float32Array(columns);
  for (let i = 0; i < matrix.length; i += 1) {
    const column = i % columns;
    tops[column] = Math.max(tops[column]!, Math.abs(matrix[i]!));
  }
  const scales = tops.map((top) => (top === 0 ? 1 : top) / WEIGHT_MAX);
  const quantised = new Int16Array(matrix.length);
  const sums = new Float64Array(columns);
  for (let i = 0; i < matrix.length; i += 1) {
    const column = i % columns;
    const value = Math.round(matrix[i]! / scales[column]!);
    quantised[i] = value;
    sums[column] = sums[column]! + Math.abs(value);
  }
  return { quantised, scales, sumMax: Math.max(1, ...sums) };
}

/** Row-major to panels of eight columns, with pairs of rows side by side. */
export function packPanels(matrix: Int16Array, columns: number, target: Int16Array): void {
  let at = 0;
  for (let panel = 0; panel < columns; panel += PANEL_COLUMNS) {
    for (let pair = panel; pair < matrix.length; pair += 2 * columns) {
      for (let column = 0; column < PANEL_COLUMNS; column += 1) {
        target[at++] = matrix[pair + column]!;
        target[at++] = matrix[pair + columns + column]!;
      }
    }
  }
}

/** Of each place, the sines and then the cosines of the place times each of the model's frequencies. */
function timingSignal(frequencies: Float32Array): Float32Array {
  const signal = new Float32Array(PIECES_MAX * WORD_WIDTH);
  for (let place = 0; place < PIECES_MAX; place += 1) {
    for (const [i, frequency] of frequencies.entries()) {
      const angle = Math.fround(place * frequency);
      signal[place * WORD_WIDTH + i] = Math.sin(angle);
      signal[place * WORD_WIDTH + frequencies.length + i] = Math.cos(angle);
    }
  }
  return signal;
}
