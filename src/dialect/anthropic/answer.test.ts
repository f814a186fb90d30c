/** Whole answers: where their text lies, how it is replaced or withheld, and errors as the SDK types them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import Anthropic, * as sdk from "@anthropic-ai/sdk";
import fc from "fast-check";
import type { Json, JsonObject } from "../dialect.ts";
import { anthropic } from "./index.ts";

const MESSAGE: JsonObject = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-sonnet-5",
  content: [
    { type: "thinking", thinking: "Hmm", signature: "sig" },
    {
      type: "text",
      text: "It is sunny.",
      citations: [
        {
          type: "char_location",
          cited_text: "sun",
          document_index: 0,
          document_title: null,
          start_char_index: 0,
          end_char_index: 3,
          file_id: null,
        },
      ],
    },
    { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Paris", days: 9007199254740991 } },
    {
      type: "mcp_tool_result",
      tool_use_id: "m_1",
      is_error: false,
      content: [{ type: "text", text: "nested" }],
    },
  ],
  stop_reason: "tool_use",
  stop_sequence: null,
  usage: { input_tokens: 5, output_tokens: 6, service_tier: "standard" },
};

test("usage: all input counts, cached or not, and a later event that names a part takes none of it back", () => {
  const counts = {
    input_tokens: 5,
    cache_creation_input_tokens: 100,
    cache_read_input_tokens: 20,
    output_tokens: 1,
  };
  assert.deepEqual(anthropic.readAnswer("messages", { ...MESSAGE, usage: counts }).usage, {
    inputTokens: 125,
    outputTokens: 1,
  });
  const stream = anthropic.openAnswerStream("messages");
  const read = (data: JsonObject) =>
    stream.read({ event: String(data["type"]), data: JSON.stringify(data) }).usage;
  const start = read({ type: "message_start", message: { ...MESSAGE, content: [], usage: counts } });
  assert.deepEqual(start, { inputTokens: 125, outputTokens: 1 });
  const delta = { stop_reason: "end_turn", stop_sequence: null };
  const nothing = { cache_creation_input_tokens: null, cache_read_input_tokens: null };
  const last = read({
    type: "message_delta",
    delta,
    usage: { ...nothing, input_tokens: 5, output_tokens: 42 },
  });
  assert.deepEqual(last, { inputTokens: 125, outputTokens: 42 });
});

test("a message's text, channel by channel, and written back", () => {
  const reading = anthropic.readAnswer("messages", MESSAGE);
  assert.equal(reading.modelled, true);
  assert.deepEqual(reading.usage, { inputTokens: 5, outputTokens: 6 });
  assert.deepEqual(
    reading.segments.map(({ channel, kind, text }) => `${channel} ${kind} ${text}`),
    [
      "other:/id other msg_1",
      "other:/model other claude-sonnet-5",
      "thinking:0 thinking Hmm",
      "signature:0 thinking sig",
      "answer:1 answer It is sunny.",
      "other:/content/1/citations/0/cited_text other sun",
      "tool-id:2 tool toolu_1",
      "tool-name:2 tool weather",
      'tool:2 tool {"city":"Paris","days":9007199254740991}',
      "other:/content/3/tool_use_id other m_1",
      "other:/content/3/content/0/text other nested",
    ],
  );
  const before = JSON.stringify(MESSAGE);
  const texts = reading.segments.map(({ text }) =>
    text.replace("sunny", "[gone]").replace("Paris", "[city]"),
  );
  const written = JSON.parse(reading.rewrite(texts));
  assert.equal(written.content[1].text, "It is [gone].");
  assert.deepEqual(written.content[2].input, { city: "[city]", days: 9007199254740991 });
  assert.equal(JSON.stringify(MESSAGE), before, "the body that was read is left as it was");
  texts[8] = "no JSON any more";
  assert.deepEqual(JSON.parse(reading.rewrite(texts)).content[2].input, { redacted: "no JSON any more" });
});

test("withheld content leaves ids and counts", () => {
  const withheld = JSON.parse(anthropic.readAnswer("messages", MESSAGE).withheld()!);
  assert.deepEqual(withheld, {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "claude-sonnet-5",
    content: [],
    stop_reason: "refusal",
    stop_sequence: null,
    stop_details: { type: "refusal", category: null, explanation: null },
    usage: { input_tokens: 5, output_tokens: 6 },
  });
  assert.equal(anthropic.readAnswer("messages", { type: "error" }).withheld(), undefined);
  assert.equal(anthropic.readAnswer("messages", "x").withheld(), undefined);
  assert.equal(anthropic.readAnswer("count_tokens", { input_tokens: 1 }).withheld(), undefined);
});

test("token counts, models and errors are modelled", () => {
  const count = anthropic.readAnswer("count_tokens", { input_tokens: 9 });
  assert.deepEqual([count.segments, count.modelled, count.usage], [[], true, { inputTokens: 9 }]);
  const model = { type: "model", id: "m", display_name: "M", created_at: "2026-01-01T00:00:00Z" };
  const models = anthropic.readAnswer("models", {
    data: [model],
    has_more: false,
    first_id: "m",
    last_id: "m",
  });
  assert.equal(models.modelled, true);
  assert.equal(models.segments.length, 5);
  assert.equal(anthropic.readAnswer("models", model).modelled, true);
  for (const operation of ["messages", "count_tokens", "models"] as const) {
    const error = { type: "error", error: { type: "not_found_error", message: "No." }, request_id: "req_1" };
    assert.equal(anthropic.readAnswer(operation, error).modelled, true);
  }
});

test("what is not modelled is covered whole, and goes whole", () => {
  const rows: readonly (readonly [body: Json, text: string, rewritten: Json])[] = [
    ["just text", "just text", null],
    [["a", { b: "c" }], "a\nb\nc", null],
    [
      { type: "message", content: [], mood: { is: "blue" } },
      "mood\nis\nblue",
      { type: "message", content: [] },
    ],
    [
      { type: "message", content: [{ type: "hologram", x: "y" }] },
      "type\nhologram\nx\ny",
      { type: "message", content: [{ type: "text", text: "" }] },
    ],
    [
      { type: "message", content: [{ type: "text", text: 5, __proto: "p" }] },
      "__proto\np",
      { type: "message", content: [{ type: "text", text: 5 }] },
    ],
    [JSON.parse('{"type":"message","__proto__":{"a":"b"}}') as Json, "__proto__\na\nb", { type: "message" }],
    [{ data: [{ type: "message" }] }, "data\ntype\nmessage", null],
  ];
  for (const [body, text, rewritten] of rows) {
    const before = JSON.stringify(body);
    const reading = anthropic.readAnswer("messages", body);
    assert.equal(reading.modelled, false);
    assert.equal(reading.segments[0]?.text, text);
    assert.deepEqual(JSON.parse(reading.rewrite(["gone"])), rewritten);
    assert.equal(JSON.stringify(body), before);
  }
});

const NAMES = [
  "type",
  "content",
  "text",
  "thinking",
  "input",
  "name",
  "id",
  "citations",
  "usage",
  "delta",
  "index",
  "message",
  "error",
  "source",
  "data",
  "title",
  "content_block",
  "citation",
  "tool_use_id",
];
const TYPES = [
  "message",
  "text",
  "thinking",
  "tool_use",
  "char_location",
  "web_search_tool_result",
  "web_search_result",
  "error",
  "text_delta",
  "citations_delta",
  "content_block_delta",
  "content_block_start",
  "message_start",
  "message_delta",
  "base64",
  "model",
  "odd",
];

test("no text and no unmodelled name of any answer or event survives a rewrite of all segments", (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const name = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...NAMES) },
    { weight: 1, arbitrary: fc.constant("§name") },
  );
  const { value } = fc.letrec<{ value: Json; object: JsonObject }>((tie) => ({
    object: fc
      .tuple(fc.constantFrom(...TYPES), fc.dictionary(name, tie("value"), { maxKeys: 6 }))
      .map(([type, members]) => ({ index: 0, ...members, type })),
    value: fc.oneof(
      { depthSize: "small", maxDepth: 6 },
      fc.constantFrom<Json>("§text", 0, true, null),
      tie("object"),
      fc.array(tie("value"), { maxLength: 3 }),
    ),
  }));
  fc.assert(
    fc.property(
      value,
      fc.constantFrom("messages" as const, "count_tokens" as const, "models" as const),
      (body, operation) => {
        const before = JSON.stringify(body);
        const type = body !== null && typeof body === "object" && !Array.isArray(body) ? body["type"] : "";
        const event = { event: typeof type === "string" ? type : "", data: before };
        for (const reading of [
          anthropic.readAnswer(operation, body),
          anthropic.openAnswerStream("messages").read(event),
        ]) {
          const texts = reading.segments.map(() => "");
          assert.ok(!reading.rewrite(texts).includes("§"), "something survived");
          const same = reading.rewrite(reading.segments.map(({ text }) => text));
          assert.deepEqual(JSON.parse(same), JSON.parse(before));
          assert.equal(
            new Set(reading.segments.map(({ channel }) => channel)).size,
            texts.length,
            "channels are unique",
          );
        }
        assert.equal(JSON.stringify(body), before);
      },
    ),
    { seed, numRuns: 2_000 },
  );
});

test("errors become the official SDK's typed errors", async () => {
  const rows: readonly (readonly [
    status: number,
    type: string,
    error: abstract new (...args: never) => Error,
  ])[] = [
    [400, "invalid_request_error", sdk.BadRequestError],
    [401, "authentication_error", sdk.AuthenticationError],
    [403, "permission_error", sdk.PermissionDeniedError],
    [404, "not_found_error", sdk.NotFoundError],
    [408, "timeout_error", sdk.APIError],
    [413, "request_too_large", sdk.APIError],
    [415, "invalid_request_error", sdk.APIError],
    [429, "rate_limit_error", sdk.RateLimitError],
    [500, "api_error", sdk.InternalServerError],
    [502, "api_error", sdk.InternalServerError],
    [503, "overloaded_error", sdk.InternalServerError],
    [504, "timeout_error", sdk.InternalServerError],
    [529, "overloaded_error", sdk.InternalServerError],
  ];
  const server = createServer((request, response) => {
    const status = Number(request.headers["x-status"]);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(anthropic.errorBody({ code: "internal", status, message: "Why.", requestId: "req_7" }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = new Anthropic({ apiKey: "k", baseURL: `http://127.0.0.1:${port}`, maxRetries: 0 });
  try {
    for (const [status, type, expected] of rows) {
      await assert.rejects(
        client.models.list(undefined, { headers: { "x-status": `${status}` } }),
        (error) => {
          assert.ok(error instanceof expected, `${status}`);
          assert.ok(error instanceof sdk.APIError);
          assert.deepEqual([error.status, error.type], [status, type]);
          assert.deepEqual(error.error, {
            type: "error",
            error: { type, message: "Why." },
            request_id: "req_7",
          });
          return true;
        },
      );
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
