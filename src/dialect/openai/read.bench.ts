/**
 * What reading costs beyond JSON.parse, per streamed event and per request. Run it alone:
 * `node src/dialect/openai/read.bench.ts`.
 */
import type { JsonObject } from "../dialect.ts";
import { openai } from "./index.ts";

const ROUNDS = 4;
const EVENTS = 200_000;

function chatChunk(i: number): JsonObject {
  return {
    id: "chatcmpl-AbC123",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: "gpt-6-sol",
    service_tier: "default",
    system_fingerprint: "fp_44709d6fcb",
    choices: [{ index: 0, delta: { content: ` word${i}` }, logprobs: null, finish_reason: null }],
    usage: null,
  };
}

function textDelta(i: number): JsonObject {
  return {
    type: "response.output_text.delta",
    item_id: "msg_1",
    output_index: 0,
    content_index: 0,
    delta: ` word${i}`,
    logprobs: [],
    sequence_number: i,
  };
}

function nanosEach(times: number, run: (i: number) => unknown): number {
  const start = process.hrtime.bigint();
  for (let i = 0; i < times; i++) run(i);
  return Number(process.hrtime.bigint() - start) / times;
}

const variants = [
  ["chat", "chat chunk", chatChunk],
  ["chat", "chat chunk, obfuscated", (i: number) => ({ ...chatChunk(i), obfuscation: `x${i}` })],
  ["responses", "responses text delta", textDelta],
] as const;

for (let round = 1; round <= ROUNDS; round++) {
  for (const [operation, name, event] of variants) {
    const list = Array.from({ length: 1_000 }, (_, i) => JSON.stringify(event(i)));
    const parse = nanosEach(EVENTS, (i) => JSON.parse(list[i % list.length]!));
    const stream = openai.openAnswerStream(operation);
    const read = nanosEach(EVENTS, (i) => stream.read({ event: "", data: list[i % list.length]! }));
    if (round === ROUNDS)
      console.log(
        `${name}: parse ${parse.toFixed(0)} ns, read ${read.toFixed(0)} ns, beyond ${(read - parse).toFixed(0)} ns`,
      );
  }
  const body: JsonObject = {
    model: "gpt-6-sol",
    messages: [
      { role: "system", content: "You are helpful. ".repeat(10) },
      { role: "user", content: "x".repeat(700) },
    ],
    stream: true,
    user: "u",
  };
  const prompt = nanosEach(EVENTS, () => openai.readPrompt({ operation: "chat", body, parameters: [] }));
  if (round === ROUNDS) console.log(`1 KB chat request: readPrompt ${prompt.toFixed(0)} ns`);
}
