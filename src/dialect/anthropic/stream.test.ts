/** Streamed messages event by event, and what the official SDK makes of rewritten, stopped and failed ones. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { encodeSse } from "../../wire/sse.ts";
import type { AnswerStream, EventReading, Json, PublicProblem, SseEvent } from "../dialect.ts";
import { anthropic } from "./index.ts";

function event(data: { readonly type: string } & Record<string, Json>): SseEvent {
  return { event: data.type, data: JSON.stringify(data) };
}

function delta(index: number, body: Record<string, Json>): SseEvent {
  return event({ type: "content_block_delta", index, delta: body });
}

function open(): AnswerStream {
  return anthropic.openAnswerStream("messages");
}

/** "channel kind text" of each segment. */
function lines(reading: EventReading): string[] {
  return reading.segments.map(({ channel, kind, text }) => `${channel} ${kind} ${text}`);
}

const START = event({
  type: "message_start",
  message: {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "claude-sonnet-5",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 12, output_tokens: 1, service_tier: "standard" },
  },
});
const TRANSCRIPT: readonly SseEvent[] = [
  START,
  event({ type: "ping" }),
  event({
    type: "content_block_start",
    index: 0,
    content_block: { type: "thinking", thinking: "", signature: "" },
  }),
  delta(0, { type: "thinking_delta", thinking: "Let me " }),
  delta(0, { type: "thinking_delta", thinking: "see.", estimated_tokens: 3 }),
  delta(0, { type: "signature_delta", signature: "c2lnbmF0dXJl" }),
  event({ type: "content_block_stop", index: 0 }),
  event({ type: "content_block_start", index: 1, content_block: { type: "text", text: "It " } }),
  delta(1, { type: "text_delta", text: "is sunny " }),
  delta(1, { type: "text_delta", text: "in Paris." }),
  delta(1, {
    type: "citations_delta",
    citation: {
      type: "page_location",
      cited_text: "sunny",
      document_title: "Sky",
      document_index: 0,
      start_page_number: 1,
      end_page_number: 2,
    },
  }),
  event({ type: "content_block_stop", index: 1 }),
  event({
    type: "content_block_start",
    index: 2,
    content_block: { type: "tool_use", id: "toolu_1", name: "weather", input: {} },
  }),
  delta(2, { type: "input_json_delta", partial_json: "" }),
  delta(2, { type: "input_json_delta", partial_json: '{"city":' }),
  delta(2, { type: "input_json_delta", partial_json: '"Paris"}' }),
  event({ type: "content_block_stop", index: 2 }),
  event({
    type: "message_delta",
    delta: { stop_reason: "tool_use", stop_sequence: null },
    usage: { output_tokens: 42 },
  }),
  event({ type: "message_stop" }),
];

test("a transcript, event by event", () => {
  const stream = open();
  const readings = TRANSCRIPT.map((item) => stream.read(item));
  assert.deepEqual(readings.map(lines), [
    ["other:1/message/id other msg_1", "other:1/message/model other claude-sonnet-5"],
    [],
    [],
    ["thinking:0 thinking Let me "],
    ["thinking:0 thinking see."],
    ["signature:0 thinking c2lnbmF0dXJl"],
    [],
    ["answer:1 answer It "],
    ["answer:1 answer is sunny "],
    ["answer:1 answer in Paris."],
    [
      "other:citations:1:11/delta/citation/cited_text other sunny",
      "other:citations:1:11/delta/citation/document_title other Sky",
    ],
    [],
    ["tool-id:2 tool toolu_1", "tool-name:2 tool weather"],
    [],
    ['tool:2 tool {"city":'],
    ['tool:2 tool "Paris"}'],
    [],
    [],
    [],
  ]);
  assert.ok(readings.every(({ modelled }) => modelled));
  assert.deepEqual(readings.map(({ terminal }) => terminal).indexOf(true), readings.length - 1);
  assert.deepEqual(readings[6]!.closes, ["thinking:0", "signature:0"]);
  assert.deepEqual(readings[11]!.closes, ["answer:1"]);
  assert.deepEqual(readings[12]!.closes, ["tool-id:2", "tool-name:2"]);
  assert.deepEqual(readings[16]!.closes, ["tool:2"]);
  assert.deepEqual(readings[0]!.usage, { inputTokens: 12, outputTokens: 1 });
  assert.deepEqual(readings[17]!.usage, { inputTokens: 12, outputTokens: 42 });
  for (const [i, reading] of readings.entries()) {
    const texts = reading.segments.map(({ text }) => text);
    assert.deepEqual(JSON.parse(reading.rewrite(texts)), JSON.parse(TRANSCRIPT[i]!.data));
    assert.equal(new Set(reading.segments.map(({ channel }) => channel)).size, texts.length);
  }
});

