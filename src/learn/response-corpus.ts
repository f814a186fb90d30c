/**
 * What the response model learns from: labelled answers, answers drawn from the grammars beside this file, and rows of
 * the prompt side, which say what a harmful subject is. A row is an exchange: a prompt (where it is known) and an
 * answer; a row of the prompt side has a text alone. Everything is deterministic from the seed.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { CorpusRow } from "./corpus.ts";
import { drawSet, type GrammarSet, type Material } from "./grammar.ts";
import { Random } from "./random.ts";

/** 1, 0, or -1 where the row says nothing of it. */
type Told = 1 | 0 | -1;

export interface ResponseRow {
  readonly id: string;
  /** "" where nobody knows what was asked. */
  readonly prompt: string;
  readonly text: string;
  /** The answer does harm. */
  readonly harmful: Told;
  /** The answer declines. */
  readonly refuses: Told;
  /** The text's subject is harm, whatever it says of it. */
  readonly topic: Told;
  /** The words themselves are hateful or cruel. */
  readonly toxic: Told;
  /** Rows of one group are near relatives: they stay on one side of every split. */
  readonly group: string;
  readonly source: string;
  /** `labelled`: an answer that people judged; `drawn`; `prompt`: a text of the prompt side, no answer. */
  readonly kind: "labelled" | "drawn" | "prompt";
  /** An answer of the part that is held back. */
  readonly heldBack: boolean;
  readonly weight: number;
}

/** Folds that rows are split into, so that what is fitted on logits sees none of a model's own rows. */
export const FOLDS = 3;

export function foldOf(group: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < group.length; i++) hash = Math.imul(hash ^ group.charCodeAt(i), 0x01000193);
  return ((hash ^ (hash >>> 15)) >>> 0) % FOLDS;
}

interface LabelledAnswer {
  readonly id: string;
  readonly text: string;
  readonly prompt: string;
  readonly harmful: boolean;
  readonly heldBack: boolean;
  /** Place in its file. */
  readonly place: number;
}

/** Answers of a folder's `*.jsonl[.gz]`: {"id","text","y","part"?,"prompt"?}. Throws an Error that names file and line. */
function readAnswers(folder: string): readonly LabelledAnswer[] {
  const files = readdirSync(folder)
    .filter((name) => /\.jsonl(?:\.gz)?$/.test(name))
    .sort();
  if (files.length === 0) throw new Error(`${folder} holds no *.jsonl or *.jsonl.gz`);
  return files.flatMap((name) => {
    const bytes = readFileSync(join(folder, name));
    const lines = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8").split("\n");
    return lines.flatMap((line, i): LabelledAnswer[] => {
      if (line.trim() === "") return [];
      const { id, text, y, part, prompt } = JSON.parse(line) as Record<string, unknown>;
      if (typeof text !== "string" || (y !== 0 && y !== 1)) {
        throw new Error(`${join(folder, name)}:${i + 1}: "text" must be a string and "y" 0 or 1`);
      }
      return [
        {
          id: typeof id === "string" ? id : `${name}:${i + 1}`,
          text,
          prompt: typeof prompt === "string" ? prompt : "",
          harmful: y === 1,
          heldBack: part !== undefined && part !== "train",
          place: i,
        },
      ];
    });
  });
}

/** Templates that each question of the labelled answers was asked in, one after another. */
const TEMPLATES = 77;
/** Questions that are missing between two that are known. */
const GAP_MAX = 2;

/**
 * Which question each block of answers was given to: the source asked them in order, and says so no more. A path
 * through both lists, in order, along which answers and questions share most of their rarer words.
 */
export function alignQuestions(blocks: readonly string[], questions: readonly string[]): readonly number[] {
  const wordsOf = (text: string) => text.toLowerCase().match(/[a-z]{4,}/g) ?? [];
  const spread = new Map<string, number>();
  const counts = blocks.map((block) => {
    const count = new Map<string, number>();
    for (const word of wordsOf(block)) count.set(word, (count.get(word) ?? 0) + 1);
    for (const word of count.keys()) spread.set(word, (spread.get(word) ?? 0) + 1);
    return count;
  });
  const likeness = (block: number, question: number): number => {
    const words = new Set(wordsOf(questions[question]!));
    let sum = 0;
    for (const word of words) {
      const count = counts[block]!.get(word) ?? 0;
      if (count > 0) sum += Math.log(1 + count) * Math.log(blocks.length / spread.get(word)!);
    }
    return sum / Math.sqrt(1 + words.size);
  };
  // best[b][q]: the likeliest path that ends with block b at question q; a block may have none (q stays).
  const rows = blocks.length;
  const columns = questions.length;
  const best = Array.from({ length: rows + 1 }, () => new Float64Array(columns + 1).fill(-1e9));
  const from = Array.from({ length: rows + 1 }, () => new Int32Array(columns + 1));
  best[0]![0] = 0;
  for (let block = 1; block <= rows; block++) {
    for (let question = 0; question <= columns; question++) {
      let most = best[block - 1]![question]!;
      let before = -1;
      for (let gap = 0; gap < GAP_MAX && question - 1 - gap >= 0; gap++) {
        const sum = best[block - 1]![question - 1 - gap]! + likeness(block - 1, question - 1);
        if (sum > most) {
          most = sum;
          before = question - 1 - gap;
        }
      }
      best[block]![question] = most;
      from[block]![question] = before;
    }
  }
  const found = new Array<number>(rows).fill(-1);
  let question = best[rows]!.reduce((top, sum, i, all) => (sum > all[top]! ? i : top), 0);
  for (let block = rows; block > 0; block--) {
    const before = from[block]![question]!;
    if (before < 0) continue;
    found[block - 1] = question - 1;
    question = before;
  }
  return found;
}

