/**
 * `sallyport eval --data DIR`: how well the prompt classifier tells malicious prompts from benign ones, on labelled
 * rows. Thresholds are the model's own, fixed when it was trained.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readRows } from "../learn/corpus.ts";
import { openEmbedding } from "../learn/embedding.ts";
import { scoreRows } from "../learn/evaluation.ts";
import { printed, reportOf } from "../learn/evaluation-report.ts";
import { PromptModel } from "../text/model/prompt-model.ts";

const MODEL = "config/models/prompt.safetensors";

const USAGE = `sallyport eval --data DIR [--model FILE] [--json FILE]

Scores every row of DIR/*.jsonl[.gz] ({"id","text","label","source"}) and prints, for each source and pooled, AUC and
recall at 1% and 0.1% false positives with 95% intervals.

  --model FILE   ${MODEL} unless it is given
  --json FILE    also write the figures as JSON
  --responses    measure the response model instead; see \`sallyport eval --responses --help\``;

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runEval(args: readonly string[], output: Output = console): Promise<number> {
  if (args.includes("--responses"))
    return (await import("./eval-responses.ts")).runEvalResponses(args, output);
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
