/**
 * What the layer finds, what it says of ordinary answers, and what it costs:
 *
 *   node layers/output-leak/leaks.bench.ts [rows.jsonl.gz ...]
 *
 * A file's rows are `{"text", "y"}` or `{"text", "label"}`; those with y 0 or label "benign" are read as answers under
 * each prompt of cases/prompts.yaml.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Held } from "../../src/layer/index.ts";
import {
  casesOf,
  compile,
  deltaOf,
  findIn,
  leafOf,
  openOn,
  type PromptCase,
  promptOf,
  sentencesOf,
  WAYS,
} from "./generated.ts";

const prompts = casesOf<readonly PromptCase[]>("prompts");
const answers = casesOf<readonly string[]>("answers");
const layer = compile();
const LETTERS_MIN = 60;

const lettersIn = (text: string) =>
  (text.match(/[\p{L}\p{N}]/gu) ?? []).reduce((sum, letter) => sum + (letter >= "\u2e80" ? 3 : 1), 0);
const percent = (share: number) => `${(share * 100).toFixed(1)}%`.padStart(7);

function isFound(prompt: ReturnType<typeof promptOf>, text: string): boolean {
  return findIn(layer, prompt, `Sure, here it is:\n\n${text}\n\nAnything else?`).some(
    ({ reason }) => reason === "output.leak.system-prompt",
  );
}

console.log(
  "recall on leaks made of the prompts in cases/".padEnd(48),
  "  whole  halves  sentences of 60 letters",
);
for (const [name, dress] of Object.entries(WAYS)) {
  const counts = [0, 0, 0];
  const found = [0, 0, 0];
  for (const { system } of prompts) {
    const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello, who are you?"));
    const half = system.length >> 1;
    const parts = [
      [system],
      [system.slice(0, half), system.slice(half)],
      sentencesOf(system).filter((one) => lettersIn(one) >= LETTERS_MIN),
    ];
    parts.forEach((texts, i) => {
      for (const text of texts) {
        counts[i]! += 1;
        if (isFound(prompt, dress(text))) found[i]! += 1;
      }
    });
  }
  console.log(
    name.padEnd(48),
    ...found.map((hits, i) => percent(hits / counts[i]!)),
    `  (${counts.join(", ")})`,
  );
}

function alarms(texts: readonly string[], name: string): void {
  let answersWith = 0;
  const byReason = new Map<string, number>();
  const shown: string[] = [];
  let count = 0;
  for (const { id, system } of prompts) {
    const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello, who are you?"));
    for (const text of texts) {
      count += 1;
      const found = findIn(layer, prompt, text);
      if (found.length === 0) continue;
      answersWith += 1;
      for (const reason of new Set(found.map((one) => one.reason)))
        byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
      const where = found[0]!.where!;
      if (shown.length < 5)
        shown.push(
          `    ${id}, ${found[0]!.reason}: ${JSON.stringify(text.slice(where.start, where.end).slice(0, 100))}`,
        );
    }
  }
  console.log(
    `${name}: ${answersWith} of ${count} with a finding (${percent(answersWith / count).trim()})`,
    Object.fromEntries(byReason),
  );
  for (const line of shown) console.log(line);
}

console.log("\nfalse alarms");
alarms(answers, "answers of cases/answers.yaml under every prompt");
let own = 0;
let ownWith = 0;
for (const { id, system, answers: fitting } of prompts) {
  const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello, who are you?"));
  for (const text of fitting) {
    own += 1;
    const found = findIn(layer, prompt, text);
    if (found.length > 0) ownWith += 1;
    for (const { where } of found.slice(0, 1))
      console.log(`    ${id}: ${JSON.stringify(text.slice(where!.start, where!.end))}`);
  }
}
console.log(`answers that fit their prompt: ${ownWith} of ${own} with a finding`);
for (const path of process.argv.slice(2)) {
  const rows = gunzipSync(readFileSync(path))
    .toString("utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { text: string; y?: number; label?: string });
  const benign = rows.filter(({ y, label }) => y === 0 || label === "benign").map(({ text }) => text);
  if (benign.length > 0)
    alarms(benign, `${basename(path)}: ${benign.length} benign texts under every prompt`);
}

/** Minimum of some runs, in microseconds. */
function cost(run: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 40; i++) {
    const begin = performance.now();
    run();
    least = Math.min(least, performance.now() - begin);
  }
  return least * 1000;
}

console.log("\ncost");
const prose = answers
  .filter((text) => /^[\x20-\x7e\n]+$/.test(text) && !text.includes("http"))
  .join("\n\n")
  .repeat(20);
const prompt = promptOf(leafOf("system", prompts[0]!.system), leafOf("user", "Hello"));
const whole = cost(() => openOn(layer, prompt).onChunk?.(deltaOf(prose, 0, true)));
console.log(`English prose and code, whole: ${((whole * 1024) / prose.length).toFixed(1)} µs for 1 KB`);

function stream(text: string, size: number, each: (held: Held, end: number) => void): void {
  const watch = openOn(layer, prompt);
  for (let start = 0; start < text.length; start += size) {
    const end = Math.min(text.length, start + size);
    each(watch.onChunk?.(deltaOf(text.slice(start, end), start, false)) as Held, end);
  }
}

for (const size of [5, 40]) {
  const streamed = cost(() => stream(prose, size, () => undefined));
  console.log(
    `in deltas of ${size} units: ${(streamed / Math.ceil(prose.length / size)).toFixed(2)} µs each`,
  );
}
for (const [name, text] of [
  ["prose", prose],
  ["all ordinary answers, a third of them with addresses", answers.join("\n\n")],
] as const) {
  let deltas = 0;
  let held = 0;
  let waiting = 0;
  stream(text, 5, ({ holdFrom }, end) => {
    deltas += 1;
    if (holdFrom === undefined || holdFrom >= end) return;
    held += 1;
    waiting += end - holdFrom;
  });
  console.log(
    `${name}: ${percent(held / deltas).trim()} of deltas of 5 units end in held text, ${(waiting / deltas).toFixed(2)} units on average`,
  );
}
const address = "See https://www.example.com/articles/2026/how-to-choose-a-bicycle-for-the-city?ref=mail. ";
const addressed = cost(() => openOn(layer, prompt).onChunk?.(deltaOf(address.repeat(1000), 0, true)));
console.log(`an address: ${(addressed / 1000).toFixed(1)} µs`);
for (const times of [1, 10, 50]) {
  const system = prompts
    .map((one) => one.system)
    .join("\n")
    .slice(0, 8192)
    .repeat(8)
    .slice(0, times * 1024);
  const of = promptOf(leafOf("system", system), leafOf("user", "Hello"));
  const first = cost(() => openOn(compile(), of).onChunk?.(deltaOf("Hello", 0, true)));
  const again = cost(() => openOn(layer, of).onChunk?.(deltaOf("Hello", 0, true)));
  console.log(
    `a prompt of ${times} KB: ${first.toFixed(0)} µs when it is new, ${again.toFixed(0)} µs after that`,
  );
}
