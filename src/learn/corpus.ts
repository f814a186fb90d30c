/**
 * What the prompt classifier learns from: labelled rows of a data folder, and texts drawn from the grammars beside
 * this file. Rows never leave memory: an artifact holds weights, never texts.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { type Drawn, drawSet, type GrammarSet, type Material, readGrammar } from "./grammar.ts";
import { Random } from "./random.ts";

export type Label = "benign" | "harmful" | "jailbreak" | "injection";

export interface CorpusRow {
  readonly id: string;
  readonly text: string;
  readonly label: Label;
  readonly source: string;
  readonly lang: string;
  /** Rows of one family are near relatives: they stay on one side of every split. */
  readonly family: string;
  /** A benign row that uses the words or the form of attacks. */
  readonly hard: boolean;
  readonly drawn: boolean;
  /** False: the licence is not clearly free for commercial use, or asks for the same licence. */
  readonly licensed: boolean;
  /** Left out of pooled figures by its publisher's wish. */
  readonly pooled: boolean;
  /** What a jailbreak's wrapper holds. */
  readonly goal?: "harmful" | "benign";
}

const LABELS = new Set<string>(["benign", "harmful", "jailbreak", "injection"]);

/** Reads every `*.jsonl` and `*.jsonl.gz` of a folder, in the order of their names. Throws an Error that names file and line. */
export function readRows(folder: string): CorpusRow[] {
  const files = readdirSync(folder)
    .filter((name) => /\.jsonl(?:\.gz)?$/.test(name))
    .sort();
  if (files.length === 0) throw new Error(`${folder} holds no *.jsonl or *.jsonl.gz`);
  return files.flatMap((name) => {
    const bytes = readFileSync(join(folder, name));
    const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
    return text
      .split("\n")
      .flatMap((line, i) => (line.trim() === "" ? [] : [readRow(line, `${join(folder, name)}:${i + 1}`)]));
  });
}

function readRow(line: string, place: string): CorpusRow {
  let row: Record<string, unknown>;
  try {
    row = JSON.parse(line) as Record<string, unknown>;
  } catch {
    throw new Error(`${place}: it is not JSON`);
  }
  const { id, text, label, source, lang } = row;
  if (typeof text !== "string") throw new Error(`${place}: "text" must be a string`);
  if (typeof label !== "string" || !LABELS.has(label)) {
    throw new Error(`${place}: "label" must be one of ${[...LABELS].join(", ")}`);
  }
  const from = typeof source === "string" ? source : "unnamed";
  return {
    id: typeof id === "string" ? id : place,
    text,
    label: label as Label,
    source: from,
    lang: typeof lang === "string" ? lang : "und",
    family: familyOf(from),
    hard: row["hard_benign"] === true,
    drawn: false,
    licensed: row["nc"] !== true && row["share_alike"] !== true,
    pooled: row["exclude_from_pool"] !== true,
    ...(from === "synth_wrapped" && label === "jailbreak" && { goal: "harmful" as const }),
  };
}

/** Sources of one publisher, or made from one another, by the start of their names. */
const FAMILIES = [
  "advbench adv_training tdc2023 forbidden_questions",
  "catqa harmfulqa dangerousqa",
  "purplellama",
  "llamafactory",
  "tensortrust",
  "neuralchemy",
  "gptfuzz",
  "synth bipia",
  "itw_jailbreak selfreminder garak pyrit",
  "wildchat",
  "spamassassin",
  "ailuminate",
].map((names) => names.split(" "));

function familyOf(source: string): string {
  return FAMILIES.find((names) => names.some((name) => source.startsWith(name)))?.[0] ?? source;
}

/** Every grammar of a folder, sets in file order. */
export function readGrammars(folder: string): readonly GrammarSet[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".yaml"))
    .sort()
    .flatMap((name) => readGrammar(readFileSync(join(folder, name), "utf8"), name));
}

/** Sources whose harmful rows are asks that a wrapper can hold, rather than statements, tweets or code. */
const NO_GOALS = /^(?:rtp_|davidson|edos_|hatescore|toxigen|purplellama_interpreter|purplellama_mitre|xcopa)/;
const GOAL_UNITS = { least: 20, most: 300 };
const DOCUMENT_UNITS = { least: 200, most: 1500 };
const DOCUMENT_SOURCES = /^(?:spamassassin|pubmedqa|bipia_train_clean|wildchat|t0_p3)/;

/** Texts that are drawn in all: more teach little that their templates did not, and training has 20 minutes. */
const DRAWN_MAX = 150_000;

/** Texts of all sets, of each in proportion to its count; wrappers are filled from `rows` and from what other sets gave. */
export function drawTexts(
  sets: readonly GrammarSet[],
  rows: readonly CorpusRow[],
  seed: number,
): CorpusRow[] {
  const random = new Random(seed);
  const share = Math.min(1, DRAWN_MAX / sets.reduce((sum, { count }) => sum + count, 0));
  const draw = (set: GrammarSet, material: Material) =>
    drawSet(set, material, random, Math.ceil(set.count * share)).map(rowOf);
  const isOpen = (set: GrammarSet) =>
    set.templates.some((template) => /\{(?:goal|harmful|benign|document|noise)\}/.test(template));
  const plain = sets.filter((set) => !isOpen(set));
  const none: Material = { harmful: [], benign: [], documents: [] };
  const drawn = plain.flatMap((set) => draw(set, none));
  const goals = (label: Label) => [
    ...rows.filter((row) => row.label === label && !NO_GOALS.test(row.source) && isGoal(row.text)),
    ...drawn.filter((row) => row.label === label && isGoal(row.text)),
  ];
  const material: Material = {
    harmful: goals("harmful").map((row) => row.text),
    benign: goals("benign").map((row) => row.text),
    documents: rows
      .filter(
        ({ source, text, label }) =>
          label === "benign" && DOCUMENT_SOURCES.test(source) && text.length > DOCUMENT_UNITS.least,
      )
      .map((row) => row.text.slice(0, DOCUMENT_UNITS.most)),
  };
  for (const set of sets) {
    if (isOpen(set)) drawn.push(...draw(set, material));
  }
  return drawn;
}

function isGoal(text: string): boolean {
  return text.length >= GOAL_UNITS.least && text.length <= GOAL_UNITS.most;
}

function rowOf({ text, set, template }: Drawn, index: number): CorpusRow {
  const source = `drawn:${set.name}`;
  return {
    id: `${source}:${template}:${index}`,
    text,
    label: set.label,
    source,
    lang: set.lang,
    family: source,
    hard: set.hard,
    drawn: true,
    licensed: true,
    pooled: true,
    ...(set.goal !== undefined && { goal: set.goal }),
  };
}

/** Hex SHA-256 over ids, labels and texts: names what a model was trained on. */
export function corpusHash(rows: readonly CorpusRow[]): string {
  const hash = createHash("sha256");
  for (const { id, label, text } of rows) hash.update(`${id}\0${label}\0${text}\0`);
  return hash.digest("hex");
}
