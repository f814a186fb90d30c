/**
 * `sallyport replay`: what a candidate policy would have made of the requests on record, beside the live one, before
 * anybody is asked to live with it. Reads a data folder; needs no gateway and changes nothing.
 */
import { existsSync, statSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { CONTENT_KEY_VARIABLE } from "../ledger/content-format.ts";
import { rehearse } from "../rehearse/rehearse.ts";
import { reportTable } from "../rehearse/table.ts";

const USAGE = `sallyport replay --candidate DIR|FILE [--against DIR] [--data DIR] [--from TIME] [--to TIME]
                 [--requests N] [--encoder-texts N] [--json FILE]

Runs recorded requests through the policy in --against and the one in --candidate and says what would change: who
would newly be blocked, who freed, by seat, organisation, tier, language and hour, with examples, the added cost, and
what cannot be known. Requests with content on record (\`record\` in gateway.yaml) are judged anew; of the others the
recorded verdicts answer what they can. Exits 0 with a report, 1 when there is none, 2 for wrong usage.

  --candidate        folder with policy.yaml, or the file alone: what it names is then looked for beside it, else in
                     --against
  --against DIR      the live policy (default: config)
  --data DIR         the gateway's data folder (default: data)
  --from, --to TIME  RFC 3339, such as 2027-01-01T12:00:00Z: requests that came from then on, and before then
  --requests N       the first N of them at most (default: 1000000)
  --encoder-texts N  texts that the sentence encoder may be asked about by each policy (default: 1000)
  --json FILE        writes the whole report there

Environment: ${CONTENT_KEY_VARIABLE}, where the gateway has it from there too.`;

const SHIPPED_CONFIG = resolve(import.meta.dirname, "../../config");

export async function runReplay(args: readonly string[]): Promise<number> {
  let asked: ReturnType<typeof readArgs>;
  try {
    asked = readArgs(args);
  } catch (error) {
    console.error(`sallyport replay: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (asked === undefined) {
    console.log(USAGE);
    return 0;
  }
  try {
    const { file, dir, against, json, ...options } = asked;
    const candidate =
      file === undefined ? { dir } : { dir, text: await readFile(file, "utf8"), fallbackDir: against };
    const report = await rehearse({ ...options, live: { dir: against }, candidate });
    console.log(reportTable(report));
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600 });
    return 0;
  } catch (error) {
    console.error(`sallyport replay: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

function readArgs(args: readonly string[]) {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...{ candidate: text, against: text, data: text, from: text, to: text, json: text },
      ...{ requests: text, "encoder-texts": text, help: { type: "boolean", short: "h" } },
    },
  });
  if (values.help === true) return undefined;
  if (values.candidate === undefined)
    throw new Error("--candidate is missing: name a folder or a policy file");
  const path = resolve(values.candidate);
  if (!existsSync(path)) throw new Error(`--candidate: there is no ${path}`);
  const isFile = statSync(path).isFile();
  const dataDir = resolve(values.data ?? "data");
  if (!existsSync(dataDir)) throw new Error(`--data: there is no folder ${dataDir}`);
  return {
    dir: isFile ? dirname(path) : path,
    file: isFile ? path : undefined,
    against: resolve(values.against ?? (existsSync("config") ? "config" : SHIPPED_CONFIG)),
    dataDir,
    fromMs: timeOf("--from", values.from, 0),
    toMs: timeOf("--to", values.to, Number.MAX_SAFE_INTEGER),
    requestsMax: countOf("--requests", values.requests, 1_000_000),
    encoderTextsMax: countOf("--encoder-texts", values["encoder-texts"], 1_000),
    contentKey: process.env[CONTENT_KEY_VARIABLE] || undefined,
    json: values.json,
  };
}

function timeOf(flag: string, value: string | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  const ms = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) throw new Error(`${flag}: must be a time in RFC 3339, such as 2027-01-01T12:00:00Z`);
  return ms;
}

function countOf(flag: string, value: string | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  const count = Number(value);
  if (!Number.isSafeInteger(count) || count < 0 || count > 10_000_000)
    throw new Error(`${flag}: must be a whole number from 0 to 10000000`);
  return count;
}
