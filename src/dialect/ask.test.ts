/** What a request asks for, read from its numbers in each dialect. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Operation, Prompt } from "../layer/index.ts";
import { anthropic } from "./anthropic/index.ts";
import type { Ask } from "./ask.ts";
import type { JsonObject } from "./dialect.ts";
import { openai } from "./openai/index.ts";

const ROWS: readonly [why: string, operation: Operation, body: JsonObject, ask: Ask][] = [
  ["nothing named", "chat", {}, {}],
  ["the older name", "chat", { max_tokens: 50 }, { outputTokensMax: 50 }],
  [
    "the newer name goes before",
    "chat",
    { max_tokens: 50, max_completion_tokens: 70 },
    { outputTokensMax: 70 },
  ],
  ["each choice may use it whole", "chat", { max_tokens: 50, n: 3 }, { outputTokensMax: 150, choices: 3 }],
  ["choices without a maximum", "chat", { n: 3 }, { choices: 3 }],
  ["not a count", "chat", { max_tokens: -1, n: 0.5 }, {}],
  ["not a number", "chat", { max_tokens: "50" }, {}],
  ["beyond all bounds", "chat", { max_tokens: 1e300, n: 1e300 }, { outputTokensMax: 1e9, choices: 1e9 }],
  ["the API's own maximum", "completions", { prompt: "a" }, { outputTokensMax: 16 }],
  [
    "candidates that are thrown away are written too",
    "completions",
    { prompt: "a", max_tokens: 10, n: 2, best_of: 5 },
    { outputTokensMax: 50, choices: 5 },
  ],
  [
    "a list of prompts",
    "completions",
    { prompt: ["a", "b"], max_tokens: 10 },
    { outputTokensMax: 20, choices: 2 },
  ],
  [
    "token ids are no text",
    "completions",
    { prompt: [1, 2, 3], max_tokens: 10 },
    { outputTokensMax: 10, inputTokenIds: 3 },
  ],
  [
    "lists of token ids",
    "completions",
    { prompt: [[1, 2], [3]], max_tokens: 10 },
    { outputTokensMax: 20, choices: 2, inputTokenIds: 3 },
  ],
  [
    "embeddings of token ids",
    "embeddings",
    {
      input: [
        [1, 2],
        [3, 4],
      ],
    },
    { inputTokenIds: 4 },
  ],
  ["responses", "responses", { max_output_tokens: 90 }, { outputTokensMax: 90 }],
  ["messages", "messages", { max_tokens: 1024 }, { outputTokensMax: 1024 }],
  ["counting writes nothing", "count_tokens", { max_tokens: 1024 }, {}],
];

for (const [why, operation, body, ask] of ROWS) {
  test(`${operation}: ${why}`, () => {
    const dialect = operation === "messages" || operation === "count_tokens" ? anthropic : openai;
    const prompt: Ask & Prompt = dialect.readPrompt({ operation, body, parameters: [] });
    const { outputTokensMax, choices, inputTokenIds } = prompt;
    const read = { outputTokensMax, choices, inputTokenIds };
    assert.deepEqual(JSON.parse(JSON.stringify(read)), ask);
  });
}
