/**
 * The official OpenAI client straight against the simulator: every call, whole and streamed, its stream
 * helpers, its typed errors. What a streamed answer adds up to must equal the answer that is not streamed.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import OpenAI, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from "openai";
import type { ChatCompletionMessageToolCall, ChatCompletionTool } from "openai/resources/chat/completions";
import { type Script, type Simulator, scriptHeader, startSimulator } from "./simulator.ts";

let simulator: Simulator;
let client: OpenAI;

before(async () => {
  simulator = await startSimulator();
  client = new OpenAI({ apiKey: "any", baseURL: `${simulator.url}/v1`, maxRetries: 0 });
});
after(() => simulator.close());

const messages = [{ role: "user" as const, content: "Tell me about harbours." }];
const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" }, unit: { enum: ["C", "F"] } },
  required: ["city", "unit"],
};
const tools: ChatCompletionTool[] = [{ type: "function", function: { name: "weather", parameters } }];
const scripted = (script: Script) => ({ headers: scriptHeader(script) });

const callsOf = (calls: readonly ChatCompletionMessageToolCall[] = []) =>
  calls.map((one) => one.type === "function" && [one.id, one.function.name, one.function.arguments]);

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of stream) list.push(one);
  return list;
}

describe("chat completions", () => {
  const cases: readonly (readonly [string, object, Script?])[] = [
    ["plain", {}],
    ["tools", { tools }],
    [
      "several tool calls",
      { tools },
      {
        toolCalls: [
          { name: "weather", arguments: { city: "Bergen" } },
          { name: "weather", arguments: "{}" },
        ],
      },
    ],
    ["three choices", { n: 3 }],
    ["logprobs", { logprobs: true, top_logprobs: 3 }],
    ["refusal", { logprobs: true }, { refusal: "I cannot help with that." }],
    ["scripted chunks", {}, { chunks: ["he", "llo ", "\u{1f600}", "\n\nworld"] }],
    ["a scripted choice each", {}, { choices: ["first answer", "second"], chunkChars: 2 }],
    ["cut at the limit", { max_completion_tokens: 5 }],
    [
      "structured",
      { response_format: { type: "json_schema", json_schema: { name: "w", schema: parameters } } },
    ],
  ];
  for (const [name, more, script = {}] of cases) {
    it(`${name}: the stream helper adds up to the whole answer`, async () => {
      const body = { model: "gpt-4o-mini", messages, ...more };
      const whole = await client.chat.completions.create(body, scripted(script));
      const stream = client.chat.completions.stream(
        { ...body, stream_options: { include_usage: true } },
        scripted(script),
      );
      const told = await stream.finalChatCompletion();
      assert.deepEqual(told.usage, whole.usage);
      assert.deepEqual([told.id, told.created, told.model], [whole.id, whole.created, whole.model]);
      assert.equal(told.choices.length, whole.choices.length);
      for (const [i, choice] of told.choices.entries()) {
        const expected = whole.choices[i]!;
        assert.equal(choice.finish_reason, expected.finish_reason);
        assert.equal(choice.message.content, expected.message.content);
        assert.equal(choice.message.refusal, expected.message.refusal);
        assert.deepEqual(callsOf(choice.message.tool_calls), callsOf(expected.message.tool_calls));
        assert.deepEqual(choice.logprobs?.content ?? [], expected.logprobs?.content ?? []);
        assert.deepEqual(choice.logprobs?.refusal ?? [], expected.logprobs?.refusal ?? []);
      }
    });
  }

  it("answers of about sixty words end with stop; tools are called with arguments that fit", async () => {
    const plain = await client.chat.completions.create({ model: "m", messages });
    assert.equal(plain.choices[0]?.message.content?.split(" ").length, 60);
    assert.equal(plain.choices[0]?.finish_reason, "stop");
    const called = await client.chat.completions.create({ model: "m", messages, tools });
    assert.equal(called.choices[0]?.finish_reason, "tool_calls");
    const call = called.choices[0]?.message.tool_calls?.[0];
    assert.ok(call?.type === "function");
    const given = JSON.parse(call.function.arguments) as Record<string, unknown>;
    assert.deepEqual(Object.keys(given), ["city", "unit"]);
    const done = await client.chat.completions.create({
      model: "m",
      messages: [...messages, { role: "tool", tool_call_id: call.id, content: "rain" }],
      tools,
    });
    assert.equal(done.choices[0]?.finish_reason, "stop");
  });

  it("logprobs list true bytes and as many alternatives as asked", async () => {
    const { choices } = await client.chat.completions.create(
      { model: "m", messages, logprobs: true, top_logprobs: 3 },
      scripted({ chunks: ["é", " x"] }),
    );
    const content = choices[0]?.logprobs?.content ?? [];
    assert.deepEqual(
      content.map(({ token, bytes }) => [token, bytes]),
      [
        ["é", [195, 169]],
        [" x", [32, 120]],
      ],
    );
    assert.ok(content.every(({ top_logprobs }) => top_logprobs.length === 3));
  });

  it("usage comes in a last chunk without choices only when asked for", async () => {
    const body = { model: "m", messages, stream: true as const };
    const without = await all(await client.chat.completions.create(body));
    assert.ok(without.every((chunk) => !("usage" in chunk)));
    const asked = { ...body, stream_options: { include_usage: true } };
    const chunks = await all(
      await client.chat.completions.create(asked, scripted({ usage: { inputTokens: 7 } })),
    );
    assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
    assert.deepEqual(chunks.at(-1)?.choices, []);
    assert.equal(chunks.at(-1)?.usage?.prompt_tokens, 7);
  });

  it("choices are interleaved", async () => {
    const script = scripted({ choices: ["a b c", "d e f"] });
    const chunks = await all(
      await client.chat.completions.create({ model: "m", messages, stream: true }, script),
    );
    const order = chunks.map((chunk) => chunk.choices[0]?.index);
    assert.deepEqual(order.slice(0, 6), [0, 1, 0, 1, 0, 1]);
  });

  it("reasoning content and audio transcripts on demand", async () => {
    const thinker = scripted({ thinking: "Let me see.", text: "Done." });
    const { choices } = await client.chat.completions.create({ model: "m", messages }, thinker);
    assert.equal(
      (choices[0]?.message as { reasoning_content?: string } | undefined)?.reasoning_content,
      "Let me see.",
    );
    const audio = { model: "m", messages, modalities: ["text" as const, "audio" as const] };
    const spoken = await client.chat.completions.create(audio, scripted({ text: "Ahoy there." }));
    assert.equal(spoken.choices[0]?.message.audio?.transcript, "Ahoy there.");
    assert.equal(spoken.choices[0]?.message.content, null);
    const chunks = await all(
      await client.chat.completions.create({ ...audio, stream: true }, scripted({ text: "Ahoy there." })),
    );
    const deltas = chunks.map((chunk) => chunk.choices[0]?.delta.audio);
    assert.equal(deltas.map((one) => one?.transcript ?? "").join(""), "Ahoy there.");
    assert.equal(deltas.map((one) => one?.data ?? "").join(""), spoken.choices[0]?.message.audio?.data);
  });
});

describe("completions", () => {
  const prompts = { text: "Once", texts: ["Once", "Twice"], tokens: [1, 2, 3], lists: [[1], [2, 3]] };
  for (const [name, prompt] of Object.entries(prompts)) {
    it(`prompt as ${name}: streamed equals whole`, async () => {
      const body = { model: "gpt-3.5-turbo-instruct", prompt, n: 2, logprobs: 2 };
      const whole = await client.completions.create(body);
      assert.equal(whole.choices.length, (name === "text" || name === "tokens" ? 1 : 2) * 2);
      const chunks = await all(await client.completions.create({ ...body, stream: true }));
      for (const { index, text, finish_reason, logprobs } of whole.choices) {
        const own = chunks.flatMap((chunk) => chunk.choices.filter((choice) => choice.index === index));
        assert.equal(own.map((choice) => choice.text).join(""), text);
        assert.equal(own.at(-1)?.finish_reason, finish_reason);
        assert.deepEqual(
          own.flatMap((choice) => choice.logprobs?.text_offset ?? []),
          logprobs?.text_offset,
        );
        assert.equal(logprobs?.tokens?.join(""), text);
      }
    });
  }
});

describe("responses", () => {
  const responseTools = [{ type: "function" as const, name: "weather", parameters, strict: false }];
  const cases: readonly (readonly [string, object, Script?])[] = [
    ["plain", {}],
    [
      "items",
      { input: [{ role: "user", content: [{ type: "input_text", text: "hi" }] }], instructions: "Be brief." },
    ],
    ["tools", { tools: responseTools }],
    ["thinking", { reasoning: { effort: "low", summary: "auto" } }],
    [
      "thinking, text and two calls",
      {},
      {
        thinking: "Hm.",
        text: "Calling.",
        toolCalls: [
          { name: "a", arguments: { x: 1 } },
          { name: "b", arguments: "{}" },
        ],
      },
    ],
    ["logprobs", { include: ["message.output_text.logprobs"], top_logprobs: 2 }],
    ["refusal", {}, { refusal: "I would rather not." }],
    ["incomplete", { max_output_tokens: 4 }],
    ["stopped by a filter", {}, { text: "Half", finishReason: "content_filter" }],
    ["failed", {}, { finishReason: "failed" }],
  ];
  for (const [name, more, script = {}] of cases) {
    it(`${name}: the stream helper adds up to the whole answer`, async () => {
      const body = { model: "gpt-4o-mini", input: "Tell me about harbours.", ...more };
      const {
        _request_id: _,
        output_text: __,
        ...whole
      } = await client.responses.create(body, scripted(script));
      const stream = client.responses.stream(body, scripted(script));
      const events = await all(stream);
      assert.deepEqual(
        events.map((event) => event.sequence_number),
        events.map((_, i) => i),
      );
      const raw = await all(await client.responses.create({ ...body, stream: true }, scripted(script)));
      const last = raw.at(-1);
      assert.ok(last !== undefined && "response" in last && typeof last.response === "object");
      const { output_text: ___, ...told } = last.response as OpenAI.Responses.Response;
      assert.deepEqual(told, whole);
      const final = await stream.finalResponse();
      assert.deepEqual(
        [final.id, final.status, final.usage, final.output.length],
        [whole.id, whole.status, whole.usage, whole.output.length],
      );
    });
  }

  it("sends every usual kind of event", async () => {
    const script = scripted({
      thinking: "Hm.",
      text: "Well.",
      refusal: "No.",
      toolCalls: [{ name: "f", arguments: {} }],
    });
    const events = await all(await client.responses.create({ model: "m", input: "x", stream: true }, script));
    assert.deepEqual([...new Set(events.map((event) => event.type.replace("response.", "")))].sort(), [
      "completed",
      "content_part.added",
      "content_part.done",
      "created",
      "function_call_arguments.delta",
      "function_call_arguments.done",
      "in_progress",
      "output_item.added",
      "output_item.done",
      "output_text.delta",
      "output_text.done",
      "reasoning_summary_part.added",
      "reasoning_summary_part.done",
      "reasoning_summary_text.delta",
      "reasoning_summary_text.done",
      "refusal.delta",
      "refusal.done",
    ]);
  });
});

describe("embeddings, moderations, models", () => {
  it("the same vector in both encodings, for the same text in any batch", async () => {
    const model = "text-embedding-3-small";
    const floats = await client.embeddings.create({ model, input: ["a", "b"], encoding_format: "float" });
    const decoded = await client.embeddings.create({ model, input: "b" });
    assert.equal(floats.data.length, 2);
    assert.deepEqual([...decoded.data[0]!.embedding], floats.data[1]!.embedding);
    const short = await client.embeddings.create({ model, input: [[1, 2]], dimensions: 8 });
    assert.equal(short.data[0]?.embedding.length, 8);
  });

  it("moderations flag what an input names", async () => {
    const { results } = await client.moderations.create({ input: ["a calm sea", "violence at sea"] });
    assert.deepEqual(
      results.map(({ flagged }) => flagged),
      [false, true],
    );
    assert.equal(results[1]?.categories.violence, true);
    const parts = await client.moderations.create({ input: [{ type: "text", text: "calm" }] });
    assert.equal(parts.results.length, 1);
  });

  it("models are listed and retrieved", async () => {
    const models = await all(await client.models.list());
    assert.ok(models.length > 2);
    assert.deepEqual(await client.models.retrieve(models[0]!.id).then(({ id }) => id), models[0]!.id);
  });
});

describe("errors", () => {
  const classes = [
    [400, BadRequestError],
    [401, AuthenticationError],
    [404, NotFoundError],
    [429, RateLimitError],
    [500, InternalServerError],
  ] as const;
  for (const [status, Typed] of classes) {
    it(`${status} is a ${Typed.name}`, async () => {
      const script = scripted({ fault: { kind: "status", status, retryAfter: 3 } });
      await assert.rejects(client.chat.completions.create({ model: "m", messages }, script), (error) => {
        assert.ok(error instanceof Typed);
        assert.equal(error.headers.get("retry-after"), "3");
        assert.match(error.requestID ?? "", /^req_/);
        assert.ok(error.message.length > 5 && typeof error.type === "string");
        return true;
      });
    });
  }

  it("a body that will not do is refused with the field's name", async () => {
    await assert.rejects(client.chat.completions.create({ model: "m", messages: [] }), (error) => {
      return error instanceof BadRequestError && error.param === "messages";
    });
    await assert.rejects(client.get("/nothing"), NotFoundError);
  });

  it("an error event in mid-stream is thrown by the iterator", async () => {
    const script = scripted({ fault: { kind: "error_event", afterEvents: 3, status: 429 } });
    let seen = 0;
    const chat = await client.chat.completions.create({ model: "m", messages, stream: true }, script);
    const reading = (async () => {
      for await (const _ of chat) seen += 1;
    })();
    await assert.rejects(
      reading,
      (error) => error instanceof APIError && error.code === "rate_limit_exceeded",
    );
    assert.equal(seen, 3);
    const response = await client.responses.create({ model: "m", input: "x", stream: true }, script);
    await assert.rejects(all(response), APIError);
  });
});
