/**
 * Logistic regression over hashed features, several heads at once: stage one of the prompt classifier. Adagrad, as
 * features differ in frequency by four orders; rare ones then still move. A feature counts as often as it occurs,
 * scaled by its inverse document frequency and the text's length, and both scales end up inside the weights, so
 * that serving only adds up.
 */
import type { Random } from "./random.ts";

export interface LinearRows {
  /** Places of each text's features, repeats included. */
  readonly features: readonly Int32Array[];
  /** By head, then by row: 1, 0 or a probability; -1 where the row says nothing of the head. */
  readonly labels: readonly (Int8Array | Float32Array)[];
  readonly weights: Float32Array;
}

export interface LinearSettings {
  readonly bits: number;
  readonly epochs: number;
  readonly rate: number;
  readonly decay: number;
}

export interface LinearModel {
  readonly heads: number;
  readonly bits: number;
  /** `[2^bits, heads]`. */
  readonly weights: Float32Array;
  readonly bias: Float32Array;
}

/** Of a head's bias against a feature's step. */
const BIAS_RATE = 0.01;

/** `rows` limits training to these rows; deterministic for the same rows, settings and state of `random`. */
export function trainLinear(
  data: LinearRows,
  rows: Int32Array,
  settings: LinearSettings,
  random: Random,
): LinearModel {
  const { features, labels, weights: rowWeights } = data;
  const heads = labels.length;
  const size = 2 ** settings.bits;
  const scale = inverseFrequency(features, rows, size);
  const weights = new Float32Array(size * heads);
  const squares = new Float32Array(size * heads).fill(1e-8);
  const bias = new Float32Array(heads);
  const gradient = new Float32Array(heads);
  const order = rows.slice();
  for (let epoch = 0; epoch < settings.epochs; epoch++) {
    random.shuffle(order);
    for (const row of order) {
      const places = features[row]!;
      const rowWeight = rowWeights[row]!;
      if (rowWeight === 0 || places.length === 0) continue;
      const length = 1 / Math.sqrt(places.length);
      for (let head = 0; head < heads; head++) gradient[head] = bias[head]!;
      for (let k = 0; k < places.length; k++) {
        const at = places[k]! * heads;
        const value = scale[places[k]!]! * length;
        for (let head = 0; head < heads; head++) {
          gradient[head] = gradient[head]! + weights[at + head]! * value;
        }
      }
      for (let head = 0; head < heads; head++) {
        const label = labels[head]![row]!;
        gradient[head] = label < 0 ? 0 : (1 / (1 + Math.exp(-gradient[head]!)) - label) * rowWeight;
        bias[head] = bias[head]! - BIAS_RATE * gradient[head]!;
      }
      for (let k = 0; k < places.length; k++) {
        const at = places[k]! * heads;
        const value = scale[places[k]!]! * length;
        for (let head = 0; head < heads; head++) {
          const i = at + head;
          const step = gradient[head]! * value + settings.decay * weights[i]!;
          squares[i] = squares[i]! + step * step;
          weights[i] = weights[i]! - (settings.rate * step) / Math.sqrt(squares[i]!);
        }
      }
    }
  }
  for (let place = 0; place < size; place++) {
    for (let head = 0; head < heads; head++) {
      weights[place * heads + head] = weights[place * heads + head]! * scale[place]!;
    }
  }
  return { heads, bits: settings.bits, weights, bias };
}

/** log((1 + rows) / (1 + rows that have it)), a fifth of it, so that a rate near 0.1 suits. */
function inverseFrequency(features: readonly Int32Array[], rows: Int32Array, size: number): Float32Array {
  const seenIn = new Int32Array(size).fill(-1);
  const counts = new Int32Array(size);
  for (const row of rows) {
    for (const place of features[row]!) {
      if (seenIn[place] === row) continue;
      seenIn[place] = row;
      counts[place] = counts[place]! + 1;
    }
  }
  return Float32Array.from(counts, (count) => Math.log((1 + rows.length) / (1 + count)) / 5);
}

/** Logits of one text, one for each head. */
export function scoreLinear(model: LinearModel, places: Int32Array, into: Float32Array): void {
  const { heads, weights, bias } = model;
  into.fill(0, 0, heads);
  for (let k = 0; k < places.length; k++) {
    const at = places[k]! * heads;
    for (let head = 0; head < heads; head++) into[head] = into[head]! + weights[at + head]!;
  }
  const length = places.length === 0 ? 0 : 1 / Math.sqrt(places.length);
  for (let head = 0; head < heads; head++) into[head] = into[head]! * length + bias[head]!;
}
