/**
 * `sallyport train --data DIR`: trains the prompt classifier from labelled rows and the project's grammars, and writes
 * the model, its signature and its card. The same data and seed give the same bytes.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type CorpusRow, corpusHash, drawTexts, readGrammars, readRows } from "../learn/corpus.ts";
import { openEmbedding } from "../learn/embedding.ts";
import { estimate } from "../learn/estimate.ts";
import { scoreRows } from "../learn/evaluation.ts";
import { printed, reportOf } from "../learn/evaluation-report.ts";
import { calibrate } from "../learn/prompt-calibration.ts";
import { prepareRows, sampleRows, trainPrompt } from "../learn/prompt-training.ts";
import { EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import { PromptModel } from "../text/model/prompt-model.ts";
import { signerOf, signModel } from "../text/model/signer.ts";

const GRAMMARS = join(import.meta.dirname, "../learn/grammar");
const OUT = "config/models/prompt.safetensors";

const USAGE = `sallyport train --data DIR [--out FILE] [--key FILE] [--grammar DIR] [--all] [--seed N] [--estimate]

Trains on DIR/train, fixes thresholds on DIR/dev, and writes FILE, FILE.sig and FILE.figures.md (folders of *.jsonl[.gz] with {"id","text","label","source"}; rows
with "nc" or "share_alike" are left out). About 15 minutes on two cores.

  --out FILE    where the model goes; ${OUT} unless it is given
  --key FILE    private Ed25519 key (PEM) that signs it; without one the seat needs \`unsigned: true\`
                (make one: openssl genpkey -algorithm ed25519)
  --grammar DIR grammars that texts are drawn from; the project's own unless it is given
  --all         also rows whose licence is not clearly free for commercial use: the model is then yours alone
  --seed N      1 unless it is given
  --estimate    train nothing to keep: hold whole sources out in turn, and print how well they are judged
  --responses   train the response model instead; see \`sallyport train --responses --help\``;

const SOURCE_ROWS_MAX = 1200;
const VERSION = "1";

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runTrain(args: readonly string[], output: Output = console): Promise<number> {
  if (args.includes("--responses"))
    return (await import("./train-responses.ts")).runTrainResponses(args, output);
  let values: {
    data?: string;
    out?: string;
    key?: string;
    grammar?: string;
    all?: boolean;
    seed?: string;
    estimate?: boolean;
    help?: boolean;
  };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        data: { type: "string" },
        out: { type: "string", default: OUT },
        key: { type: "string" },
        grammar: { type: "string", default: GRAMMARS },
        all: { type: "boolean" },
        seed: { type: "string", default: "1" },
        estimate: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }));
    if (values.help === true) {
      output.log(USAGE);
      return 0;
    }
    if (values.data === undefined) throw new Error("--data names the folder with train and dev");
    if (!/^\d{1,9}$/.test(values.seed ?? "")) throw new Error("--seed takes a whole number");
  } catch (error) {
    output.error(`sallyport train: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  const seed = Number(values.seed);
  const startedMs = performance.now();
  const say = (text: string) =>
    output.error(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(5)} s  ${text}`);

  const licensed = (row: CorpusRow) => values.all === true || row.licensed;
  const train = readRows(join(values.data, "train")).filter(licensed);
  const drawn = drawTexts(readGrammars(values.grammar ?? GRAMMARS), train, seed);
  const rows = [...sampleRows(train, { seed, sourceRowsMax: SOURCE_ROWS_MAX }), ...drawn];
  say(`${rows.length} rows, ${drawn.length} of them drawn from grammars`);
  const embedding = await openEmbedding((done, of) => {
    if (done % 8000 < 32) say(`embedded ${done} of ${of}`);
  });
  try {
    const prepared = await prepareRows(rows, embedding.embed);
    const all = readRows(join(values.data, "dev"));
    const dev = all.filter((row) => row.pooled && !row.hard);
    if (values.estimate === true) {
      output.log(await estimate(prepared, dev, embedding, seed, say));
      return 0;
    }
    const trained = trainPrompt(prepared, Int32Array.from(rows.keys()), seed);
    say("trained");
    const model = await calibrate(trained, dev, embedding.embed, EMBEDDING_SIZE, {
      name: "sallyport-prompt",
      version: VERSION,
      seed: String(seed),
      corpus: corpusHash(rows),
      rows: String(rows.length),
      licences: values.all === true ? "all" : "commercial use allowed",
    });
    write(values.out ?? OUT, model);
    say(`wrote ${values.out} (${model.length} bytes)`);
    const served = new PromptModel(model);
    const scored = await scoreRows(served, all, embedding.encode);
    writeFileSync(`${values.out}.figures.md`, `${figuresHead(served)}${printed(reportOf(served, scored))}\n`);
    say("measured on dev");
    if (values.key !== undefined) {
      const key = readFileSync(values.key, "utf8");
      writeFileSync(`${values.out}.sig`, signModel(model, key));
      say(`signed by ${signerOf(key)}`);
    }
  } finally {
    await embedding.close();
  }
  return 0;
}

function figuresHead({ about }: PromptModel): string {
  const { name, version, seed, corpus, rows, licences } = about;
  return `# ${name} ${version}: figures on development rows

Written by \`sallyport train\`. ${rows} rows (licences: ${licences}), seed ${seed}, corpus ${corpus}. Calibration, the band of
doubt and the thresholds were fixed on these development rows; no weight was.

`;
}

function write(path: string, bytes: Uint8Array): void {
  const folder = dirname(path);
  if (!existsSync(folder)) mkdirSync(folder, { recursive: true });
  writeFileSync(path, bytes);
}
