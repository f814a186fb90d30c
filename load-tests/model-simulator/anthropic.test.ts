/**
 * The official Anthropic client straight against the simulator: messages whole and streamed, its stream
 * helper, token counts, models and typed errors.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import Anthropic, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  OverloadedError,
  PermissionDeniedError,
  RateLimitError,
} from "@anthropic-ai/sdk";
import { type Script, type Simulator, scriptHeader, startSimulator } from "./simulator.ts";

let simulator: Simulator;
let client: Anthropic;

before(async () => {
  simulator = await startSimulator();
  client = new Anthropic({ apiKey: "any", baseURL: simulator.url, maxRetries: 0 });
});
after(() => simulator.close());

const base = {
  model: "claude-haiku-4-5",
  max_tokens: 500,
  messages: [{ role: "user" as const, content: "Tell me about harbours." }],
};
const tools = [
  {
    name: "weather",
    input_schema: { type: "object" as const, properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const scripted = (script: Script) => ({ headers: scriptHeader(script) });

describe("messages", () => {
  const cases: readonly (readonly [string, object, Script, string])[] = [
    ["plain", {}, {}, "end_turn"],
    ["tools", { tools }, {}, "tool_use"],
    ["thinking", { thinking: { type: "enabled", budget_tokens: 1024 } }, {}, "end_turn"],
    [
      "thinking, text and two calls",
      {},
      {
        thinking: "Hm.",
        text: "Calling.",
        toolCalls: [
          { name: "a", arguments: { x: [1, "é"] } },
          { name: "b", arguments: {} },
        ],
      },
      "tool_use",
    ],
    ["citations", {}, { text: "As it says.", citations: ["it says", "so"] }, "end_turn"],
    ["refusal", {}, { refusal: "I would rather not." }, "refusal"],
    ["refusal after some text", {}, { text: "Well, ", refusal: "no." }, "refusal"],
    ["cut at the limit", { max_tokens: 5 }, {}, "max_tokens"],
    ["a scripted stop", {}, { text: "x", finishReason: "pause_turn" }, "pause_turn"],
  ];
  for (const [name, more, script, stop] of cases) {
    it(`${name}: the stream helper adds up to the whole answer`, async () => {
      const { _request_id, ...whole } = await client.messages.create({ ...base, ...more }, scripted(script));
      assert.match(_request_id ?? "", /^req_/);
      const stream = client.messages.stream({ ...base, ...more }, scripted(script));
      const told = await stream.finalMessage();
      // The helper adds a field of its own, and hands out tool inputs as getters.
      const { parsed_output: _, ...plain } = JSON.parse(JSON.stringify(told)) as Record<string, unknown>;
      assert.deepEqual(plain, whole);
      assert.equal(whole.stop_reason, stop);
    });
  }

  it("sends every kind of event and delta", async () => {
    const script: Script = {
      thinking: "Hm.",
      text: "Well.",
      citations: ["x"],
      toolCalls: [{ name: "f", arguments: { a: 1 } }],
    };
    const response = await fetch(`${simulator.url}/v1/messages`, {
      method: "POST",
      headers: { "anthropic-version": "2023-06-01", ...scriptHeader(script) },
      body: JSON.stringify({ ...base, stream: true }),
    });
    const text = await response.text();
    for (const kind of [
      "message_start",
      "ping",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]) {
      assert.ok(text.includes(`event: ${kind}\ndata: {"type":`), kind);
    }
    for (const kind of ["thinking", "signature", "text", "citations", "input_json"]) {
      assert.ok(text.includes(`"type":"${kind}_delta"`), kind);
    }
    assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
    assert.ok(response.headers.get("anthropic-organization-id"));
  });

  it("after a tool's result it answers with text", async () => {
    const asked = await client.messages.create({ ...base, tools });
    const call = asked.content.find((block) => block.type === "tool_use");
    assert.equal(typeof (call?.input as { city: unknown } | undefined)?.city, "string");
    const done = await client.messages.create({
      ...base,
      tools,
      messages: [
        ...base.messages,
        { role: "assistant", content: asked.content as Anthropic.ContentBlockParam[] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: call?.id ?? "", content: "rain" }] },
      ],
    });
    assert.equal(done.stop_reason, "end_turn");
  });

  it("count_tokens agrees with the usage of the message", async () => {
    const { max_tokens: _, ...rest } = base;
    const counted = await client.messages.countTokens({ ...rest, system: "Be brief.", tools });
    const { usage } = await client.messages.create({ ...base, system: "Be brief.", tools });
    assert.equal(counted.input_tokens, usage.input_tokens);
  });

  it("models in Anthropic's shape", async () => {
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.ok(ids.includes("claude-haiku-4-5"));
    assert.equal((await client.models.retrieve("claude-haiku-4-5")).type, "model");
  });
});

describe("errors", () => {
  const classes = [
    [400, BadRequestError],
    [401, AuthenticationError],
    [403, PermissionDeniedError],
    [404, NotFoundError],
    [429, RateLimitError],
    [500, InternalServerError],
    [529, OverloadedError],
  ] as const;
  for (const [status, Typed] of classes) {
    it(`${status} is a ${Typed.name}`, async () => {
      const script = scripted({ fault: { kind: "status", status, retryAfter: 1 } });
      await assert.rejects(client.messages.create(base, script), (error) => {
        assert.ok(error instanceof Typed && error instanceof APIError);
        assert.match(error.requestID ?? "", /^req_/);
        assert.match(error.type ?? "", /_error$/);
        return true;
      });
    });
  }

  it("an error event in mid-stream is thrown", async () => {
    const script = scripted({ fault: { kind: "error_event", afterEvents: 4, status: 529 } });
    const stream = client.messages.stream(base, script);
    await assert.rejects(stream.finalMessage(), (error) => {
      return error instanceof APIError && error.type === "overloaded_error";
    });
  });

  it("a body that will not do is refused", async () => {
    await assert.rejects(client.messages.create({ ...base, messages: [] }), BadRequestError);
    await assert.rejects(
      client.messages.create({ ...base, max_tokens: undefined as never }),
      /max_tokens: Field required/,
    );
  });
});