test("texts are rewritten in place; only what clients append to is split", () => {
  const stream = open();
  const rewritten = TRANSCRIPT.map((item) => {
    const reading = stream.read(item);
    return JSON.parse(reading.rewrite(reading.segments.map((_, i) => `<${i}>`)));
  });
  assert.equal(rewritten[0].message.id, "<0>");
  assert.equal(rewritten[0].message.model, "<1>");
  assert.deepEqual(rewritten[4].delta, { type: "thinking_delta", thinking: "<0>", estimated_tokens: 3 });
  assert.deepEqual(rewritten[10].delta.citation.cited_text, "<0>");
  assert.deepEqual(rewritten[12].content_block, { type: "tool_use", id: "<0>", name: "<1>", input: {} });
  const again = open();
  const split = TRANSCRIPT.map((item) => again.read(item).splitBefore?.(0, "half"));
  assert.deepEqual(JSON.parse(split[8]!), {
    type: "content_block_delta",
    index: 1,
    delta: { type: "text_delta", text: "half" },
  });
  assert.deepEqual(JSON.parse(split[4]!), {
    type: "content_block_delta",
    index: 0,
    delta: { type: "thinking_delta", thinking: "half" },
  });
  assert.deepEqual([split[0], split[5], split[7], split[10], split[12]], Array(5).fill(undefined));
});

test("what is not modelled is covered, place by place, and dropped when any of it changes", () => {
  const rows: readonly (readonly [why: string, event: SseEvent, told: readonly string[]])[] = [
    [
      "event kind",
      event({ type: "message_aside", note: { a: "x", b: ["y"] } }),
      [
        "other:unmodelled:/note/a x",
        "other:unmodelled:/note/b/0 y",
        "other:alone:1 message_aside\ntype\nmessage_aside\nnote\na\nx\nb\ny",
      ],
    ],
    [
      "delta type",
      delta(0, { type: "smell_delta", smell: "rose" }),
      [
        "other:unmodelled:0/delta/smell rose",
        "other:alone:1 content_block_delta\ntype\ncontent_block_delta\nindex\ndelta\ntype\nsmell_delta\nsmell\nrose",
      ],
    ],
    ["not JSON", { event: "ping", data: "pong" }, ["other:unmodelled pong", "other:alone:1 ping\npong"]],
    [
      "not an object",
      { event: "ping", data: '["pong"]' },
      ["other:unmodelled:/0 pong", "other:alone:1 ping\npong"],
    ],
    ["name and type differ", { event: "ping", data: '{"type":"message_stop"}' }, ["other:event:1 ping"]],
    [
      "no index",
      event({ type: "content_block_delta", delta: { type: "text_delta", text: "x" } }),
      [
        "other:unmodelled:/delta/text x",
        "other:alone:1 content_block_delta\ntype\ncontent_block_delta\ndelta\ntype\ntext_delta\ntext\nx",
      ],
    ],
  ];
  for (const [why, odd, told] of rows) {
    const stream = open();
    const reading = stream.read(odd);
    assert.equal(reading.modelled, false, why);
    assert.equal(reading.terminal, false, why);
    assert.deepEqual(
      reading.segments.map(({ channel, text }) => `${channel} ${text}`),
      told,
      why,
    );
    assert.deepEqual(
      reading.closes.filter((channel) => channel.startsWith("other:unmodelled")),
      [],
      why,
    );
    const texts = reading.segments.map(({ text }) => text);
    assert.equal(reading.rewrite(texts), odd.data, why);
    for (let i = 0; i < texts.length; i++) assert.equal(reading.rewrite(texts.with(i, "changed")), "", why);
  }
});

const SECRET = "sk-fake-0123456789";

/** Channels that the readings' text went to, with all of it; "|" where a channel was closed in between. */
function runs(readings: readonly EventReading[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const { segments, closes } of readings) {
    for (const { channel, text } of segments) found.set(channel, `${found.get(channel) ?? ""}${text}`);
    for (const channel of closes) found.set(channel, `${found.get(channel) ?? ""}|`);
  }
  return found;
}

