/**
 * What to expect on sources that nobody has seen: whole families are held out in turn, a model is trained on the rest
 * and calibrated on the development rows as one that is shipped would be, and the held-out rows are judged as a
 * gateway would judge them. Drawn texts are always trained on, as they come with the project. A fold's rows are
 * ranked among themselves, as scores of two models are not comparable.
 */
import { EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import { PromptModel } from "../text/model/prompt-model.ts";
import type { EncodeTexts } from "../text/model/scoring.ts";
import type { CorpusRow } from "./corpus.ts";
import type { Embed } from "./embedding.ts";
import { scoreRows } from "./evaluation.ts";
import { areaUnderCurve, shareAbove, thresholdAt } from "./figures.ts";
import { calibrate } from "./prompt-calibration.ts";
import { foldsOf, type PreparedRows, trainPrompt } from "./prompt-training.ts";

const FOLDS = 5;

export interface Encoders {
  readonly embed: Embed;
  readonly encode: EncodeTexts;
}

/** A table in Markdown: one line a fold, and the mean. */
export async function estimate(
  data: PreparedRows,
  dev: readonly CorpusRow[],
  { embed, encode }: Encoders,
  seed: number,
  say: (text: string) => void,
): Promise<string> {
  const { rows } = data;
  const folds = foldsOf(rows, FOLDS, seed);
  const every = Int32Array.from(rows.keys());
  const lines = [
    "fold | rows | malicious | AUC | recall at 1% | recall at 0.1%",
    "--- | --- | --- | --- | --- | ---",
  ];
  const sums = [0, 0, 0];
  for (let fold = 0; fold < FOLDS; fold++) {
    const held = (i: number) => !rows[i]!.drawn && folds[i] === fold;
    const within = every.filter((i) => !held(i));
    const model = await calibrate(trainPrompt(data, within, seed), dev, embed, EMBEDDING_SIZE, {});
    const scored = await scoreRows(
      new PromptModel(model),
      rows.filter((_, i) => held(i)),
      encode,
    );
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
