/**
 * Trains the prompt classifier: rows and drawn texts -> hashed features -> stage one; embeddings and stage one's
 * out-of-family logits -> stage two; a calibration and the band of doubt from the development rows. Every step is
 * deterministic from the seed, so that the same data gives the same bytes.
 *
 *   rows --+                       +--> stage one (all rows) -------------------------------------+
 *          +--> features --> folds-+--> stage one (other families) -> logits --+                  +--> model file
 *   drawn -+                                                                   v                  |
 *          +--> windows ---------------> encoder ----------------------> stage two --answers--> taught heads
 */
import { canonical } from "../text/canonical.ts";
import { EMBEDDING, EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import {
  FEATURES_MAX,
  FEATURES_TEXT_MAX,
  FEATURES_VERSION,
  readFeatures,
  shapeOf,
} from "../text/features.ts";
import { disguisesOf, readableText } from "../text/model/disguises.ts";
import { runNetwork } from "../text/model/network.ts";
import {
  FACTS_COUNT,
  factsOf,
  HEADS,
  HEADS_COUNT,
  MODEL_FORMAT,
  networkInput,
} from "../text/model/prompt-model.ts";
import { ENCODER_UNITS } from "../text/model/scoring.ts";
import { type Tensor, writeTensors } from "../text/model/tensors.ts";
import type { CorpusRow } from "./corpus.ts";
import type { Embed } from "./embedding.ts";
import { type LinearModel, scoreLinear, trainLinear } from "./linear.ts";
import { type NetworkModel, trainNetwork } from "./network.ts";
import { Random } from "./random.ts";

export interface TrainingSettings {
  readonly seed: number;
  /** Rows of one source and label at most; which, is drawn. */
  readonly sourceRowsMax: number;
}

const BITS = 20;
const FOLDS = 3;
const LINEAR = { bits: BITS, epochs: 6, rate: 0.25, decay: 1e-6 };
const NETWORK = {
  hidden: 64,
  epochs: 4,
  rate: 1e-3,
  decay: 1e-3,
  dropInput: 0.2,
  dropHidden: 0.3,
  batch: 64,
};
/** Of a source with this many rows a row weighs 1; of a larger one less, of a smaller one more. */
const SOURCE_ROWS_EVEN = 800;
const ROW_WEIGHT_MAX = 3;
const DRAWN_WEIGHT = 0.7;
/** The parts of an embedding that stage two reads: sentence, mean and maximum. */
const ENCODED = EMBEDDING.max.to;

/** Of what the taught heads learn of a row, the label's part; the rest is stage two's answer. */
const TAUGHT_LABEL = 0.25;

export interface TrainedPrompt {
  /** Stage one's heads: trained on labels, and on what stage two says. */
  readonly labelled: LinearModel;
  readonly taught: LinearModel;
  readonly network: NetworkModel;
}

export interface PreparedRows {
  readonly rows: readonly CorpusRow[];
  readonly features: readonly Int32Array[];
  readonly embeddings: Float32Array;
}

/** At most `sourceRowsMax` rows of each source and label. */
export function sampleRows(rows: readonly CorpusRow[], settings: TrainingSettings): CorpusRow[] {
  const bySource = new Map<string, CorpusRow[]>();
  for (const row of rows) {
    const key = `${row.source}\0${row.label}`;
    const list = bySource.get(key);
    if (list === undefined) bySource.set(key, [row]);
    else list.push(row);
  }
  const random = new Random(settings.seed);
  return [...bySource.values()].flatMap((list) =>
    list.length <= settings.sourceRowsMax ? list : random.shuffle([...list]).slice(0, settings.sourceRowsMax),
  );
}

export async function prepareRows(rows: readonly CorpusRow[], embed: Embed): Promise<PreparedRows> {
  const features = rows.map((row) => featuresOf(row.text));
  const embeddings = await embed(
    rows.map((row) => {
      const raw = row.text.slice(0, FEATURES_TEXT_MAX);
      return readableText(raw, canonical(raw)).slice(0, ENCODER_UNITS);
    }),
  );
  return { rows, features, embeddings };
}

const places = new Int32Array(FEATURES_MAX);

/** Features of a text's first window, as serving reads its most readable view. */
function featuresOf(text: string): Int32Array {
  const raw = text.slice(0, FEATURES_TEXT_MAX);
  const { views, marks } = canonical(raw);
  const view = views.find(({ kind, steps }) => kind === "leet" && steps.length === 1) ?? views[0];
  const folded = view?.text ?? "";
  const shape = { ...shapeOf(raw, 0, raw.length, disguisesOf(marks)), units: text.length };
  return places.slice(0, readFeatures(folded, 0, folded.length, shape, BITS, places));
}

/** By head in the order of HEADS: 1, 0, or -1 where a row says nothing. */
export function labelsOf(rows: readonly CorpusRow[]): Int8Array[] {
  const of = (label: (row: CorpusRow) => number) => Int8Array.from(rows, label);
  return [
    of(({ label }) => (label === "benign" ? 0 : 1)),
    of(({ label, goal }) =>
      label === "harmful" || (label === "jailbreak" && goal === "harmful") ? 1 : label === "benign" ? 0 : -1,
    ),
    of(({ label }) => (label === "jailbreak" ? 1 : label === "injection" ? -1 : 0)),
    of(({ label }) => (label === "injection" ? 1 : label === "jailbreak" ? -1 : 0)),
  ];
}

function weightsOf(rows: readonly CorpusRow[]): Float32Array {
  const counts = new Map<string, number>();
  const keyOf = (row: CorpusRow) => `${row.source}\0${row.label}`;
  for (const row of rows) counts.set(keyOf(row), (counts.get(keyOf(row)) ?? 0) + 1);
  return Float32Array.from(rows, (row) =>
    row.drawn
      ? DRAWN_WEIGHT
      : Math.min(ROW_WEIGHT_MAX, Math.sqrt(SOURCE_ROWS_EVEN / counts.get(keyOf(row))!)),
  );
}

/** Each family in one of `count` folds. */
export function foldsOf(rows: readonly CorpusRow[], count: number, seed: number): Uint8Array {
  const families = [...new Set(rows.map((row) => row.family))].sort();
  new Random(seed).shuffle(families);
  const fold = new Map(families.map((family, i) => [family, i % count]));
  return Uint8Array.from(rows, (row) => fold.get(row.family)!);
}

/** `within` limits training to these rows, for estimates that hold whole sources out. */
export function trainPrompt(data: PreparedRows, within: Int32Array, seed: number): TrainedPrompt {
  const { rows, features, embeddings } = data;
  const labels = labelsOf(rows);
  const weights = weightsOf(rows);
  const linearRows = { features, labels, weights };
  const labelled = trainLinear(linearRows, within, LINEAR, new Random(seed));
  // Stage two must not learn to trust logits of texts that stage one was trained on.
  const folds = foldsOf(rows, FOLDS, seed);
  const width = ENCODED + HEADS_COUNT + FACTS_COUNT;
  const inputs = new Float32Array(rows.length * width);
  const logits = new Float32Array(HEADS_COUNT);
  for (let fold = 0; fold < FOLDS; fold++) {
    const others = within.filter((row) => folds[row] !== fold);
    const model = trainLinear(linearRows, others, LINEAR, new Random(seed + 1 + fold));
    for (const row of within) {
      if (folds[row] !== fold) continue;
      scoreLinear(model, features[row]!, logits);
      const embedding = embeddings.subarray(row * EMBEDDING_SIZE, (row + 1) * EMBEDDING_SIZE);
      const { text } = rows[row]!;
      const facts = factsOf(text, 0, Math.min(text.length, ENCODER_UNITS));
      inputs.set(networkInput(embedding, ENCODED, logits, facts), row * width);
    }
  }
  const network = trainNetwork({ inputs, width, labels, weights }, within, NETWORK, new Random(seed));
  const answers = answersOf(network, inputs, labels, within);
  const taught = trainLinear({ features, labels: answers, weights }, within, LINEAR, new Random(seed));
  return { labelled, taught, network };
}

/** Labels softened by what stage two says of the rows: where a row says nothing of a head, its answer alone. */
function answersOf(
  network: NetworkModel,
  inputs: Float32Array,
  labels: readonly Int8Array[],
  within: Int32Array,
): Float32Array[] {
  const answers = labels.map((of) => Float32Array.from(of));
  const hidden = new Float32Array(network.hidden);
  const logits = new Float32Array(HEADS_COUNT);
  for (const row of within) {
    runNetwork(network, inputs.subarray(row * network.width, (row + 1) * network.width), hidden, logits);
    for (const [head, of] of answers.entries()) {
      const answer = 1 / (1 + Math.exp(-logits[head]!));
      const label = labels[head]![row]!;
      of[row] = label < 0 ? answer : TAUGHT_LABEL * label + (1 - TAUGHT_LABEL) * answer;
    }
  }
  return answers;
}

/** The linear weights as signed bytes, four to a place, one scale a head. */
export function packLinear({ weights, heads, bits }: LinearModel): {
  table: Int32Array;
  scale: Float32Array;
} {
  const scale = new Float32Array(heads);
  const size = 2 ** bits;
  for (let head = 0; head < heads; head++) {
    // A few outliers would cost all others their precision: the largest thousandth of a thousandth is clipped.
    const sizes = Float32Array.from({ length: size }, (_, place) =>
      Math.abs(weights[place * heads + head]!),
    ).sort();
    scale[head] = (sizes[Math.floor(size * (1 - 2e-6))] || 1) / 127;
  }
  const table = Int32Array.from({ length: size }, (_, place) => {
    let packed = 0;
    for (let head = 0; head < heads; head++) {
      const value = Math.round(weights[place * heads + head]! / scale[head]!);
      packed |= (Math.max(-127, Math.min(127, value)) & 0xff) << (8 * head);
    }
    return packed;
  });
  return { table, scale };
}

export interface ModelFacts {
  readonly about: Readonly<Record<string, string>>;
  readonly calibration: Readonly<Record<"first" | "second", Float32Array>>;
  readonly doubt: readonly [low: number, high: number];
}

export function writePromptModel(
  { labelled, taught, network }: TrainedPrompt,
  facts: ModelFacts,
): Uint8Array {
  const vector = (data: Float32Array) => ({ shape: [data.length], data });
  const packed = (name: string, model: LinearModel): [string, Tensor][] => {
    const { table, scale } = packLinear(model);
    return [
      [`${name}.table`, { shape: [table.length], data: table }],
      [`${name}.scale`, vector(scale)],
      [`${name}.bias`, vector(model.bias)],
    ];
  };
  return writeTensors({
    about: {
      ...facts.about,
      format: MODEL_FORMAT,
      features: String(FEATURES_VERSION),
      heads: HEADS.join(","),
    },
    tensors: new Map<string, Tensor>([
      ...packed("labelled", labelled),
      ...packed("taught", taught),
      ["network.first", { shape: [network.width, network.hidden], data: network.first }],
      ["network.firstBias", vector(network.firstBias)],
      ["network.second", { shape: [network.hidden, network.heads], data: network.second }],
      ["network.secondBias", vector(network.secondBias)],
      ["calibration.first", vector(facts.calibration.first)],
      ["calibration.second", vector(facts.calibration.second)],
      ["doubt", vector(Float32Array.from(facts.doubt))],
    ]),
  });
}
