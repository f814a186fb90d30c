/**
 * How well the response model tells answers that do harm: on the labelled answers that were held back, and on answers
 * drawn from grammars that no model is trained on, given to prompts of the development rows.
 */
import type { ResponseModel } from "../text/model/response-model.ts";
import { scoreExchange } from "../text/model/response-scoring.ts";
import type { EncodeTexts } from "../text/model/scoring.ts";
import { areaUnderCurve, bootstrap } from "./figures.ts";
import { f1At } from "./response-calibration.ts";
import type { ResponseRow } from "./response-corpus.ts";

export interface ScoredAnswer {
  readonly row: ResponseRow;
  readonly score: number;
  readonly stage: 1 | 2;
  readonly malicious: boolean;
}

export async function scoreAnswers(
  model: ResponseModel,
  rows: readonly ResponseRow[],
  encode: EncodeTexts,
): Promise<ScoredAnswer[]> {
  const scored: ScoredAnswer[] = [];
  for (const row of rows) {
    if (row.harmful < 0) continue;
    const { score, stage } = await scoreExchange(model, row, encode);
    scored.push({ row, score, stage, malicious: row.harmful === 1 });
  }
  return scored;
}

const RESAMPLES = 200;
const DENSE = /[\u4e00-\u9fff]/;

/** What is reported apart: [name, which rows]. */
const POOLS: readonly (readonly [string, (row: ResponseRow) => boolean])[] = [
  ["held-back answers (split by prompt)", ({ kind }) => kind === "labelled"],
  ["held-back, with Chinese in them", ({ kind, text }) => kind === "labelled" && DENSE.test(text)],
  ["held-back, up to 300 characters", ({ kind, text }) => kind === "labelled" && text.length <= 300],
  ["held-back, above 1,500 characters", ({ kind, text }) => kind === "labelled" && text.length > 1500],
  ["drawn from grammars kept from training", ({ kind }) => kind === "drawn"],
];

export function responseReport(model: ResponseModel, scored: readonly ScoredAnswer[]) {
  const [flagAt, blockAt] = [model.threshold("flagAt"), model.threshold("blockAt")];
  return POOLS.flatMap(([name, keep]) => {
    const rows = scored.filter(({ row }) => keep(row));
    const benign = rows.filter((row) => !row.malicious);
    if (benign.length === 0 || benign.length === rows.length) return [];
    const above = (threshold: number) => benign.filter(({ score }) => score >= threshold).length;
    return [
      {
        name,
        rows: rows.length,
        harmful: rows.length - benign.length,
        auc: bootstrap(rows, areaUnderCurve, { resamples: RESAMPLES, seed: 1 }),
        f1: f1At(rows, flagAt),
        flaggedBenign: above(flagAt) / benign.length,
        blockedBenign: above(blockAt) / benign.length,
        blockedHarmful:
          rows.filter((row) => row.malicious && row.score >= blockAt).length / (rows.length - benign.length),
        stageTwo: rows.filter(({ stage }) => stage === 2).length / rows.length,
      },
    ];
  });
}

/** A table in Markdown. */
export function printedResponses(report: ReturnType<typeof responseReport>): string {
  const share = (value: number) => `${(100 * value).toFixed(1)}%`;
  return [
    "answers | rows | harmful | AUC | F1 at flagAt | benign flagged | benign blocked | harmful blocked | stage two",
    "--- | --- | --- | --- | --- | --- | --- | --- | ---",
    ...report.map(
      ({ name, rows, harmful, auc, f1, flaggedBenign, blockedBenign, blockedHarmful, stageTwo }) =>
        [
          name,
          rows,
          harmful,
          `${auc.value.toFixed(3)} (${auc.low.toFixed(3)} .. ${auc.high.toFixed(3)})`,
          f1.toFixed(3),
          share(flaggedBenign),
          share(blockedBenign),
          share(blockedHarmful),
          share(stageTwo),
        ].join(" | "),
    ),
  ].join("\n");
}