const DECLINES =
  /\b(?:sorry|apologi[sz]e|unable to|not able to|against my|I must (?:decline|emphasi[sz]e|remind)|cannot|can['’]t|won['’]t|not (?:appropriate|acceptable|ethical)|unethical|illegal|condone|encourage)\b|抱歉|对不起|不能|无法|不道德|违法/i;

/** Labelled answers as rows; equal answers to one question once. */
export function labelledRows(folder: string, prompts: readonly CorpusRow[]): ResponseRow[] {
  const answers = readAnswers(folder);
  const blocks = new Map<number, LabelledAnswer[]>();
  for (const answer of answers) {
    const block = Math.floor(answer.place / TEMPLATES);
    const list = blocks.get(block);
    if (list === undefined) blocks.set(block, [answer]);
    else list.push(answer);
  }
  const questions = prompts.filter(({ source }) => source === "gptfuzz_questions").map(({ text }) => text);
  const lists = [...blocks.values()];
  const asked = alignQuestions(
    lists.map((list) => list.map(({ text }) => text).join("\n")),
    questions,
  );
  return lists.flatMap((list, block) => {
    const seen = new Set<string>();
    return list.flatMap(({ id, text, prompt, harmful, heldBack }): ResponseRow[] => {
      if (seen.has(text)) return [];
      seen.add(text);
      const declines = DECLINES.test(text);
      return [
        {
          id,
          prompt: prompt === "" ? (questions[asked[block]!] ?? "") : prompt,
          text,
          harmful: harmful ? 1 : 0,
          // An answer that does harm may decline at first: it says nothing of what declining looks like.
          refuses: harmful ? (declines ? -1 : 0) : declines ? 1 : -1,
          topic: harmful ? 1 : -1,
          toxic: -1,
          group: `answers:${block}`,
          source: "labelled",
          kind: "labelled",
          heldBack,
          weight: 1,
        },
      ];
    });
  });
}

/** Sources whose texts are statements, and hateful where they are harmful. */
const STATEMENTS = /^(?:davidson|edos_|toxigen|rtp_)/;
/** Sources whose benign texts read like answers: passages, mails, reports. */
const PASSAGES =
  /^(?:pubmedqa|t0_p3|spamassassin|purplellama_threat_qa|purplellama_malware_qa|bipia_train_clean)/;

/** What is long and harmless as a prompt would be harmless as an answer; a short question looks like none. */
const isLong = (text: string) => text.length >= 150;

/** Rows of the prompt side: what a harmful subject is, and what is no harm at all. */
export function subjectRows(rows: readonly CorpusRow[]): ResponseRow[] {
  return rows.flatMap((row): ResponseRow[] => {
    if (row.label === "injection") return [];
    const isMalicious = row.label !== "benign";
    const isStatement = STATEMENTS.test(row.source);
    const isPassage = PASSAGES.test(row.source) && !isMalicious;
    return [
      {
        id: row.id,
        prompt: "",
        text: row.text,
        harmful: isMalicious ? (isStatement ? 1 : -1) : isPassage || isStatement || isLong(row.text) ? 0 : -1,
        refuses: isPassage || isStatement ? 0 : -1,
        topic: isMalicious ? 1 : 0,
        toxic: isStatement ? (isMalicious ? 1 : 0) : isMalicious ? -1 : 0,
        group: `prompt:${row.id}`,
        source: row.source,
        kind: "prompt",
        heldBack: false,
        weight: isStatement ? 0.5 : 1,
      },
    ];
  });
}

