/**
 * The Universal Sentence Encoder (lite) as a forward pass over the kernels: piece embeddings with a timing
 * signal, two transformer layers, a mean over pieces, one dense tanh layer. The pieces of all texts of a batch
 * lie one behind the other without padding, so that a text's numbers do not depend on what is encoded beside it.
 */
import { openKernels } from "./kernels.ts";
import type { EncoderModel } from "./model-files.ts";
import {
  type Dense,
  HEADS,
  INNER_WIDTH,
  PIECES_MAX,
  placeWeights,
  WIDTH,
  WORD_WIDTH,
} from "./network-weights.ts";
import { PANEL_COLUMNS, ROW_BLOCK } from "./product-kernels.ts";

/** Rows of a batch: pieces of all its texts. A text of no pieces takes one, too. */
export const BATCH_ROWS_MAX = 512;

/** The parts of an embedding, one behind the other, each named with its place. */
export const EMBEDDING = {
  /** What the model was trained to give: of length 1. */
  sentence: { from: 0, to: WIDTH },
  /** Mean and maximum over the pieces of what the second layer gives. */
  mean: { from: WIDTH, to: 2 * WIDTH },
  max: { from: 2 * WIDTH, to: 3 * WIDTH },
  /** Mean of the pieces' own embeddings, which knows neither order nor context. */
  words: { from: 3 * WIDTH, to: 3 * WIDTH + WORD_WIDTH },
} as const;
export const EMBEDDING_SIZE = EMBEDDING.words.to;

export interface Network {
  /** One embedding for each text, given as its piece numbers; together at most BATCH_ROWS_MAX by rowsOf. */
  run(texts: readonly Int32Array[]): Float32Array[];
}

/** How many rows of a batch a text takes. */
export const rowsOf = (pieces: Int32Array): number => Math.max(1, pieces.length);

