/**
 * The official clients get the same objects through the gateway as straight from the model API: every call,
 * streamed and not, tools and errors included. The shipped policy is in force, all four layers.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";
import { type House, KEY, openHouse } from "../support/house.ts";

let house: House;
before(async () => {
  house = await openHouse();
});
after(() => house.close());

const question = [{ role: "user" as const, content: "What is the tallest tree, and where does it stand?" }];
const weather = {
  name: "get_weather",
  description: "Looks the weather up",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const chatTools = [{ type: "function" as const, function: weather }];

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of stream) out.push(item);
  return out;
}

/** What a rejected call looks like from outside. */
async function failure(call: Promise<unknown>) {
  try {
    await call;
  } catch (error) {
    const { name, status, code, type, message } = error as Record<string, unknown>;
    return { name, class: (error as Error).constructor.name, status, code, type, message };
  }
  return assert.fail("the call should have failed");
}

/** Runs one call straight and through the gateway and compares. */
function same<Client>(
  name: string,
  open: (url: string) => Client,
  call: (client: Client) => Promise<unknown>,
): void {
  it(name, async () => {
    const straight = await call(open(house.simulator.url));
    const through = await call(open(house.url));
    assert.deepEqual(through, straight);
    assert.ok(JSON.stringify(straight).length > 10, "the simulator answered something");
  });
}

