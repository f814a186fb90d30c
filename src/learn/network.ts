/**
 * A network with one hidden layer over dense features: stage two of the prompt classifier. Adam with decoupled
 * weight decay, dropout on inputs and hidden units, a cosine for the rate. Small enough to train in seconds on one
 * core and to answer in a tenth of a millisecond.
 *
 *   rows --copy--> x [batch, width] --first--> answers [batch, hidden] --second--> logits [batch, heads]
 *                  standardise, drop           relu, drop                             |
 *   gradients <--- x^T * answerSlopes <------- gate <----------- logitSlopes <--------+
 *
 * The kernels have the weight of the work; whatever stands here in plain loops is small beside a layer.
 */
import { ADAM_RATES, BLOCK, openNetworkKernels, PANEL_COLUMNS } from "./network-kernels.ts";
import type { Random } from "./random.ts";

export interface NetworkRows {
  /** `[rows, width]`. */
  readonly inputs: Float32Array;
  readonly width: number;
  /** By head, then by row: 1, 0, or -1 where the row says nothing of the head. */
  readonly labels: readonly Int8Array[];
  readonly weights: Float32Array;
}

export interface NetworkSettings {
  readonly hidden: number;
  readonly epochs: number;
  readonly rate: number;
  readonly decay: number;
  readonly dropInput: number;
  readonly dropHidden: number;
  readonly batch: number;
}

/** Standardising is folded into the first layer: serving multiplies and adds. */
export interface NetworkModel {
  readonly width: number;
  readonly hidden: number;
  readonly heads: number;
  /** `[width, hidden]`. */
  readonly first: Float32Array;
  readonly firstBias: Float32Array;
  /** `[hidden, heads]`. */
  readonly second: Float32Array;
  readonly secondBias: Float32Array;
}

const WARM_UP_STEPS = 200;
const [BETA_1, BETA_2] = [0.9, 0.999];
/** Steps of k in one pass of the first product, so that a panel's part (8 KB) stays in the first cache. */
const PRODUCT_STEPS = 256;
const LINE_FLOATS = 16;
/** Dropout is decided by 16 bits, in four lanes. */
const DROP_STEPS = 65_536;
const DROP_LANES = 4;

export function trainNetwork(
  data: NetworkRows,
  rows: Int32Array,
  settings: NetworkSettings,
  random: Random,
): NetworkModel {
  const { inputs, width, labels, weights: rowWeights } = data;
  const { hidden, epochs, batch } = settings;
  const heads = labels.length;
  const { mean, inverse } = spread(inputs, width, rows);
  const layers = openLayers({ width, hidden, heads, batch }, settings, { mean, inverse });
  layers.draw(random);
  const order = rows.filter((row) => rowWeights[row]! > 0);
  const steps = Math.ceil(order.length / batch) * epochs;
  const slopes = new Float32Array(batch * heads);
  let step = 0;
  let [bias1, bias2] = [1, 1];
  for (let epoch = 0; epoch < epochs; epoch++) {
    random.shuffle(order);
    for (let from = 0; from < order.length; from += batch) {
      const members = order.subarray(from, from + batch);
      for (const [q, row] of members.entries()) {
        layers.place(q, inputs.subarray(row * width, (row + 1) * width));
      }
      layers.forward(members.length);
      for (let q = 0; q < members.length; q++) {
        const row = members[q]!;
        for (let head = 0; head < heads; head++) {
          const label = labels[head]![row]!;
          const error = label < 0 ? 0 : 1 / (1 + Math.exp(-layers.logit(q, head))) - label;
          slopes[q * heads + head] = (error * rowWeights[row]!) / members.length;
        }
      }
      layers.backward(members.length, slopes);
      step += 1;
      bias1 *= BETA_1;
      bias2 *= BETA_2;
      const warm = Math.min(1, step / WARM_UP_STEPS);
      const rate = settings.rate * warm * (0.5 + 0.5 * Math.cos((Math.PI * step) / steps));
      layers.step({
        keepMoment: BETA_1,
        addMoment: 1 - BETA_1,
        keepSquare: BETA_2,
        addSquare: 1 - BETA_2,
        unbiasSquare: 1 / (1 - bias2),
        move: rate / (1 - bias1),
        decay: rate * settings.decay,
      });
    }
  }
  return layers.model();
}

interface Spread {
  readonly mean: Float32Array;
  /** One through the deviation. */
  readonly inverse: Float32Array;
}

interface LayersShape {
  readonly width: number;
  readonly hidden: number;
  readonly heads: number;
  readonly batch: number;
}

const upTo = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;

