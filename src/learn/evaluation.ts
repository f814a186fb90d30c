/**
 * Measures the shipped classifier on labelled rows: per source and pooled, at thresholds that were fixed on the
 * development rows when the model was trained, with intervals. What is reported is what `sallyport score` says.
 */
import type { PromptModel } from "../text/model/prompt-model.ts";
import { type EncodeTexts, scoreText } from "../text/model/scoring.ts";
import type { CorpusRow } from "./corpus.ts";
import {
  areaUnderCurve,
  bootstrap,
  type Interval,
  type Scored,
  shareAbove,
  thresholdAt,
  wilson,
} from "./figures.ts";

export interface ScoredRow extends Scored {
  readonly row: CorpusRow;
  readonly stage: 1 | 2;
  /** Probability of the row's own head; of `any` for benign rows. */
  readonly own: number;
}

export const RATES = [0.01, 0.001] as const;
const RESAMPLES = 400;
const SEED = 1;

export async function scoreRows(
  model: PromptModel,
  rows: readonly CorpusRow[],
  encode: EncodeTexts,
  onProgress?: (done: number) => void,
): Promise<ScoredRow[]> {
  const scored: ScoredRow[] = [];
  for (const row of rows) {
    const { scores, stage } = await scoreText(model, row.text, encode);
    const own = row.label === "benign" ? scores.any : scores[row.label];
    scored.push({ row, stage, own, score: scores.any, malicious: row.label !== "benign" });
    if (scored.length % 500 === 0) onProgress?.(scored.length);
  }
  return scored;
}

export interface PoolFigures {
  readonly name: string;
  readonly rows: number;
  readonly malicious: number;
  readonly auc: Interval;
  /** At thresholds of the pool's own benign rows, by rate in RATES. */
  readonly recall: readonly Interval[];
}

export interface SourceFigures {
  readonly source: string;
  readonly label: string;
  readonly rows: number;
  /** Above the model's fixed thresholds, by rate in RATES: recall, or for benign rows false positives; with Wilson's 95%. */
  readonly above: readonly { readonly share: number; readonly interval: readonly [number, number] }[];
  readonly stageTwo: number;
}

export function poolFigures(name: string, rows: readonly ScoredRow[]): PoolFigures {
  const options = { resamples: RESAMPLES, seed: SEED };
  return {
    name,
    rows: rows.length,
    malicious: rows.filter((row) => row.malicious).length,
    auc: bootstrap(rows, areaUnderCurve, options),
    recall: RATES.map((rate) =>
      bootstrap(rows, (sample) => shareAbove(sample, thresholdAt(sample, rate), true), options),
    ),
  };
}

/** `thresholds` are the model's own, by rate in RATES. */
export function sourceFigures(rows: readonly ScoredRow[], thresholds: readonly number[]): SourceFigures[] {
  const groups = new Map<string, ScoredRow[]>();
  for (const scored of rows) {
    const key = `${scored.row.source}\0${scored.row.label}`;
    const list = groups.get(key);
    if (list === undefined) groups.set(key, [scored]);
    else list.push(scored);
  }
  return [...groups.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, list]) => {
      const [source = "", label = ""] = key.split("\0");
      return {
        source,
        label,
        rows: list.length,
        above: thresholds.map((threshold) => {
          const share = list.filter(({ score }) => score > threshold).length / list.length;
          return { share, interval: wilson(share, list.length) };
        }),
        stageTwo: list.filter(({ stage }) => stage === 2).length / list.length,
      };
    });
}

/** Share of benign rows for which stage two was asked. */
export function stageTwoShare(rows: readonly ScoredRow[]): number {
  const benign = rows.filter((row) => !row.malicious);
  return benign.filter(({ stage }) => stage === 2).length / benign.length;
}
