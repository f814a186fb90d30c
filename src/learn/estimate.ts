/**
 * What to expect on sources that nobody has seen: whole families are held out in turn, the rest is trained on, and the
 * held-out rows are judged by both stages. Drawn texts are always trained on, as they come with the project. Families
 * of one fold are pooled, as scores of two models are not comparable.
 */
import { EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import { areaUnderCurve, type Scored, shareAbove, thresholdAt } from "./figures.ts";
import { foldsOf, judgeRow, type PreparedRows, trainPrompt } from "./prompt-training.ts";

const FOLDS = 5;

/** A table in Markdown: one line a fold, and the mean. */
export function estimate(data: PreparedRows, seed: number, say: (text: string) => void): string {
  const { rows } = data;
  const folds = foldsOf(rows, FOLDS, seed);
  const every = Int32Array.from(rows.keys());
  const lines = [
    "fold | rows | malicious | AUC | recall at 1% | recall at 0.1%",
    "--- | --- | --- | --- | --- | ---",
  ];
  const sums = [0, 0, 0];
  for (let fold = 0; fold < FOLDS; fold++) {
    const trained = trainPrompt(
      data,
      every.filter((i) => rows[i]!.drawn || folds[i] !== fold),
      seed,
    );
    const scored: Scored[] = [];
    for (const i of every) {
      if (rows[i]!.drawn || folds[i] !== fold) continue;
      const embedding = data.embeddings.subarray(i * EMBEDDING_SIZE, (i + 1) * EMBEDDING_SIZE);
      const { any, network } = judgeRow(trained, rows[i]!.text, data.features[i]!, embedding);
      scored.push({ score: any + network, malicious: rows[i]!.label !== "benign" });
    }
    const figures = [
      areaUnderCurve(scored),
      ...[0.01, 0.001].map((rate) => shareAbove(scored, thresholdAt(scored, rate), true)),
    ];
    figures.forEach((figure, i) => {
      sums[i] = sums[i]! + figure / FOLDS;
    });
    const malicious = scored.filter((row) => row.malicious).length;
    lines.push(
      [fold + 1, scored.length, malicious, ...figures.map((figure) => figure.toFixed(3))].join(" | "),
    );
    say(lines.at(-1)!);
  }
  lines.push(["mean", "", "", ...sums.map((sum) => sum.toFixed(3))].join(" | "));
  return lines.join("\n");
}
