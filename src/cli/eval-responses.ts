/** `sallyport eval --responses --data DIR`: how well the response model tells answers that do harm. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readGrammars, readRows } from "../learn/corpus.ts";
import { openEmbedding } from "../learn/embedding.ts";
import { drawnRows, labelledRows } from "../learn/response-corpus.ts";
import { printedResponses, responseReport, scoreAnswers } from "../learn/response-evaluation.ts";
import { ResponseModel } from "../text/model/response-model.ts";

const MODEL = "config/models/response.safetensors";
const CHECKS = join(import.meta.dirname, "../learn/grammar/response-checks");

const USAGE = `sallyport eval --responses --data DIR [--model FILE] [--json FILE]

Scores the answers of DIR/responses that are held back, and answers drawn from grammars kept from training to prompts of
DIR/dev; prints AUC with 95% intervals, and F1 and false positives at the model's own thresholds.

  --model FILE   ${MODEL} unless it is given
  --json FILE    also write the figures as JSON`;

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runEvalResponses(args: readonly string[], output: Output = console): Promise<number> {
  let values: { data?: string; model?: string; json?: string; help?: boolean };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        responses: { type: "boolean" },
        data: { type: "string" },
        model: { type: "string", default: MODEL },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }));
    if (values.help === true) {
      output.log(USAGE);
      return 0;
    }
    if (values.data === undefined) throw new Error("--data names the folder with responses, train and dev");
  } catch (error) {
    output.error(`sallyport eval: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  const { data, json, model: file = MODEL } = values;
  const model = new ResponseModel(readFileSync(file));
  const rows = [
    ...labelledRows(join(data!, "responses"), readRows(join(data!, "train"))).filter((row) => row.heldBack),
    ...drawnRows(readGrammars(CHECKS), readRows(join(data!, "dev")), Number(model.about["seed"] ?? 1)),
  ];
  output.error(`${rows.length} answers`);
  const embedding = await openEmbedding();
  try {
    const report = responseReport(model, await scoreAnswers(model, rows, embedding.encode));
    output.log(printedResponses(report));
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    await embedding.close();
  }
  return 0;
}
