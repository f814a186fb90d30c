/** What the layer costs the gateway, the asking left out: `node layers/prompt-judge/layer.bench.ts`. */
import {
  IDLE_PORTS,
  type JudgeAnswer,
  type JudgeQuestion,
  type Leaf,
  type Prompt,
  type RequestContext,
  type SoFar,
} from "../../src/layer/index.ts";
import { config } from "./config.ts";
import { promptJudge } from "./layer.ts";

const ANSWER = JSON.stringify({
  choices: [{ index: 0, message: { role: "assistant", content: "safe" }, finish_reason: "stop" }],
});
const ask = async <T>({ read }: JudgeQuestion<T>): Promise<JudgeAnswer<T>> => ({
  kind: "answered",
  value: read(ANSWER)!,
});
const layer = promptJudge.compile(
  config.parse({ format: "llama-guard", model: "guard", endpoint: { url: "https://judge.example/" } }),
  {
    ...IDLE_PORTS,
    seat: "judge",
    judges: { open: () => ({ ask, close: async () => {} }) },
    artifacts: { text: () => "", bytes: () => new Uint8Array() },
  },
);

function promptOf(texts: readonly string[]): Prompt {
  const leaves = texts.map(
    (text, turn): Leaf => ({
      channel: `prompt:${turn}`,
      path: `/messages/${turn}/content`,
      role: "user",
      kind: "text",
      turn,
      text,
    }),
  );
  const rest = {
    model: "m",
    stream: false,
    newestTurn: texts.length - 1,
    unknown: [],
    mediaCount: 0,
  } as const;
  return { dialect: "openai", operation: "chat", leaves, ...rest };
}

const words = (units: number) => "some words of it ".repeat(Math.ceil(units / 17)).slice(0, units);
const SURE: SoFar = { act: "allow", findings: [] };
const DOUBT: SoFar = { act: "flag", findings: [{ reason: "prompt.classifier.harmful", score: 0.4 }] };
const CASES: readonly (readonly [name: string, prompt: Prompt, soFar: SoFar, runs: number])[] = [
  ["nobody doubts it", promptOf([words(1_000)]), SURE, 200_000],
  ["1 KB, one question", promptOf([words(1_000)]), DOUBT, 20_000],
  ["10 MB in one text, three questions", promptOf([words(10_000_000)]), DOUBT, 200],
  ["100,000 turns, three questions", promptOf(Array.from({ length: 100_000 }, () => "words")), DOUBT, 20],
];
const { signal } = new AbortController();

for (const [name, prompt, soFar, runs] of CASES) {
  const request = { soFar: () => soFar, signal } as unknown as RequestContext;
  let stallMs = 0;
  for (const counted of [false, true]) {
    const before = process.cpuUsage();
    for (let i = 0; i < runs; i++) {
      const startedMs = performance.now();
      const verdict = layer.open(request).onPrompt?.(prompt);
      stallMs = Math.max(counted ? stallMs : 0, performance.now() - startedMs);
      if (verdict instanceof Promise) await verdict;
    }
    const { user, system } = process.cpuUsage(before);
    if (counted)
      console.log(
        `${name}: ${((user + system) / runs).toFixed(1)} µs, at most ${stallMs.toFixed(2)} ms at a stretch`,
      );
  }
}