export function openNetwork(model: EncoderModel): Network {
  const { kernels, memory } = openKernels();
  const { words, timing, residual, layers, head } = placeWeights(model, memory);

  // Rows to spare: a text's last block of rows may reach beyond the batch.
  const rowsMax = BATCH_ROWS_MAX + ROW_BLOCK;
  const space = {
    input: memory.reserve(rowsMax * WORD_WIDTH * 4),
    state: memory.reserve(rowsMax * WIDTH * 4),
    normed: memory.reserve(rowsMax * WIDTH * 4),
    wide: memory.reserve(rowsMax * INNER_WIDTH * 4),
    attended: memory.reserve(rowsMax * WIDTH * 4),
    quantised: memory.reserve(rowsMax * INNER_WIDTH * 2),
    rowScales: memory.reserve(rowsMax * 4),
    scores: memory.reserve((PIECES_MAX + ROW_BLOCK) * PIECES_MAX * 4),
    keys: memory.reserve((WIDTH / HEADS) * PIECES_MAX * 4),
  };

  type Kind = "product" | "productRelu" | "productAdd";
  const multiply = (kind: Kind, left: number, by: Dense, target: number, rows: number): void => {
    kernels.quantise(left, space.quantised, rows, by.k, space.rowScales, by.leftMax);
    kernels[kind](
      space.quantised,
      by.weights,
      target,
      rows,
      by.k,
      by.columns / PANEL_COLUMNS,
      space.rowScales,
      by.scales,
      by.bias,
      by.columns * 4,
    );
  };

  /** Attention of one text over itself, head by head; queries are scaled already. */
  const attend = (width: number, firstRow: number, pieces: number): void => {
    const headWidth = width / HEADS;
    const stride = 3 * width * 4;
    const panels = Math.ceil(pieces / PANEL_COLUMNS);
    const scoreWidth = panels * PANEL_COLUMNS;
    const rows = blocks(pieces);
    const qkv = memory.floats(space.wide, rowsMax * 3 * width);
    const keys = memory.floats(space.keys, headWidth * scoreWidth);
    for (let h = 0; h < HEADS; h += 1) {
      const query = space.wide + firstRow * stride + h * headWidth * 4;
      const keyAt = firstRow * 3 * width + width + h * headWidth;
      for (let p = 0; p < pieces; p += 1) {
        const from = keyAt + p * 3 * width;
        for (let d = 0; d < headWidth; d += 1) keys[d * scoreWidth + p] = qkv[from + d]!;
      }
      const scoreStride = scoreWidth * 4;
      kernels.floatProduct(
        query,
        stride,
        space.keys,
        scoreStride,
        space.scores,
        scoreStride,
        rows,
        headWidth,
        panels,
      );
      kernels.softmax(space.scores, scoreStride, rows, pieces);
      kernels.floatProduct(
        space.scores,
        scoreStride,
        query + 2 * width * 4,
        stride,
        space.attended + (firstRow * width + h * headWidth) * 4,
        width * 4,
        rows,
        blocks(pieces),
        headWidth / PANEL_COLUMNS,
      );
    }
  };

  const writeInput = (texts: readonly Int32Array[]): void => {
    const input = memory.floats(space.input, rowsMax * WORD_WIDTH);
    let at = 0;
    for (const pieces of texts) {
      for (const [place, piece] of pieces.entries()) {
        const word = piece * WORD_WIDTH;
        const time = place * WORD_WIDTH;
        // Twice the word: the model adds its timing signal to the words, and the sum to the words again.
        for (let i = 0; i < WORD_WIDTH; i += 1) input[at + i] = 2 * words[word + i]! + timing[time + i]!;
        at += WORD_WIDTH;
      }
    }
  };

  const transform = (texts: readonly Int32Array[]): void => {
    const rows = blocks(texts.reduce((sum, text) => sum + text.length, 0));
    multiply("product", space.input, residual, space.state, rows);
    let input = space.input;
    for (const { width, norm, qkv, output, innerNorm, inner, outer } of layers) {
      kernels.layerNorm(input, space.normed, rows, width, ...norm);
      multiply("product", space.normed, qkv, space.wide, rows);
      let firstRow = 0;
      for (const pieces of texts) {
        // In order: what a text's last block writes beyond its rows, the next text overwrites.
        attend(width, firstRow, pieces.length);
        firstRow += pieces.length;
      }
      multiply("productAdd", space.attended, output, space.state, rows);
      kernels.layerNorm(space.state, space.normed, rows, WIDTH, ...innerNorm);
      multiply("productRelu", space.normed, inner, space.wide, rows);
      multiply("productAdd", space.wide, outer, space.state, rows);
      input = space.state;
    }
  };

  const pool = (texts: readonly Int32Array[]): Float32Array[] => {
    const state = memory.floats(space.state, rowsMax * WIDTH);
    let row = 0;
    return texts.map((pieces) => {
      const embedding = new Float32Array(EMBEDDING_SIZE);
      const part = (name: keyof typeof EMBEDDING) =>
        embedding.subarray(EMBEDDING[name].from, EMBEDDING[name].to);
      poolRows(state.subarray(row * WIDTH, (row + pieces.length) * WIDTH), part("mean"), part("max"));
      meanOfWords(words, pieces, part("words"));
      row += pieces.length;
      return embedding;
    });
  };

  const addSentences = (embeddings: readonly Float32Array[]): void => {
    const { sentence, mean } = EMBEDDING;
    const rowOf = (matrix: number, row: number) => memory.floats(matrix + row * WIDTH * 4, WIDTH);
    for (const [row, embedding] of embeddings.entries()) {
      rowOf(space.normed, row).set(embedding.subarray(mean.from, mean.to));
    }
    multiply("product", space.normed, head, space.state, blocks(embeddings.length));
    for (const [row, embedding] of embeddings.entries()) {
      const part = embedding.subarray(sentence.from, sentence.to);
      part.set(rowOf(space.state, row));
      tanhToLengthOne(part);
    }
  };

  return {
    run(texts) {
      if (texts.length === 0) return [];
      const rows = texts.reduce((sum, text) => sum + rowsOf(text), 0);
      if (rows > BATCH_ROWS_MAX) throw new RangeError(`${rows} rows in a batch of ${BATCH_ROWS_MAX}`);
      if (texts.some((text) => text.length > PIECES_MAX)) throw new RangeError("a text of too many pieces");
      const written = texts.filter((text) => text.length > 0);
      if (written.length > 0) {
        writeInput(written);
        transform(written);
      }
      const embeddings = pool(texts);
      addSentences(embeddings);
      return embeddings;
    },
  };
}

/** Rows filled up to whole blocks. */
const blocks = (rows: number): number => Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK;

/** Of no rows both are 0. */
function poolRows(rows: Float32Array, mean: Float32Array, max: Float32Array): void {
  const count = rows.length / WIDTH;
  if (count === 0) return;
  max.fill(-Infinity);
  for (let row = 0; row < rows.length; row += WIDTH) {
    for (let i = 0; i < WIDTH; i += 1) {
      const value = rows[row + i]!;
      mean[i] = mean[i]! + value;
      if (value > max[i]!) max[i] = value;
    }
  }
  for (let i = 0; i < WIDTH; i += 1) mean[i] = mean[i]! / count;
}

function meanOfWords(words: Float32Array, pieces: Int32Array, mean: Float32Array): void {
  for (const piece of pieces) {
    const word = piece * WORD_WIDTH;
    for (let i = 0; i < WORD_WIDTH; i += 1) mean[i] = mean[i]! + words[word + i]! / pieces.length;
  }
}

function tanhToLengthOne(vector: Float32Array): void {
  let squares = 0;
  for (let i = 0; i < vector.length; i += 1) {
    vector[i] = Math.tanh(vector[i]!);
    squares += vector[i]! * vector[i]!;
  }
  const factor = 1 / Math.sqrt(Math.max(squares, 1e-12));
  for (let i = 0; i < vector.length; i += 1) vector[i] = vector[i]! * factor;
}
