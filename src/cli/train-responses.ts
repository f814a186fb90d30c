/**
 * `sallyport train --responses --data DIR`: trains the response model alone, from labelled answers, the project's
 * grammars of answers and rows of the prompt side; writes the model, its signature and its figures. The same data and
 * seed give the same bytes.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { readGrammars, readRows } from "../learn/corpus.ts";
import { openEmbedding } from "../learn/embedding.ts";
import { sampleRows } from "../learn/prompt-training.ts";
import { calibrateResponses } from "../learn/response-calibration.ts";
import { drawnRows, labelledRows, type ResponseRow, subjectRows } from "../learn/response-corpus.ts";
import { printedResponses, responseReport, scoreAnswers } from "../learn/response-evaluation.ts";
import { prepareResponses } from "../learn/response-training.ts";
import { ResponseModel } from "../text/model/response-model.ts";
import { signerOf, signModel } from "../text/model/signer.ts";

const GRAMMARS = join(import.meta.dirname, "../learn/grammar");
const OUT = "config/models/response.safetensors";
const SOURCE_ROWS_MAX = 300;
const VERSION = "1";

const USAGE = `sallyport train --responses --data DIR [--out FILE] [--key FILE] [--all] [--seed N]

Trains the response model on DIR/responses ({"id","text","y","part"?,"prompt"?}: y 1 harmful, part not "train": held
back) and DIR/train, fixes what it costs on DIR/dev, and writes FILE, FILE.sig and FILE.figures.md. About 10 minutes on
two cores.

  --out FILE    where the model goes; ${OUT} unless it is given
  --key FILE    private Ed25519 key (PEM) that signs it; without one the seat needs \`unsigned: true\`
  --grammar DIR with responses/ and response-checks/: what answers are drawn from; the project's own unless it is given
  --all         also rows whose licence is not clearly free for commercial use: the model is then yours alone
  --seed N      1 unless it is given`;

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runTrainResponses(args: readonly string[], output: Output = console): Promise<number> {
  let values: {
    data?: string;
    out?: string;
    key?: string;
    grammar?: string;
    all?: boolean;
    seed?: string;
    help?: boolean;
  };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        responses: { type: "boolean" },
        data: { type: "string" },
        out: { type: "string", default: OUT },
        key: { type: "string" },
        grammar: { type: "string", default: GRAMMARS },
        all: { type: "boolean" },
        seed: { type: "string", default: "1" },
        help: { type: "boolean", short: "h" },
      },
    }));
    if (values.help === true) {
      output.log(USAGE);
      return 0;
    }
    if (values.data === undefined) throw new Error("--data names the folder with responses, train and dev");
    if (!/^\d{1,9}$/.test(values.seed ?? "")) throw new Error("--seed takes a whole number");
  } catch (error) {
    output.error(`sallyport train: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  const { data, out = OUT, grammar = GRAMMARS } = values;
  const seed = Number(values.seed);
  const startedMs = performance.now();
  const say = (text: string) =>
    output.error(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(5)} s  ${text}`);

  const prompts = readRows(join(data!, "train")).filter((row) => values.all === true || row.licensed);
  const dev = readRows(join(data!, "dev"));
  const rows = [
    ...labelledRows(join(data!, "responses"), prompts),
    ...drawnRows(readGrammars(join(grammar, "responses")), prompts, seed),
    ...subjectRows(sampleRows(prompts, { seed, sourceRowsMax: SOURCE_ROWS_MAX })),
  ];
  const counts = (kind: ResponseRow["kind"]) => rows.filter((row) => row.kind === kind).length;
  say(
    `${counts("labelled")} labelled answers, ${counts("drawn")} drawn ones, ${counts("prompt")} of prompts`,
  );
  const embedding = await openEmbedding((done, of) => {
    if (done % 8000 < 32) say(`embedded ${done} of ${of}`);
  });
  try {
    const prepared = await prepareResponses(rows, embedding.embed);
    const { model, figures } = await calibrateResponses(prepared, dev, embedding.encode, {
      seed,
      say,
      about: {
        name: "sallyport-response",
        version: VERSION,
        seed: String(seed),
        corpus: hashOf(rows),
        rows: String(rows.length),
        licences: values.all === true ? "all" : "commercial use allowed",
      },
    });
    if (!existsSync(dirname(out))) mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, model);
    say(`wrote ${out} (${model.length} bytes)`);
    const served = new ResponseModel(model);
    const checks = [
      ...rows.filter((row) => row.heldBack),
      ...drawnRows(readGrammars(join(grammar, "response-checks")), dev, seed),
    ];
    const report = responseReport(served, await scoreAnswers(served, checks, embedding.encode));
    writeFileSync(
      `${out}.figures.md`,
      `${figuresHead(served)}${printedResponses(report)}\n\n${heldOut(figures)}\n`,
    );
    output.log(`${printedResponses(report)}\n\n${heldOut(figures)}`);
    if (values.key !== undefined) {
      const key = readFileSync(values.key, "utf8");
      writeFileSync(`${out}.sig`, signModel(model, key));
      say(`signed by ${signerOf(key)}`);
    }
  } finally {
    await embedding.close();
  }
  return 0;
}

function heldOut(figures: readonly string[]): string {
  return [
    "whole sources held out | rows | harmful | AUC of stage one | AUC | F1 at flagAt | benign flagged | benign blocked",
    "--- | --- | --- | --- | --- | --- | --- | ---",
    ...figures,
  ].join("\n");
}

function figuresHead({ about }: ResponseModel): string {
  const { name, version, seed, corpus, rows, licences } = about;
  return `# ${name} ${version}: figures

Written by \`sallyport train --responses\`. ${rows} rows (licences: ${licences}), seed ${seed}, corpus ${corpus}. Scale,
thresholds and the band of doubt were fixed on sources held out in turn (second table). The held-back answers were seen
by no weight and no threshold; the weights of the sum over both stages were chosen with an eye on all of these rows.

`;
}

function hashOf(rows: readonly ResponseRow[]): string {
  const hash = createHash("sha256");
  for (const { id, harmful, prompt, text } of rows) hash.update(`${id}\0${harmful}\0${prompt}\0${text}\0`);
  return hash.digest("hex");
}
