/**
 * Trains the response model: labelled and drawn answers and rows of the prompt side -> hashed features -> stage one;
 * embeddings -> stage two. What an exchange comes to is a fixed sum of both stages' logits, whose weights were chosen
 * on sources held out in turn, as weights fitted to rows of the sources trained on trust what does not carry over.
 * Its scale and offset are fitted here, again on sources that the model at hand was not trained on.
 *
 *   answers, drawn, prompts --> stage one, stage two of all rows --------------------------------+--> model file
 *                          \--> the same without labelled answers -> logits of those --+         |
 *                          \--> the same without drawn ones -------> logits of those --+--> scale, offset, thresholds
 */
import { canonical } from "../text/canonical.ts";
import { EMBEDDING, EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import { FEATURES_MAX, FEATURES_VERSION, readFeatures, shapeOf } from "../text/features.ts";
import { WINDOW_UNITS } from "../text/model/answer-reading.ts";
import { disguisesOf } from "../text/model/disguises.ts";
import { RESPONSE_FORMAT, SIDES, SIDES_COUNT } from "../text/model/response-model.ts";
import { encoderParts } from "../text/model/scoring.ts";
import { type Tensor, writeTensors } from "../text/model/tensors.ts";
import { sentencesOf } from "../text/sentences.ts";
import type { Embed } from "./embedding.ts";
import { type LinearModel, trainLinear } from "./linear.ts";
import { type NetworkModel, trainNetwork } from "./network.ts";
import { packLinear } from "./prompt-training.ts";
import { Random } from "./random.ts";
import type { ResponseRow } from "./response-corpus.ts";

const BITS = 19;
const LINEAR = { bits: BITS, epochs: 4, rate: 0.25, decay: 1e-6 };
const NETWORK = {
  hidden: 64,
  epochs: 5,
  rate: 1e-3,
  decay: 1e-3,
  dropInput: 0.2,
  dropHidden: 0.3,
  batch: 64,
};
/** The parts of an embedding that stage two reads: sentence and mean. */
const ENCODED = EMBEDDING.mean.to;

export interface TrainedResponses {
  readonly linear: LinearModel;
  readonly network: NetworkModel;
}

export interface PreparedResponses {
  readonly rows: readonly ResponseRow[];
  readonly features: readonly Int32Array[];
  /** `[parts, ENCODED]`, and whose part each is. */
  readonly embeddings: Float32Array;
  readonly owners: Int32Array;
}

export async function prepareResponses(
  rows: readonly ResponseRow[],
  embed: Embed,
): Promise<PreparedResponses> {
  const features = rows.map((row) => featuresOf(row.text));
  const owners: number[] = [];
  const parts: string[] = [];
  for (const [i, { text, kind }] of rows.entries()) {
    // Labelled answers are few and long: their ends are worth an embedding of their own.
    const read = encoderParts(text.slice(0, WINDOW_UNITS));
    for (const part of kind === "labelled" ? read : read.slice(0, 1)) {
      owners.push(i);
      parts.push(part);
    }
  }
  const whole = await embed(parts);
  const embeddings = new Float32Array(parts.length * ENCODED);
  for (let i = 0; i < parts.length; i++) {
    embeddings.set(whole.subarray(i * EMBEDDING_SIZE, i * EMBEDDING_SIZE + ENCODED), i * ENCODED);
  }
  return { rows, features, embeddings, owners: Int32Array.from(owners) };
}

const places = new Int32Array(FEATURES_MAX);

/** Features of a text's first window, sentence by sentence, as serving sums them up. */
function featuresOf(text: string): Int32Array {
  const all: number[] = [];
  let units = 0;
  for (const sentence of sentencesOf(text)) {
    units += sentence.length;
    if (units > WINDOW_UNITS) break;
    const { views, marks } = canonical(sentence);
    const folded = views[0]?.text ?? "";
    const shape = shapeOf(sentence, 0, sentence.length, disguisesOf(marks));
    const count = readFeatures(folded, 0, folded.length, shape, BITS, places);
    for (let k = 0; k < count; k++) all.push(places[k]!);
  }
  return Int32Array.from(all);
}

/** `within` limits training to these rows, for what is fitted on sources held out. */
export function trainResponses(
  data: PreparedResponses,
  within: (row: ResponseRow) => boolean,
  seed: number,
): TrainedResponses {
  const { rows, features, embeddings, owners } = data;
  const labels = SIDES.map((side) => Int8Array.from(rows, (row) => row[side]));
  const weights = Float32Array.from(rows, (row) => row.weight);
  const order = Int32Array.from(rows.keys()).filter((i) => within(rows[i]!));
  const linear = trainLinear({ features, labels, weights }, order, LINEAR, new Random(seed));
  const counts = new Int32Array(rows.length);
  for (const owner of owners) counts[owner] = counts[owner]! + 1;
  const network = trainNetwork(
    {
      inputs: embeddings,
      width: ENCODED,
      labels: labels.map((of) => Int8Array.from(owners, (owner) => of[owner]!)),
      weights: Float32Array.from(owners, (owner) => weights[owner]! / counts[owner]!),
    },
    Int32Array.from(owners.keys()).filter((part) => within(rows[owners[part]!]!)),
    NETWORK,
    new Random(seed),
  );
  return { linear, network };
}

/**
 * Of an exchange, in the order of its terms without the offset: what both stages say of harm, less what they say of
 * declining, and a little of what the prompt's subject was.
 */
export const EXCHANGE: Readonly<Record<"first" | "second", readonly number[]>> = {
  first: [1, -0.8, 0.3, 0, 0.2],
  second: [1, -0.25, 0, 0, 0.1, 1, -0.25, 0, 0, 0.1],
};

export interface ResponseFacts {
  readonly about: Readonly<Record<string, string>>;
  /** Of the sums above: probability = sigmoid(scale * sum + offset). */
  readonly first: Line;
  readonly second: Line;
  readonly sentence: Line;
  readonly doubt: readonly [low: number, high: number];
}

export interface Line {
  readonly scale: number;
  readonly offset: number;
}

export function writeResponseModel({ linear, network }: TrainedResponses, facts: ResponseFacts): Uint8Array {
  const { table, scale } = packLinear(linear);
  const vector = (data: Float32Array) => ({ shape: [data.length], data });
  const line = (sum: readonly number[], { scale: slope, offset }: Line) =>
    vector(Float32Array.from([...sum.map((weight) => weight * slope), offset]));
  return writeTensors({
    about: {
      ...facts.about,
      format: RESPONSE_FORMAT,
      features: String(FEATURES_VERSION),
      sides: SIDES.join(","),
    },
    tensors: new Map<string, Tensor>([
      ["linear.table", { shape: [table.length], data: table }],
      ["linear.scale", vector(scale)],
      ["linear.bias", vector(linear.bias)],
      ["network.first", { shape: [network.width, network.hidden], data: network.first }],
      ["network.firstBias", vector(network.firstBias)],
      ["network.second", { shape: [network.hidden, SIDES_COUNT], data: network.second }],
      ["network.secondBias", vector(network.secondBias)],
      ["exchange.first", line(EXCHANGE.first, facts.first)],
      ["exchange.second", line(EXCHANGE.second, facts.second)],
      ["exchange.sentence", line(EXCHANGE.first, facts.sentence)],
      ["doubt", vector(Float32Array.from(facts.doubt))],
    ]),
  });
}
