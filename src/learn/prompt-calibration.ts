/**
 * The last step of training: on development rows, which no weight was fitted to, logits become probabilities, the band
 * of doubt is set so that stage two costs what it may, and the thresholds are read off that later figures are held to.
 */
import { canonical } from "../text/canonical.ts";
import {
  ANY_TERMS,
  HEADS,
  HEADS_COUNT,
  type Head,
  PromptModel,
  strongestNamed,
} from "../text/model/prompt-model.ts";
import { readText } from "../text/model/reading.ts";
import { encoderParts, WINDOWS_MAX } from "../text/model/scoring.ts";
import { fitLogistic } from "./calibration.ts";
import type { CorpusRow } from "./corpus.ts";
import type { Embed } from "./embedding.ts";
import { thresholdAt } from "./figures.ts";
import { type ModelFacts, type TrainedPrompt, writePromptModel } from "./prompt-training.ts";

/** Of benign development rows, what stage two is asked about: below the 15% that a gateway can afford. */
const DOUBTFUL_SHARE = 0.14;

/** Of benign development rows, what `any` flags and blocks by default; the named heads' defaults are a part of it. */
const FLAG_RATE = 0.01;
const BLOCK_RATE = 0.001;
const NAMED_SHARE = 0.25;

interface DevRow {
  readonly row: CorpusRow;
  /** Stage one's logits, and stage two's. */
  readonly first: Float32Array;
  readonly second: Float32Array;
}

/** The model file's bytes. `about` is completed with the thresholds. */
export async function calibrate(
  trained: TrainedPrompt,
  rows: readonly CorpusRow[],
  embed: Embed,
  embeddingSize: number,
  about: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const bare = new PromptModel(writePromptModel(trained, UNCALIBRATED));
  const dev = await readDev(bare, rows, embed, embeddingSize);
  const labels = dev.map(({ row }) => (row.label === "benign" ? 0 : 1));
  const terms = { first: dev.map(firstTerms), second: dev.map(secondTerms) };
  const first = fitLogistic(terms.first, labels);
  const second = fitLogistic(terms.second, labels);
  const calibration = {
    first: Float32Array.from([...first, ...namedHeads(dev, (one) => one.first)]),
    second: Float32Array.from([...second, ...namedHeads(dev, (one) => one.second)]),
  };
  const scored = dev.map((_, i) => ({
    malicious: labels[i] === 1,
    one: sigmoid(dot(first, terms.first[i]!)),
    two: sigmoid(dot(second, terms.second[i]!)),
  }));
  const low = thresholdAt(
    scored.map(({ one, malicious }) => ({ score: one, malicious })),
    DOUBTFUL_SHARE,
  );
  const cascade = scored.map(({ one, two, malicious }) => ({ score: one >= low ? two : one, malicious }));
  const doubt = [low, 1] as const;
  const model = new PromptModel(writePromptModel(trained, { about, calibration, doubt }));
  const thresholds: Record<string, string> = {};
  for (const head of HEADS) {
    const heads = dev.map((one, i) => ({
      score: head === "any" ? cascade[i]!.score : headScore(model, one, scored[i]!.one >= low, head),
      malicious: labels[i] === 1,
    }));
    const part = head === "any" ? 1 : NAMED_SHARE;
    thresholds[`flag.${head}`] = String(thresholdAt(heads, FLAG_RATE * part));
    thresholds[`block.${head}`] = String(thresholdAt(heads, BLOCK_RATE * part));
  }
  return writePromptModel(trained, { about: { ...about, ...thresholds }, calibration, doubt });
}

/** Probabilities are not asked for yet, any weights will do. */
const UNCALIBRATED: ModelFacts = {
  about: {},
  calibration: {
    first: new Float32Array(ANY_TERMS + (HEADS_COUNT - 1) * 2),
    second: new Float32Array(ANY_TERMS + (HEADS_COUNT - 1) * 2),
  },
  doubt: [0, 1],
};

async function readDev(
  model: PromptModel,
  rows: readonly CorpusRow[],
  embed: Embed,
  embeddingSize: number,
): Promise<DevRow[]> {
  const read = rows.flatMap((row) => {
    const reading = readText(model, row.text, canonical(row.text), { windowsMax: WINDOWS_MAX });
    return reading === undefined ? [] : [{ row, reading, parts: encoderParts(reading.strongest.part) }];
  });
  const embeddings = await embed(read.flatMap(({ parts }) => parts));
  const out = new Float32Array(HEADS_COUNT);
  let at = 0;
  return read.map(({ row, reading, parts }) => {
    const { logits, facts } = reading.strongest;
    let second: Float32Array | undefined;
    for (let i = 0; i < parts.length; i++, at++) {
      const embedding = embeddings.subarray(at * embeddingSize, (at + 1) * embeddingSize);
      model.second(logits, embedding, facts, out);
      if (second === undefined || out[0]! > second[0]!) second = out.slice();
    }
    return { row, first: logits, second: second! };
  });
}

const firstTerms = ({ first }: DevRow) => anyTerms(first.subarray(HEADS_COUNT), first);
const secondTerms = ({ first, second }: DevRow) => anyTerms(second, first);
const anyTerms = (later: Float32Array, labelled: Float32Array) =>
  Float32Array.of(later[0]!, strongestNamed(later), labelled[0]!, strongestNamed(labelled), 1);

function headScore(model: PromptModel, { first, second }: DevRow, isDoubtful: boolean, head: Head): number {
  return (isDoubtful ? model.judge(first, second) : model.judgeFirst(first))[head];
}

/** Slope and offset of each named head: its own kind against benign rows. */
function namedHeads(dev: readonly DevRow[], logitsOf: (row: DevRow) => Float32Array): number[] {
  return HEADS.flatMap((head: Head, index) => {
    if (head === "any") return [];
    const rows = dev.filter(({ row }) => row.label === head || row.label === "benign");
    const labels = rows.map(({ row }) => (row.label === head ? 1 : 0));
    return [
      ...fitLogistic(
        rows.map((row) => Float32Array.of(logitsOf(row)[index]!, 1)),
        labels,
      ),
    ];
  });
}

function dot(weights: Float32Array, terms: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]! * terms[i]!;
  return sum;
}

function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}