test("a secret cut anywhere over two events out of order is whole on one channel", () => {
  const text = (index: Json, part: string): SseEvent =>
    event({ type: "content_block_delta", index, delta: { type: "text_delta", text: part } });
  const blockStart = (index: number, part = ""): SseEvent =>
    event({ type: "content_block_start", index, content_block: { type: "text", text: part } });
  const blockStop = (index: number): SseEvent => event({ type: "content_block_stop", index });
  const over = [START, blockStart(0), text(0, "Hi."), blockStop(0)];
  type Row = readonly [
    channel: string,
    before: readonly SseEvent[],
    first: (part: string) => SseEvent,
    second?: (part: string) => SseEvent,
  ];
  const named = (name: string) => (part: string) => ({ ...text(0, part), event: name });
  const rows: readonly Row[] = [
    ["answer:0~2", over, (part) => text(0, part)],
    ["answer:0~2", over, (part) => blockStart(0, part), (part) => text(0, part)],
    ["answer:1~2", [START, blockStart(4)], (part) => text(1, part)],
    ["answer:0", [START, blockStart(0)], (part) => blockStart(0, part), (part) => text(0, part)],
    ["answer:0", [START, blockStart(0)], named("message_aside")],
    ["answer:0", [START, blockStart(0)], named("ping"), named("")],
    ["answer:0", [START, blockStart(0)], named("content_block_stop"), (part) => text(0, part)],
    ["answer:0", [START, blockStart(0)], (part) => text(0, part), (part) => text("0", part)],
    ["other:unmodelled:0/delta/smell", over, (smell) => delta(0, { type: "smell_delta", smell })],
    ["other:unmodelled:/delta/text", over, (part) => text(null, part)],
    [
      "other:unmodelled:/note/words",
      over,
      (words) => event({ type: "message_aside", note: { words, id: "n" } }),
    ],
    ["other:unmodelled", over, (data) => ({ event: "ping", data })],
    ["other:unmodelled", over, (data) => ({ event: "", data: JSON.stringify(data) })],
  ];
  for (const [channel, before, first, second = first] of rows) {
    for (let cut = 1; cut < SECRET.length; cut++) {
      const stream = open();
      const events = [
        ...before,
        first(SECRET.slice(0, cut)),
        event({ type: "ping" }),
        delta(9, { type: "smell_delta", smell: "of another block" }),
        second(SECRET.slice(cut)),
      ];
      const found = runs(events.map((item) => stream.read(item))).get(channel);
      assert.equal(found?.replace("Hi.", ""), SECRET, `${channel} cut at ${cut}`);
    }
  }
});

test("a block that speaks on after its stop is closed by its next stop", () => {
  const stream = open();
  const stop = event({ type: "content_block_stop", index: 0 });
  const late = [0, 1, 2].map(() => {
    const reading = stream.read(delta(0, { type: "text_delta", text: "x" }));
    return [reading.segments[0]!.channel, ...reading.closes, ...stream.read(stop).closes];
  });
  assert.deepEqual(late, [
    ["answer:0", "answer:0"],
    ["answer:0~2", "answer:0~2"],
    ["answer:0~3", "answer:0~3"],
  ]);
});

test("what a second start of a block says once is on channels of its own", () => {
  const stream = open();
  const tool = event({
    type: "content_block_start",
    index: 0,
    content_block: { type: "tool_use", id: "toolu_1", name: "weather", input: {} },
  });
  const told = [tool, tool, event({ type: "content_block_stop", index: 0 }), tool]
    .flatMap((item) => stream.read(item).segments)
    .map(({ channel }) => channel);
  assert.equal(told.length, 6);
  assert.equal(new Set(told).size, 6, String(told));
});