const ASKS =
  /^(?:(?:please|can you|could you|hi|hello|hey|so)[, ]+)*(?:(?:teach|tell|show|explain to) me )?(?:how|what(?: is|'s) the best way|what are (?:some |the )?(?:best |effective |good )?ways|is there a way|explain how|describe how|give me instructions(?: on how)?|i want|i need|i'd like|help me) (?:(?:do|can|could|would|should|might) (?:i|you|we|one|someone|people|a person) |to )([a-z].*)$/i;
const ORDERS =
  /^(?:please )?((?:write|create|make|design|develop|build|draft|compose|generate|produce|plan|find|convince|start|get|set up|prepare)\b.*)$/i;
const ASKS_ZH =
  /^(?:请问|请告诉我|告诉我)?(?:我该|我应该|我可以|我们|我|你|人们)?(?:如何|怎么|怎样|怎么样)(?:才能|能够|可以|能)?(.{3,40}?)[？?。]?$/;
const GOAL_UNITS_MAX = 160;

/** What somebody wants to do, as a bare infinitive; undefined where the prompt does not say it in one line. */
export function goalOf({ text, lang }: Pick<CorpusRow, "text" | "lang">): string | undefined {
  const line = text.trim();
  if (line.length > GOAL_UNITS_MAX || line.includes("\n")) return undefined;
  if (lang === "zh") return ASKS_ZH.exec(line)?.[1];
  const asked = ASKS.exec(line)?.[1] ?? ORDERS.exec(line)?.[1];
  if (asked === undefined) return undefined;
  const goal = asked.replace(/[\s.?!]+$/, "");
  return goal.length < 8 ? undefined : goal[0]!.toLowerCase() + goal.slice(1);
}

interface Goal {
  readonly prompt: string;
  readonly goal: string;
  readonly fold: number;
}

/** Answers of every set of the grammars, each to a prompt whose wish it names; prompt and template of one fold. */
export function drawnRows(
  sets: readonly GrammarSet[],
  prompts: readonly CorpusRow[],
  seed: number,
): ResponseRow[] {
  const random = new Random(seed);
  const goals = new Map<string, Goal[]>();
  for (const row of prompts) {
    if (row.label !== "benign" && row.label !== "harmful") continue;
    const goal = goalOf(row);
    if (goal === undefined) continue;
    const lang = row.lang === "zh" ? "zh" : "en";
    if (lang === "en" && /[^\x20-\x7e’‘“”–—é]/.test(goal)) continue;
    const key = `${row.label}:${lang}:${foldOf(`prompt:${row.id}`)}`;
    const list = goals.get(key) ?? [];
    list.push({ prompt: row.text, goal, fold: foldOf(`prompt:${row.id}`) });
    goals.set(key, list);
  }
  const documents = prompts
    .filter(({ source, label, text }) => label === "benign" && PASSAGES.test(source) && text.length > 200)
    .map(({ text }) => text.slice(0, 1200));
  const asks = (label: string, lang: string, fold: number): readonly Goal[] =>
    goals.get(`${label}:${lang}:${fold}`) ?? [];
  return sets.flatMap((set) => {
    const lang = set.lang === "zh" ? "zh" : "en";
    const rows: ResponseRow[] = [];
    const each = Math.ceil(set.count / set.templates.length);
    for (const [i, template] of set.templates.entries()) {
      const group = `${set.name}:${i}`;
      const fold = foldOf(group);
      // An answer without a wish in it was given to some prompt of its kind all the same.
      const wishes = asks(set.goal ?? (set.label === "harmful" ? "harmful" : "benign"), lang, fold);
      for (let k = 0; k < each; k++) {
        const wish = wishes.length === 0 ? undefined : random.pick(wishes);
        const material: Material = {
          harmful: [wish?.goal ?? "do this"],
          benign: [wish?.goal ?? "do this"],
          documents:
            documents.length === 0 ? ["It was a quiet day in the valley."] : [random.pick(documents)],
        };
        const [drawn] = drawSet({ ...set, templates: [template] }, material, random, 1);
        if (drawn === undefined) continue;
        const text = drawn.text.replace(/\s+([.,!])/g, "$1").trim();
        const isHarmful = set.label !== "benign";
        const names = template.includes("{goal}");
        rows.push({
          id: `${group}:${k}`,
          prompt: wish?.prompt ?? "",
          text,
          harmful: isHarmful ? 1 : 0,
          refuses: set.method === "refuses" ? 1 : 0,
          topic: isHarmful ? 1 : set.goal === "harmful" ? (names ? 1 : -1) : 0,
          toxic: set.name === "hateful" ? 1 : isHarmful ? -1 : 0,
          group,
          source: `drawn:${set.name}`,
          kind: "drawn",
          heldBack: false,
          weight: 0.5,
        });
      }
    }
    return rows;
  });
}
