/**
 * The last step of training the response model. How it will do on answers of a source that it has not seen is told by
 * models that were trained without one of the sources at hand, and judge that one: from their sums come the scale that
 * makes a sum a probability, the thresholds, the band of doubt and the figures that the card gives.
 */
import { AnswerReading, windowsOf } from "../text/model/answer-reading.ts";
import {
  bothTerms,
  type Evidence,
  exchangeTerms,
  ResponseModel,
  SECOND_TERMS,
  SIDES,
  SIDES_COUNT,
} from "../text/model/response-model.ts";
import { isEncoded, promptEvidence, secondEvidence } from "../text/model/response-scoring.ts";
import type { EncodeTexts } from "../text/model/scoring.ts";
import { sentencesOf } from "../text/sentences.ts";
import { fitLogistic } from "./calibration.ts";
import type { CorpusRow } from "./corpus.ts";
import { areaUnderCurve, thresholdAt } from "./figures.ts";
import type { ResponseRow } from "./response-corpus.ts";
import {
  EXCHANGE,
  type Line,
  type PreparedResponses,
  type TrainedResponses,
  trainResponses,
  writeResponseModel,
} from "./response-training.ts";

/** Rows of each source that are judged: enough to fit two numbers, and few enough to embed their prompts. */
const JUDGED_MAX = 2_000;
/** Sentences back that the sentence line is fitted for; as a seat is set by default. */
const SENTENCES_BACK = 6;
/** Of benign answers of a source held out, most of them near misses, what is flagged and blocked; of pairs of sentences fewer. */
const FLAG_RATE = 0.1;
const BLOCK_RATE = 0.004;
const SENTENCE_FLAG_RATE = 0.03;
const SENTENCE_BLOCK_RATE = 0.005;
/** Of benign answers, what stage two is asked about. */
const DOUBTFUL_SHARE = 0.3;
/** Of benign development prompts, what makes an exchange doubtful by its prompt alone. */
const DOUBTFUL_PROMPTS = 0.1;

const IDENTITY: Line = { scale: 1, offset: 0 };

interface Judged {
  readonly row: ResponseRow;
  readonly first: number;
  /** Undefined where the encoder has nothing to say. */
  readonly second: number | undefined;
  /** Sums of the last sentences, after each sentence. */
  readonly sentences: readonly number[];
}

interface HeldOut {
  readonly name: string;
  readonly judged: readonly Judged[];
}

export interface Calibrated {
  readonly model: Uint8Array;
  /** Lines of a table in Markdown: each source that was held out. */
  readonly figures: readonly string[];
}

export async function calibrateResponses(
  data: PreparedResponses,
  dev: readonly CorpusRow[],
  encode: EncodeTexts,
  options: {
    readonly seed: number;
    readonly about: Readonly<Record<string, string>>;
    readonly say: (text: string) => void;
  },
): Promise<Calibrated> {
  const { seed, about, say } = options;
  const trained = trainResponses(data, (row) => !row.heldBack, seed);
  say("trained");
  const heldOut: HeldOut[] = [];
  for (const kind of ["labelled", "drawn"] as const) {
    const rows = data.rows.filter((row) => row.kind === kind && row.harmful >= 0 && !row.heldBack);
    if (rows.length === 0) continue;
    const without = trainResponses(data, (row) => row.kind !== kind && !row.heldBack, seed);
    const every = Math.max(1, Math.ceil(rows.length / JUDGED_MAX));
    const some = rows.filter((_, i) => i % every === 0);
    heldOut.push({ name: kind, judged: await judgeRows(bareModel(without, about), some, encode) });
    say(`judged ${some.length} ${kind} answers without having learnt from them`);
  }
  const all = heldOut.flatMap(({ judged }) => judged);
  const first = lineOf(all.map(({ row, first: sum }) => [sum, row]));
  const second = lineOf(all.flatMap(({ row, second: sum }) => (sum === undefined ? [] : [[sum, row]])));
  const sentence = lineOf(all.flatMap(({ row, sentences }) => someOf(sentences).map((sum) => [sum, row])));
  const scored = heldOut.map(({ name, judged }) => ({
    name,
    rows: judged.map((one) => ({
      malicious: one.row.harmful === 1,
      one: at(first, one.first),
      score: one.second === undefined ? at(first, one.first) : at(second, one.second),
      pairs: pairOf(one.sentences.map((sum) => at(sentence, sum))),
    })),
  }));
  const mean = (of: (rows: (typeof scored)[number]["rows"]) => number) =>
    scored.reduce((sum, { rows }) => sum + of(rows), 0) / scored.length;
  const atRate = (rate: number, of: (row: (typeof scored)[number]["rows"][number]) => number) =>
    mean((rows) =>
      thresholdAt(
        rows.map((row) => ({ score: of(row), malicious: row.malicious })),
        rate,
      ),
    );
  // Half way between what is best by F1 and what flags a tenth: sources that were held out differ more than new ones.
  const best = GRID.reduce((most, next) =>
    mean((rows) => f1At(rows, next)) > mean((rows) => f1At(rows, most)) ? next : most,
  );
  const flagAt = (best + atRate(FLAG_RATE, (row) => row.score)) / 2;
  const blockAt = atRate(BLOCK_RATE, (row) => row.score);
  const bare = bareModel(trained, about);
  const prompts = dev
    .filter(({ label, hard }) => label === "benign" && !hard)
    .filter((_, i) => i % 4 === 0)
    .map(({ text }) => ({ score: topicOf(bare, text), malicious: false }));
  const thresholds: Record<string, number> = {
    flagAt,
    blockAt,
    sentenceFlagAt: atRate(SENTENCE_FLAG_RATE, (row) => row.pairs),
    sentenceBlockAt: atRate(SENTENCE_BLOCK_RATE, (row) => row.pairs),
    promptAt: prompts.length === 0 ? 0.5 : thresholdAt(prompts, DOUBTFUL_PROMPTS),
  };
  const low = Math.min(
    0.5,
    atRate(DOUBTFUL_SHARE, (row) => row.one),
  );
  const model = writeResponseModel(trained, {
    about: {
      ...about,
      ...Object.fromEntries(Object.entries(thresholds).map(([name, value]) => [name, value.toFixed(5)])),
    },
    first,
    second,
    sentence,
    doubt: [low, 1],
  });
  const share = (value: number) => value.toFixed(3);
  const figures = scored.map(({ name, rows }) => {
    const auc = (of: (row: (typeof rows)[number]) => number) =>
      share(areaUnderCurve(rows.map((row) => ({ score: of(row), malicious: row.malicious }))));
    const benign = rows.filter((row) => !row.malicious);
    const blocked = benign.filter((row) => row.score >= blockAt).length / benign.length;
    return [
      `${name} answers, by a model without them`,
      rows.length,
      rows.length - benign.length,
      auc((row) => row.one),
      auc((row) => row.score),
      share(f1At(rows, flagAt)),
      share(benign.filter((row) => row.score >= flagAt).length / benign.length),
      share(blocked),
    ].join(" | ");
  });
  return { model, figures };
}