test("surprises inside events that are known are covered, and cut out when redacted", () => {
  const stream = open();
  stream.read(START);
  const extra = stream.read(delta(0, { type: "text_delta", text: "hi", aside: { note: "psst" } }));
  assert.equal(extra.modelled, false);
  assert.deepEqual(lines(extra), [
    "answer:0 answer hi",
    "other:2/delta/aside other aside\nnote\npsst",
    "other:unmodelled:0/delta/aside/note other psst",
  ]);
  assert.equal(JSON.parse(extra.rewrite(["hi", "aside\nnote\npsst", "p"])).delta.aside, undefined);
  assert.deepEqual(JSON.parse(extra.rewrite(["hi", ""])).delta, { type: "text_delta", text: "hi" });
  assert.deepEqual(JSON.parse(extra.rewrite(["", "aside\nnote\npsst"])).delta, {
    type: "text_delta",
    text: "",
    aside: { note: "psst" },
  });

  const block = stream.read(
    event({ type: "content_block_start", index: 1, content_block: { type: "hologram", beam: "blue" } }),
  );
  assert.deepEqual(lines(block), [
    "other:3/content_block other type\nhologram\nbeam\nblue",
    "other:unmodelled:1/content_block/beam other blue",
  ]);
  assert.deepEqual(JSON.parse(block.rewrite([""])).content_block, { type: "text", text: "" });

  const results = stream.read(
    event({
      type: "content_block_start",
      index: 2,
      content_block: {
        type: "web_search_tool_result",
        tool_use_id: "srvtoolu_1",
        content: [
          { type: "web_search_result", title: "T", url: "u", encrypted_content: "e", page_age: null },
        ],
      },
    }),
  );
  assert.equal(results.modelled, true);
  assert.deepEqual(
    results.segments.map(({ text }) => text),
    ["srvtoolu_1", "T", "u", "e"],
  );
  assert.deepEqual(
    results.closes,
    results.segments.map(({ channel }) => channel),
  );

  stream.read(event({ type: "content_block_stop", index: 0 }));
  const late = stream.read(delta(0, { type: "text_delta", text: "too late" }));
  assert.equal(late.modelled, false);
  assert.deepEqual(JSON.parse(late.rewrite(["x"])).delta, { type: "text_delta", text: "x" });
});

test("an upstream's error event ends the answer", () => {
  const reading = open().read(
    event({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } }),
  );
  assert.equal(reading.upstreamError, "overloaded_error: Overloaded");
  assert.equal(reading.terminal, true);
  assert.deepEqual(
    reading.segments.map(({ text }) => text),
    ["overloaded_error", "Overloaded"],
  );
});

// The official client ---------------------------------------------------------------------------------