async function script(model: string, fields: object): Promise<void> {
  const response = await fetch(`${house.simulator.url}/_script?model=${model}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
  assert.equal(response.status < 300, true, await response.text());
}

describe("openai", () => {
  const open = (url: string) => new OpenAI({ apiKey: KEY, baseURL: `${url}/v1`, maxRetries: 0 });
  type Client = ReturnType<typeof open>;
  const chat = (more: object) => async (client: Client) =>
    client.chat.completions.create({ model: "m", messages: question, ...more } as never);
  const streamed = (more: object) => async (client: Client) =>
    all(
      (await client.chat.completions.create({
        model: "m",
        messages: question,
        stream: true,
        ...more,
      } as never)) as never,
    );

  same("chat", open, chat({}));
  same("chat, n = 3 with logprobs", open, chat({ n: 3, logprobs: true, top_logprobs: 2 }));
  same("chat with tools", open, chat({ tools: chatTools }));
  same("chat with images and tool results", open, async (client) =>
    client.chat.completions.create({
      model: "m",
      messages: [
        { role: "system", content: "Be brief." },
        {
          role: "user",
          content: [
            { type: "text", text: "See" },
            { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
          ],
        },
        {
          role: "assistant",
          tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: '{"a":1}' } }],
        },
        { role: "tool", tool_call_id: "call_1", content: "42" },
      ],
    }),
  );
  same("chat streamed", open, streamed({}));
  same("chat streamed with usage", open, streamed({ stream_options: { include_usage: true } }));
  same("chat streamed, n = 2 with logprobs", open, streamed({ n: 2, logprobs: true }));
  same("chat streamed with tools", open, streamed({ tools: chatTools }));
  same("chat stream helper", open, async (client) =>
    client.chat.completions.stream({ model: "m", messages: question }).finalChatCompletion(),
  );
  same("completions", open, (client) => client.completions.create({ model: "m", prompt: ["once", "twice"] }));
  same("completions streamed", open, async (client) =>
    all(await client.completions.create({ model: "m", prompt: "once", stream: true })),
  );
  same("responses", open, (client) => client.responses.create({ model: "m", input: "Hello there" }));
  same("responses streamed", open, async (client) =>
    all(await client.responses.create({ model: "m", input: "Hello there", stream: true })),
  );
  same("responses stream helper, tools", open, async (client) =>
    client.responses
      .stream({ model: "m", input: "Hello there", tools: [{ type: "function", strict: false, ...weather }] })
      .finalResponse(),
  );
  same("embeddings", open, (client) => client.embeddings.create({ model: "m", input: ["one", "two"] }));
  same("moderations", open, (client) => client.moderations.create({ input: "hello" }));
  same("models", open, async (client) => all(client.models.list()));
  same("one model", open, async (client) => client.models.retrieve("m"));

  for (const status of [400, 401, 404, 429, 500, 529]) {
    it(`error ${status}: the same typed error`, async () => {
      await script(`err${status}`, { fault: { kind: "status", status } });
      const call = (url: string) =>
        failure(open(url).chat.completions.create({ model: `err${status}`, messages: question }));
      assert.deepEqual(await call(house.url), await call(house.simulator.url));
    });
  }

  it("thinking and refusals come through, streamed and not", async () => {
    await script("thinker", { text: "Done.", thinking: "Let me see." });
    await script("refuser", { refusal: "I would rather not." });
    for (const model of ["thinker", "refuser"]) {
      for (const stream of [false, true]) {
        const call = async (client: Client) => {
          const answer = await client.chat.completions.create({ model, messages: question, stream } as never);
          return stream ? all(answer as never) : answer;
        };
        assert.deepEqual(
          await call(open(house.url)),
          await call(open(house.simulator.url)),
          `${model} stream ${stream}`,
        );
      }
    }
  });

  it("an error event mid-stream is the SDK's own error", async () => {
    await script("mid", { fault: { kind: "error_event", afterEvents: 3 } });
    const call = async (url: string) =>
      failure(
        (async () =>
          all(
            (await open(url).chat.completions.create({
              model: "mid",
              messages: question,
              stream: true,
            })) as never,
          ))(),
      );
    assert.deepEqual(await call(house.url), await call(house.simulator.url));
  });
});

describe("anthropic", () => {
  const open = (url: string) => new Anthropic({ apiKey: KEY, baseURL: url, maxRetries: 0 });
  type Client = ReturnType<typeof open>;
  const base = { model: "m", max_tokens: 200, messages: question };
  const tools = [
    { name: weather.name, description: weather.description, input_schema: weather.parameters as never },
  ];

  same("messages", open, (client) => client.messages.create(base));
  same("messages with tools", open, (client) => client.messages.create({ ...base, tools }));
  same("messages streamed", open, async (client) =>
    all(await client.messages.create({ ...base, stream: true })),
  );
  same("messages streamed with tools", open, async (client) =>
    all(await client.messages.create({ ...base, tools, stream: true })),
  );
  same("stream helper", open, async (client) => client.messages.stream(base).finalMessage());
  same("beta messages", open, async (client) => client.beta.messages.create(base as never));
  same("tool results, images and documents", open, (client) =>
    client.messages.create({
      ...base,
      system: [{ type: "text", text: "Be brief." }],
      messages: [
        {
          role: "user",
          content: [
            { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
          ],
        },
        { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "f", input: { a: 1 } }] },
        {
          role: "user",
          content: [{ type: "tool_result", tool_use_id: "toolu_1", content: [{ type: "text", text: "42" }] }],
        },
        {
          role: "user",
          content: [
            { type: "document", source: { type: "text", media_type: "text/plain", data: "A page." } },
          ],
        },
      ],
    }),
  );
  same("count_tokens", open, (client) => client.messages.countTokens({ model: "m", messages: question }));
  same("models", open, async (client) => all(client.models.list()));
  same("one model", open, (client) => client.models.retrieve("m"));

  it("thinking and refusals come through", async () => {
    await script("thinker2", { text: "Done.", thinking: "Let me see." });
    await script("refuser2", { refusal: "No." });
    for (const model of ["thinker2", "refuser2"]) {
      const call = async (client: Client) => [
        await client.messages.create({ ...base, model }),
        await all(await client.messages.create({ ...base, model, stream: true })),
      ];
      assert.deepEqual(await call(open(house.url)), await call(open(house.simulator.url)));
    }
  });

  for (const status of [400, 401, 404, 413, 429, 500, 529]) {
    it(`error ${status}: the same typed error`, async () => {
      await script(`aerr${status}`, { fault: { kind: "status", status } });
      const call = (url: string) => failure(open(url).messages.create({ ...base, model: `aerr${status}` }));
      assert.deepEqual(await call(house.url), await call(house.simulator.url));
    });
  }

  it("an error event mid-stream is the SDK's own error", async () => {
    await script("amid", { fault: { kind: "error_event", afterEvents: 3 } });
    const call = async (url: string) =>
      failure((async () => all(await open(url).messages.create({ ...base, model: "amid", stream: true })))());
    assert.deepEqual(await call(house.url), await call(house.simulator.url));
  });
});

describe("ai", () => {
  const look = tool({
    description: "Looks the weather up",
    inputSchema: jsonSchema(weather.parameters as never),
  });
  const models = {
    "openai responses": (url: string) => createOpenAI({ apiKey: KEY, baseURL: `${url}/v1` })("m"),
    "openai chat": (url: string) => createOpenAI({ apiKey: KEY, baseURL: `${url}/v1` }).chat("m"),
    anthropic: (url: string) => createAnthropic({ apiKey: KEY, baseURL: `${url}/v1` })("m"),
  };
  for (const [name, open] of Object.entries(models)) {
    same(`${name}: generateText`, open, async (model) => {
      const { text, usage, finishReason } = await generateText({
        model,
        prompt: "Tell me of trees",
        maxRetries: 0,
      });
      return { text, usage, finishReason };
    });
    same(`${name}: generateText with a tool`, open, async (model) => {
      const { toolCalls, finishReason } = await generateText({
        model,
        prompt: "Weather in Bergen?",
        tools: { get_weather: look as never },
        maxRetries: 0,
      });
      return { calls: toolCalls.map(({ toolName, input }) => ({ toolName, input })), finishReason };
    });
    same(`${name}: streamText`, open, async (model) => {
      const result = streamText({ model, prompt: "Tell me of trees", maxRetries: 0 });
      const texts = await all(result.textStream);
      return { texts, usage: await result.usage, finishReason: await result.finishReason };
    });
  }
});