const GRID = Array.from({ length: 91 }, (_, i) => 0.05 + i / 100);

function bareModel(trained: TrainedResponses, about: Readonly<Record<string, string>>): ResponseModel {
  return new ResponseModel(
    writeResponseModel(trained, {
      about,
      first: IDENTITY,
      second: IDENTITY,
      sentence: IDENTITY,
      doubt: [0, 1],
    }),
  );
}

async function judgeRows(
  model: ResponseModel,
  rows: readonly ResponseRow[],
  encode: EncodeTexts,
): Promise<Judged[]> {
  const judged: Judged[] = [];
  for (const row of rows) {
    const asked = promptEvidence(model, row.prompt);
    const window = windowsOf(model, row.text).at(0)!;
    const evidence: Evidence = { answer: window.logits, prompt: asked?.logits };
    const part = row.text.slice(window.start, window.end);
    const second = isEncoded(part)
      ? await secondEvidence(model, evidence, { answer: part, prompt: asked?.part ?? "" }, encode)
      : undefined;
    const reading = new AnswerReading(model);
    const recent = new Float32Array(SIDES_COUNT);
    const sentences = sentencesOf(part).map((sentence) => {
      reading.add(sentence);
      reading.last(SENTENCES_BACK, recent);
      return firstSum({ answer: recent, prompt: asked?.logits });
    });
    judged.push({
      row,
      first: firstSum(evidence),
      second: second === undefined ? undefined : secondSum(evidence, second),
      sentences,
    });
  }
  return judged;
}

const terms = new Float32Array(SECOND_TERMS);

function firstSum(evidence: Evidence): number {
  exchangeTerms(evidence, terms, 0);
  return EXCHANGE.first.reduce((sum, weight, i) => sum + weight * terms[i]!, 0);
}

function secondSum(first: Evidence, second: Evidence): number {
  bothTerms(first, second, terms);
  // The second stage's terms come first, and without its offset.
  return EXCHANGE.second.reduce((sum, weight, i) => sum + weight * terms[i]!, 0);
}

function lineOf(rows: readonly (readonly [number, ResponseRow])[]): Line {
  const [scale = 1, offset = 0] = fitLogistic(
    rows.map(([sum]) => Float32Array.of(sum, 1)),
    rows.map(([, row]) => (row.harmful === 1 ? 1 : 0)),
  );
  return { scale, offset };
}

function at({ scale, offset }: Line, sum: number): number {
  return 1 / (1 + Math.exp(-(scale * sum + offset)));
}

/** The first, the middle and the last. */
function someOf(sums: readonly number[]): readonly number[] {
  return [...new Set([0, sums.length >> 1, sums.length - 1])].flatMap((i) =>
    sums[i] === undefined ? [] : [sums[i]],
  );
}

/** The most that two in a row reach both. */
function pairOf(scores: readonly number[]): number {
  return scores.reduce(
    (most, score, i) => (i === 0 ? most : Math.max(most, Math.min(score, scores[i - 1]!))),
    0,
  );
}

export function f1At(
  rows: readonly { readonly score: number; readonly malicious: boolean }[],
  threshold: number,
) {
  let [hits, misses, alarms] = [0, 0, 0];
  for (const { score, malicious } of rows) {
    if (malicious && score >= threshold) hits += 1;
    else if (malicious) misses += 1;
    else if (score >= threshold) alarms += 1;
  }
  return hits === 0 ? 0 : (2 * hits) / (2 * hits + misses + alarms);
}

const TOPIC = SIDES.indexOf("topic");

function topicOf(model: ResponseModel, text: string): number {
  const logit = promptEvidence(model, text)?.logits[TOPIC] ?? Number.NEGATIVE_INFINITY;
  return 1 / (1 + Math.exp(-logit));
}