/** Where a weight stands among the panels of a layer with so many rows. */
const inPanels = (layerRows: number, row: number, column: number) =>
  ((column >> 3) * layerRows + row) * PANEL_COLUMNS + (column & 7);

const addressOf = (place: Float32Array, offset = 0) => place.byteOffset + offset * 4;

/** `last` is the largest draw that drops; what is kept is divided by its share. */
function dropOf(share: number): { readonly last: number; readonly keptFactor: number } {
  const dropped = Math.round(share * DROP_STEPS);
  return { last: dropped - 1, keptFactor: DROP_STEPS / (DROP_STEPS - dropped) };
}

/** Both layers in the kernels' memory, and one batch on its way through them. */
function openLayers(
  shape: LayersShape,
  drop: { readonly dropInput: number; readonly dropHidden: number },
  { mean, inverse }: Spread,
) {
  const { width, hidden, heads } = shape;
  const dropInput = dropOf(drop.dropInput);
  const dropHidden = dropOf(drop.dropHidden);
  // Padding is 0 and stays 0. The input after the last is always 1: its weights are the first layer's bias.
  const inputSize = upTo(width + 1, PANEL_COLUMNS);
  const hiddenSize = upTo(hidden, PANEL_COLUMNS);
  const headSize = upTo(heads, PANEL_COLUMNS);
  const rows = upTo(shape.batch, BLOCK);
  const hiddenPanels = hiddenSize / PANEL_COLUMNS;
  const headPanels = headSize / PANEL_COLUMNS;
  // An odd number of cache lines: with an even one, a column's rows would crowd into a few of the cache's sets.
  const inputStride = (Math.ceil(inputSize / LINE_FLOATS) | 1) * LINE_FLOATS;
  const secondAt = inputSize * hiddenSize;
  const secondBiasAt = secondAt + hiddenSize * headSize;
  const size = secondBiasAt + headSize;
  const { kernels, places } = openNetworkKernels({
    parameters: size,
    gradients: size,
    moments: size,
    squares: size,
    secondTurned: headSize * hiddenSize,
    x: rows * inputStride,
    mean: inputSize,
    factor: inputSize,
    answers: rows * hiddenSize,
    answerSlopes: rows * hiddenSize,
    logits: rows * headSize,
    logitSlopes: rows * headSize,
    lanes: DROP_LANES,
    answerFactor: 1,
    rates: ADAM_RATES.length,
  });
  const { parameters, gradients, secondTurned, x, answers, answerSlopes, logits, logitSlopes, lanes } =
    places;
  places.mean.set(mean);
  places.factor.set(inverse.map((value) => value * dropInput.keptFactor));
  places.answerFactor[0] = dropHidden.keptFactor;
  const firstPlace = (d: number, h: number) => inPanels(inputSize, d, h);
  const secondPlace = (h: number, head: number) => secondAt + inPanels(hiddenSize, h, head);
  // In bytes.
  const [inputRow, hiddenRow, headRow] = [inputStride * 4, hiddenSize * 4, headSize * 4];
  const panelOf = (layerRows: number) => layerRows * PANEL_COLUMNS * 4;

  return {
    /** The weights to start from, and the state of the dropout. */
    draw(random: Random): void {
      for (let d = 0; d < width; d++) {
        for (let h = 0; h < hidden; h++) {
          parameters[firstPlace(d, h)] = (random.next() * 2 - 1) * Math.sqrt(3 / width);
        }
      }
      for (let h = 0; h < hidden; h++) {
        for (let head = 0; head < heads; head++) {
          parameters[secondPlace(h, head)] = (random.next() * 2 - 1) * Math.sqrt(3 / hidden);
        }
      }
      const state = new Uint32Array(lanes.buffer, lanes.byteOffset, DROP_LANES);
      // A generator that stands at 0 never leaves it.
      for (let lane = 0; lane < DROP_LANES; lane++) state[lane] = random.below(0xffff_ffff) + 1;
    },

    /** The inputs of a row of the batch. */
    place(q: number, inputs: Float32Array): void {
      x.set(inputs, q * inputStride);
    },

    forward(count: number): void {
      kernels.standardise(
        addressOf(x),
        inputRow,
        count,
        inputSize,
        addressOf(places.mean),
        addressOf(places.factor),
        addressOf(lanes),
        dropInput.last,
      );
      for (let q = 0; q < count; q++) x[q * inputStride + width] = 1;
      const padded = upTo(count, BLOCK);
      answers.fill(0);
      for (let from = 0; from < inputSize; from += PRODUCT_STEPS) {
        kernels.product(
          addressOf(x, from),
          inputRow,
          addressOf(parameters, from * PANEL_COLUMNS),
          panelOf(inputSize),
          addressOf(answers),
          hiddenRow,
          padded,
          Math.min(PRODUCT_STEPS, inputSize - from),
          hiddenPanels,
        );
      }
      kernels.activate(
        addressOf(answers),
        padded * hiddenSize,
        addressOf(places.answerFactor),
        addressOf(lanes),
        dropHidden.last,
      );
      logits.fill(0);
      kernels.product(
        addressOf(answers),
        hiddenRow,
        addressOf(parameters, secondAt),
        panelOf(hiddenSize),
        addressOf(logits),
        headRow,
        padded,
        hiddenSize,
        headPanels,
      );
    },

    logit: (q: number, head: number): number =>
      logits[q * headSize + head]! + parameters[secondBiasAt + head]!,

    /** From the loss's slopes `[count, heads]` by the logits to those by the parameters. */
    backward(count: number, slopes: Float32Array): void {
      const padded = upTo(count, BLOCK);
      // Rows of an earlier batch may stand in the padding: their slopes are 0.
      logitSlopes.fill(0);
      gradients.fill(0, secondBiasAt);
      for (let q = 0; q < count; q++) {
        for (let head = 0; head < heads; head++) {
          const slope = slopes[q * heads + head]!;
          logitSlopes[q * headSize + head] = slope;
          gradients[secondBiasAt + head] = gradients[secondBiasAt + head]! + slope;
        }
      }
      kernels.transposedProduct(
        addressOf(answers),
        hiddenRow,
        addressOf(logitSlopes),
        headRow,
        addressOf(gradients, secondAt),
        panelOf(hiddenSize),
        padded,
        hiddenSize,
        headPanels,
      );
      for (let h = 0; h < hidden; h++) {
        for (let head = 0; head < heads; head++) {
          secondTurned[inPanels(headSize, head, h)] = parameters[secondPlace(h, head)]!;
        }
      }
      answerSlopes.fill(0);
      kernels.product(
        addressOf(logitSlopes),
        headRow,
        addressOf(secondTurned),
        panelOf(headSize),
        addressOf(answerSlopes),
        hiddenRow,
        padded,
        headSize,
        hiddenPanels,
      );
      kernels.gate(
        addressOf(answerSlopes),
        addressOf(answers),
        padded * hiddenSize,
        addressOf(places.answerFactor),
      );
      kernels.transposedProduct(
        addressOf(x),
        inputRow,
        addressOf(answerSlopes),
        hiddenRow,
        addressOf(gradients),
        panelOf(inputSize),
        padded,
        inputSize,
        hiddenPanels,
      );
    },

    step(rates: Readonly<Record<(typeof ADAM_RATES)[number], number>>): void {
      places.rates.set(ADAM_RATES.map((name) => rates[name]));
      kernels.adam(
        addressOf(parameters),
        addressOf(gradients),
        addressOf(places.moments),
        addressOf(places.squares),
        size,
        addressOf(places.rates),
      );
    },

    /** Out of the panels, with the standardising folded in. */
    model(): NetworkModel {
      const first = new Float32Array(width * hidden);
      const bias = Float64Array.from({ length: hidden }, (_, h) => parameters[firstPlace(width, h)]!);
      for (let d = 0; d < width; d++) {
        for (let h = 0; h < hidden; h++) {
          const folded = parameters[firstPlace(d, h)]! * inverse[d]!;
          first[d * hidden + h] = folded;
          bias[h] = bias[h]! - folded * mean[d]!;
        }
      }
      const second = new Float32Array(hidden * heads);
      for (let h = 0; h < hidden; h++) {
        for (let head = 0; head < heads; head++) second[h * heads + head] = parameters[secondPlace(h, head)]!;
      }
      return {
        width,
        hidden,
        heads,
        first,
        firstBias: Float32Array.from(bias),
        second,
        secondBias: parameters.slice(secondBiasAt, secondBiasAt + heads),
      };
    },
  };
}

function spread(inputs: Float32Array, width: number, rows: Int32Array): Spread {
  const count = Math.max(1, rows.length);
  const mean = new Float64Array(width);
  const variance = new Float64Array(width);
  for (const row of rows) {
    const at = row * width;
    for (let d = 0; d < width; d++) mean[d] = mean[d]! + inputs[at + d]!;
  }
  for (let d = 0; d < width; d++) mean[d] = mean[d]! / count;
  for (const row of rows) {
    const at = row * width;
    for (let d = 0; d < width; d++) {
      const distance = inputs[at + d]! - mean[d]!;
      variance[d] = variance[d]! + distance * distance;
    }
  }
  return {
    mean: Float32Array.from(mean),
    inverse: Float32Array.from(variance, (sum) => 1 / Math.sqrt(sum / count + 1e-6)),
  };
}
