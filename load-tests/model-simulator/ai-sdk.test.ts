/**
 * The Vercel AI SDK straight against the simulator, over all three of its wire formats: its schemas are
 * stricter than the official clients', so they notice a missing field.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import {
  APICallError,
  generateText,
  jsonSchema,
  type LanguageModel,
  Output,
  streamText,
  type ToolSet,
} from "ai";
import { type Script, type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;

// Its hints about unknown model names say nothing here.
globalThis.AI_SDK_LOG_WARNINGS = false;

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());

const schema = {
  type: "object" as const,
  properties: { city: { type: "string" as const } },
  required: ["city"],
  additionalProperties: false,
};
const tools: ToolSet = { weather: { description: "Weather", inputSchema: jsonSchema(schema) } };

const models: Readonly<Record<string, (name: string) => LanguageModel>> = {
  "openai responses": (name) => createOpenAI({ apiKey: "any", baseURL: `${simulator.url}/v1` })(name),
  "openai chat": (name) => createOpenAI({ apiKey: "any", baseURL: `${simulator.url}/v1` }).chat(name),
  anthropic: (name) => createAnthropic({ apiKey: "any", baseURL: `${simulator.url}/v1` })(name),
};

for (const [name, open] of Object.entries(models)) {
  describe(name, () => {
    const model = (script: Script = {}): LanguageModel => {
      simulator.setScript(script, "m");
      return open("m");
    };

    it("text: streamed equals whole", async () => {
      const prompt = "Tell me about harbours.";
      const whole = await generateText({ model: model(), prompt, maxRetries: 0 });
      assert.equal(whole.text.split(" ").length, 60);
      assert.equal(whole.finishReason, "stop");
      const stream = streamText({ model: model(), prompt, maxRetries: 0 });
      let text = "";
      for await (const piece of stream.textStream) text += piece;
      assert.equal(text, whole.text);
      assert.deepEqual(await stream.usage, whole.usage);
    });

    it("tool calls, whole and streamed", async () => {
      const whole = await generateText({ model: model(), prompt: "x", tools, maxRetries: 0 });
      for (const { toolName, input } of whole.toolCalls) {
        assert.equal(toolName, "weather");
        assert.equal(typeof (input as { city: unknown }).city, "string");
      }
      assert.equal(whole.toolCalls.length, 1);
      assert.equal(whole.finishReason, "tool-calls");
      const stream = streamText({ model: model(), prompt: "x", tools, maxRetries: 0 });
      const [call] = await stream.toolCalls;
      assert.equal(call?.toolName, "weather");
      assert.equal(typeof (call?.input as { city: unknown } | undefined)?.city, "string");
    });

    it("structured output fits its schema", async () => {
      const output = Output.object({ schema: jsonSchema<{ city: string }>(schema) });
      const result = await generateText({ model: model(), prompt: "x", output, maxRetries: 0 });
      assert.equal(typeof result.output.city, "string");
    });

    it("an error status is an APICallError that says whether to retry", async () => {
      const call = (status: number) =>
        generateText({ model: model({ fault: { kind: "status", status } }), prompt: "x", maxRetries: 0 });
      for (const [status, retryable] of [
        [429, true],
        [401, false],
      ] as const) {
        await assert.rejects(call(status), (error) => {
          return (
            APICallError.isInstance(error) && error.statusCode === status && error.isRetryable === retryable
          );
        });
      }
    });
  });
}