/** Plays events to the SDK's accumulator and gives its final message. */
async function play(events: readonly SseEvent[], beta = false) {
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(events.map(encodeSse).join(""));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const { port } = server.address() as AddressInfo;
    const client = new Anthropic({ apiKey: "k", baseURL: `http://127.0.0.1:${port}`, maxRetries: 0 });
    const request = {
      model: "claude-sonnet-5",
      max_tokens: 10,
      messages: [{ role: "user" as const, content: "x" }],
    };
    return beta
      ? await client.beta.messages.stream(request).finalMessage()
      : await client.messages.stream(request).finalMessage();
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const PROBLEM: PublicProblem = { code: "upstream_reset", status: 503, message: "Gone.", requestId: "req_7" };

test("stopped at any event, the official SDK reads a refusal and all that was sent before", async () => {
  for (let stop = 0; stop < TRANSCRIPT.length; stop++) {
    const stream = open();
    // The event at `stop` was read and then held back for good.
    const readings = TRANSCRIPT.slice(0, stop + 1).map((item) => stream.read(item));
    const sent = TRANSCRIPT.slice(0, stop);
    const ending = stream.ending(readings.slice(stop));
    assert.deepEqual(stream.ending(), [], "an answer ends once");
    const started = ending[0]!.event === "message_start";
    assert.equal(started, stop === 0, `stopped at ${stop}`);
    const all = [...sent, ...ending].map((item) => JSON.parse(item.data));
    const opened = all.filter(({ type }) => type === "content_block_start").map(({ index }) => index);
    const closed = all.filter(({ type }) => type === "content_block_stop").map(({ index }) => index);
    assert.deepEqual(closed, opened, `stopped at ${stop}: every block that was opened is closed, once`);
    for (const beta of [false, true]) {
      const message = await play([...sent, ...ending], beta);
      assert.equal(message.stop_reason, "refusal");
      assert.equal(message.stop_details?.type, "refusal");
      assert.equal(message.content.length, opened.length);
      if (stop > 0) assert.deepEqual([message.id, message.usage.input_tokens], ["msg_1", 12]);
    }
  }
});

test("an ending closes the blocks that the client saw open, and no other", () => {
  const start = (index: number): SseEvent =>
    event({ type: "content_block_start", index, content_block: { type: "text", text: "" } });
  const events = [
    START,
    start(0),
    start(1),
    delta(0, { type: "text_delta", text: "a" }),
    event({ type: "content_block_stop", index: 0 }),
    event({ type: "ping" }),
    delta(1, { type: "text_delta", text: "b" }),
  ];
  const closedAt = (sent: number): readonly string[] => {
    const stream = open();
    const readings = events.map((item) => stream.read(item));
    const ending = sent < 0 ? stream.ending() : stream.ending(readings.slice(sent));
    return ending
      .slice(0, -2)
      .map(({ data }) => JSON.parse(data))
      .map(({ type, index }) => (index === undefined ? type : `${type} ${index}`));
  };
  assert.deepEqual(closedAt(0), ["message_start"]);
  assert.deepEqual(closedAt(1), []);
  assert.deepEqual(closedAt(2), ["content_block_stop 0"]);
  for (const sent of [3, 4])
    assert.deepEqual(closedAt(sent), ["content_block_stop 0", "content_block_stop 1"]);
  for (const sent of [5, 6, 7, -1]) assert.deepEqual(closedAt(sent), ["content_block_stop 1"]);
});

test("stopped at a limit, the official SDK reads max_tokens, with the words that were sent", async () => {
  for (let stop = 0; stop < TRANSCRIPT.length; stop++) {
    const stream = open();
    const readings = TRANSCRIPT.slice(0, stop + 1).map((item) => stream.read(item));
    const ending = stream.ending(readings.slice(stop), "length");
    for (const beta of [false, true]) {
      const message = await play([...TRANSCRIPT.slice(0, stop), ...ending], beta);
      assert.equal(message.stop_reason, "max_tokens", `stopped at ${stop}`);
      assert.equal(message.stop_details ?? null, null);
      if (stop > 9) {
        const [, said] = message.content;
        assert.equal(said?.type === "text" ? said.text : "", "It is sunny in Paris.");
      }
    }
  }
});

test("a failure makes the official SDK throw its typed error, with or without a beginning", async () => {
  for (const sent of [0, 1, 5]) {
    const stream = open();
    for (const item of TRANSCRIPT.slice(0, sent)) stream.read(item);
    const failure = stream.failure(PROBLEM);
    assert.deepEqual([stream.failure(PROBLEM), stream.ending()], [[], []]);
    await assert.rejects(play([...TRANSCRIPT.slice(0, sent), ...failure]), (error) => {
      assert.ok(error instanceof APIError);
      assert.equal(error.type, "overloaded_error");
      assert.deepEqual(error.error, JSON.parse(anthropic.errorBody(PROBLEM)));
      return true;
    });
  }
});

test("rewritten and split events give the official SDK the redacted message", async () => {
  const stream = open();
  const events = TRANSCRIPT.flatMap((item) => {
    const reading = stream.read(item);
    const [first] = reading.segments;
    if (first?.channel !== "answer:1" || reading.splitBefore === undefined) return [item];
    const head = reading.splitBefore(0, first.text.slice(0, 3));
    return [
      { ...item, data: head! },
      { ...item, data: reading.rewrite([first.text.slice(3).replace("Paris", "[city]")]) },
    ];
  });
  assert.equal(events.length, TRANSCRIPT.length + 2);
  const message = await play(events);
  const whole = await play(TRANSCRIPT);
  const text = message.content[1];
  assert.ok(text?.type === "text");
  assert.equal(text.text, "It is sunny in [city].");
  assert.deepEqual({ ...message, content: [] }, { ...whole, content: [] });
});

test("a delta costs under 2 µs beyond JSON.parse", (t) => {
  const item = delta(0, { type: "text_delta", text: "some words of an answer" });
  const rounds = 50_000;
  let read = Number.POSITIVE_INFINITY;
  let parse = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 4; attempt++) {
    const stream = open();
    let started = performance.now();
    for (let i = 0; i < rounds; i++) stream.read(item);
    read = Math.min(read, ((performance.now() - started) * 1_000) / rounds);
    started = performance.now();
    for (let i = 0; i < rounds; i++) JSON.parse(item.data);
    parse = Math.min(parse, ((performance.now() - started) * 1_000) / rounds);
  }
  t.diagnostic(`${read.toFixed(2)} µs, of which JSON.parse ${parse.toFixed(2)} µs`);
  assert.ok(read - parse < 2);
});
