/**
 * `sallyport eval --data DIR`: how well the prompt classifier tells malicious prompts from benign ones, on labelled
 * rows. Thresholds are the model's own, fixed when it was trained.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readRows } from "../learn/corpus.ts";
import { openEmbedding } from "../learn/embedding.ts";
import {
  poolFigures,
  RATES,
  type ScoredRow,
  scoreRows,
  sourceFigures,
  stageTwoShare,
} from "../learn/evaluation.ts";
import type { Interval } from "../learn/figures.ts";
import { PromptModel } from "../text/model/prompt-model.ts";

const MODEL = "config/models/prompt.safetensors";

const USAGE = `sallyport eval --data DIR [--model FILE] [--json FILE]

Scores every row of DIR/*.jsonl[.gz] ({"id","text","label","source"}) and prints, for each source and pooled, AUC and
recall at 1% and 0.1% false positives with 95% intervals.

  --model FILE   ${MODEL} unless it is given
  --json FILE    also write the figures as JSON`;

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

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runEval(args: readonly string[], output: Output = console): Promise<number> {
  let values: { data?: string; model?: string; json?: string; help?: boolean };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        data: { type: "string" },
        model: { type: "string", default: MODEL },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }));
  } catch (error) {
    output.error(`sallyport eval: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (values.help === true) {
    output.log(USAGE);
    return 0;
  }
  if (values.data === undefined) {
    output.error(`sallyport eval: --data names the folder of labelled rows\n\n${USAGE}`);
    return 2;
  }
  const model = new PromptModel(readFileSync(values.model ?? MODEL));
  const rows = readRows(values.data);
  const embedding = await openEmbedding();
  try {
    const scored = await scoreRows(model, rows, embedding.encode, (done) =>
      output.error(`scored ${done} of ${rows.length}`),
    );
    const report = reportOf(model, scored);
    output.log(printed(report));
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    await embedding.close();
  }
  return 0;
}

type Report = ReturnType<typeof reportOf>;

function reportOf(model: PromptModel, scored: readonly ScoredRow[]) {
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

function printed(report: Report): string {
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
