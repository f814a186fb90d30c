/** An evaluation as people read it: pools first, then a line a source, each share with its 95% interval. */
import type { PromptModel } from "../text/model/prompt-model.ts";
import { poolFigures, RATES, type ScoredRow, sourceFigures, stageTwoShare } from "./evaluation.ts";
import type { Interval } from "./figures.ts";

/** Development sources least related to those that the shipped model was trained on. */
const LEAST_RELATED = new Set([
  "toxicchat_train",
  "harmbench_val",
  "malicious_instruct",
  "coconot",
  "wildchat_agency_dev",
]);
/** Harder than traffic: reported beside the pool. */
const HARD = new Set(["hatecheck", "coconot_contrast"]);

type Report = ReturnType<typeof reportOf>;

export function reportOf(model: PromptModel, scored: readonly ScoredRow[]) {
  const thresholds = [model.threshold("flag", "any"), model.threshold("block", "any")];
  const pools: [string, (row: ScoredRow) => boolean][] = [
    ["all sources", ({ row }) => row.pooled && !HARD.has(row.source)],
    ["least related to training", ({ row }) => LEAST_RELATED.has(row.source)],
    ["all with the hard sets", ({ row }) => row.pooled],
  ];
  return {
    model: model.about,
    rates: RATES,
    thresholds,
    pools: pools
      .map(([name, keep]) => [name, scored.filter(keep)] as const)
      .filter(([, rows]) => rows.some((row) => row.malicious) && rows.some((row) => !row.malicious))
      .map(([name, rows]) => poolFigures(name, rows)),
    sources: sourceFigures(scored, thresholds),
    stageTwoOfBenign: stageTwoShare(scored.filter(({ row }) => !HARD.has(row.source))),
  };
}

/** Tables in Markdown. */
export function printed(report: Report): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
  const interval = ({ value, low, high }: Interval, show: (n: number) => string) =>
    `${show(value)} (${show(low)} .. ${show(high)})`;
  const lines = [
    "pool | rows | malicious | AUC | recall at 1% | recall at 0.1%",
    "--- | --- | --- | --- | --- | ---",
  ];
  for (const { name, rows, malicious, auc, recall } of report.pools) {
    lines.push(
      [
        name,
        rows,
        malicious,
        interval(auc, (n) => n.toFixed(3)),
        ...recall.map((one) => interval(one, percent)),
      ].join(" | "),
    );
  }
  lines.push(
    "",
    `stage two was asked for ${percent(report.stageTwoOfBenign)} of benign rows`,
    "",
    "source | label | rows | above the 1% threshold | above the 0.1% threshold | stage two",
    "--- | --- | --- | --- | --- | ---",
  );
  for (const { source, label, rows, above, stageTwo } of report.sources) {
    const cells = above.map(
      ({ share, interval: [low, high] }) => `${percent(share)} (${percent(low)} .. ${percent(high)})`,
    );
    lines.push([source, label, rows, ...cells, percent(stageTwo)].join(" | "));
  }
  return lines.join("\n");
}
