/**
 * `sallyport score`: what the shipped prompt defence makes of texts, one JSON line in, one out, in order. It runs the
 * seats of the policy that judge prompts by themselves, so that its word is the gateway's word; with --responses the
 * seat that judges answers.
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { type LineScore, openScorer } from "./prompt-scorer.ts";
import { openResponseScorer, type ResponseLineScore } from "./response-scorer.ts";

const USAGE = `sallyport score [--responses] [--config DIR]  < texts.jsonl  > scores.jsonl

Reads lines {"id","text"} or {"id","messages":[{"role","content"}]} and writes for each, in order,
{"id","scores":{"jailbreak","injection","harmful"},"score","act","stage","reasons"}. A line that cannot be read
gives {"id","error"} and exit code 1 at the end.

  --config DIR   the folder with policy.yaml; "config" unless it is given
  --responses    judges answers instead, by the policy's output-classifier: reads {"id","prompt","text"} and writes
                 {"id","scores":{"harmful"},"score","act","stage","reasons"}`;

export async function runScore(args: readonly string[]): Promise<number> {
  let values: { config?: string; responses?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        config: { type: "string", default: "config" },
        responses: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }));
  } catch (error) {
    console.error(`sallyport score: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  let scorer: {
    readonly scoreLine: (line: string) => Promise<LineScore | ResponseLineScore>;
    readonly close: () => Promise<void>;
  };
  try {
    const open = values.responses === true ? openResponseScorer : openScorer;
    scorer = await open(values.config ?? "config");
  } catch (error) {
    console.error(`sallyport score: ${error instanceof Error ? error.message : error}`);
    return 2;
  }
  let failed = false;
  try {
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.trim() === "") continue;
      const result = await scorer.scoreLine(line);
      if ("error" in result) failed = true;
      if (!process.stdout.write(`${JSON.stringify(result)}\n`)) {
        await new Promise((resolve) => process.stdout.once("drain", resolve));
      }
    }
  } finally {
    await scorer.close();
  }
  return failed ? 1 : 0;
}
