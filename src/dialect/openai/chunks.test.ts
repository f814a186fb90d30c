/** Chat and completions answers, streamed and whole: golden readings, rewriting, splitting, endings. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type OpenAI from "openai";
import type { Operation } from "../../layer/index.ts";
import type { AnswerStream, EventReading, Json, JsonObject } from "../dialect.ts";
import { golden } from "./golden.ts";
import { openai } from "./index.ts";

const HEAD = {
  id: "chatcmpl-1",
  object: "chat.completion.chunk" as const,
  created: 1_700_000_000,
  model: "gpt-6-sol",
};

type Chunk = OpenAI.ChatCompletionChunk;

function chunk(choices: Chunk["choices"], more: object = {}): Chunk {
  return { ...HEAD, service_tier: "default", system_fingerprint: "fp_1", choices, ...more };
}

function delta(
  content: OpenAI.ChatCompletionChunk.Choice.Delta & Record<string, unknown>,
  index = 0,
  more: object = {},
): OpenAI.ChatCompletionChunk.Choice {
  return { index, delta: content, logprobs: null, finish_reason: null, ...more };
}

function read(stream: AnswerStream, data: unknown, event = ""): EventReading {
  return stream.read({ event, data: typeof data === "string" ? data : JSON.stringify(data) });
}

function brief(reading: EventReading): JsonObject {
  const { closes, rests = [], terminal, modelled, unjudgeable, usage, upstreamError } = reading;
  return {
    segments: reading.segments.map(
      (segment) => `${segment.channel} (${segment.kind} ${segment.choice}) ${JSON.stringify(segment.text)}`,
    ),
    ...(closes.length > 0 ? { closes: [...closes] } : {}),
    ...(rests.length > 0 ? { rests: [...rests] } : {}),
    ...(terminal ? { terminal } : {}),
    ...(unjudgeable === true ? { unjudgeable } : {}),
    ...(modelled ? {} : { modelled }),
    ...(usage === undefined ? {} : { usage: { ...usage } }),
    ...(upstreamError === undefined ? {} : { upstreamError }),
  };
}

const token = (text: string, others: string[] = []) => ({
  token: text,
  bytes: [...Buffer.from(text)],
  logprob: -0.1,
  top_logprobs: others.map((other) => ({ token: other, bytes: [...Buffer.from(other)], logprob: -2 })),
});

const CHAT: unknown[] = [
  chunk([delta({ role: "assistant", content: "" })], { obfuscation: "aX1" }),
  chunk([delta({ reasoning_content: "Let me think" })], { obfuscation: "bY2" }),
  chunk([delta({ content: "Hel" })]),
  chunk([delta({ content: "lo" }, 0, { logprobs: { content: [token("lo", ["la", "li"])], refusal: null } })]),
  chunk([delta({ role: "assistant", content: "Second" }, 1), delta({ content: "!" })]),
  chunk([delta({ refusal: "I can't" }, 1)]),
  chunk([
    delta({
      tool_calls: [
        { index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } },
      ],
    }),
  ]),
  chunk([delta({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] })]),
  chunk([
    delta({
      tool_calls: [
        { index: 0, function: { arguments: '"Oslo"}' } },
        { index: 1, id: "call_2", type: "custom", custom: { name: "sh", input: "ls" } },
      ],
    }),
  ]),
  chunk([delta({ function_call: { name: "old", arguments: "{}" } }, 1)]),
  chunk([delta({ audio: { id: "audio_1", data: "UklG", transcript: "spoken", expires_at: 5 } }, 1)]),
  chunk([delta({ mystery: "flows", list: ["x", { y: "z" }] }, 1)], { provider: "Acme" }),
  chunk([delta({}, 0, { finish_reason: "tool_calls" })], { provider: "Acme" }),
  chunk([delta({}, 1, { finish_reason: "stop" })]),
  chunk([], { usage: { prompt_tokens: 9, completion_tokens: 12, total_tokens: 21 } }),
  "[DONE]",
];

test("golden: every kind of chat chunk", () => {
  const stream = openai.openAnswerStream("chat");
  golden(
    "stream-chat",
    CHAT.map((data) => ({ data: data as Json, reading: brief(read(stream, data)) })),
  );
});

test("golden: completions chunks", () => {
  const stream = openai.openAnswerStream("completions");
  const head = { id: "cmpl-1", object: "text_completion", created: 1, model: "davinci-002" };
  const events: Json[] = [
    { ...head, choices: [{ index: 0, text: "Once", logprobs: null, finish_reason: null }] },
    {
      ...head,
      choices: [
        {
          index: 0,
          text: " upon",
          logprobs: {
            tokens: [" upon"],
            token_logprobs: [-1],
            top_logprobs: [{ " upon": -1, " more": -2 }],
            text_offset: [4],
          },
          finish_reason: null,
        },
      ],
    },
    { ...head, choices: [{ index: 1, text: "Other", logprobs: null, finish_reason: "length" }] },
    { ...head, choices: [{ index: 0, text: "", logprobs: null, finish_reason: "stop" }] },
    { ...head, choices: [], usage: { prompt_tokens: 1, completion_tokens: 3, total_tokens: 4 } },
    "[DONE]",
  ];
  golden(
    "stream-completions",
    events.map((data) => ({ data, reading: brief(read(stream, data)) })),
  );
});

test("golden: events that no API sends", () => {
  const stream = openai.openAnswerStream("chat");
  const events: Json[] = [
    "not json",
    '[1,"two"]',
    '"text"',
    { ...HEAD, choices: "none" },
    {
      ...HEAD,
      choices: [
        "stray",
        { index: -1, delta: { content: "minus" } },
        { index: 1e9, delta: { content: "far" } },
      ],
    },
    {
      ...HEAD,
      choices: [
        { index: 0, delta: { content: "a" } },
        { index: 0, delta: { content: "b" } },
      ],
    },
    { ...HEAD, choices: [{ index: 0, delta: "words", finish_reason: "because" }] },
    { ...HEAD, choices: [{ index: 0, delta: { content: ["part"], tool_calls: "none", role: "king" } }] },
    { ...HEAD, choices: [{ index: 0, delta: { content: "after the finish" } }] },
    { error: { message: "overloaded", type: "server_error", param: null, code: "busy" } },
  ];
  golden(
    "stream-odd",
    events.map((data) => ({ data, reading: brief(read(stream, data)) })),
  );
});

test("rewrite: changed text loses its tokens, unchanged events stay byte for byte, and nothing is spent", () => {
  const stream = openai.openAnswerStream("chat");
  for (const data of CHAT) {
    const reading = read(stream, data);
    const texts = reading.segments.map((segment) => segment.text);
    const original = typeof data === "string" ? data : JSON.stringify(data);
    assert.equal(reading.rewrite(texts), original);
    if (texts.length === 0) continue;
    const changed = reading.segments.map((segment) => (segment.kind === "answer" ? "[cut]" : segment.text));
    const once = reading.rewrite(changed);
    assert.equal(reading.rewrite(changed), once);
    assert.equal(reading.rewrite(texts), original);
  }
  const with_tokens = read(openai.openAnswerStream("chat"), CHAT[3]);
  const texts = with_tokens.segments.map(({ kind, text }) => (kind === "answer" ? "*" : text));
  const rewritten = JSON.parse(with_tokens.rewrite(texts)) as Chunk;
  assert.equal(rewritten.choices[0]?.delta.content, "*");
  assert.equal(rewritten.choices[0]?.logprobs, null);
});

test("text that clients join runs on one channel, or the answer is cut", () => {
  const told = (events: readonly unknown[], channel: string): string =>
    readAll(events)
      .flatMap(({ segments }) => segments)
      .filter((segment) => segment.channel === channel)
      .map(({ text }) => text)
      .join("");
  const readAll = (events: readonly unknown[]): EventReading[] => {
    const stream = openai.openAnswerStream("chat");
    return events.map((event) => read(stream, event));
  };
  const thought = (text: string) => chunk([delta({ reasoning_content: text })]);
  const details = (text: string) =>
    chunk([delta({ reasoning_details: [{ type: "reasoning.text", index: 3, text }] })]);
  const stopped = (content: string) => chunk([delta({ content }, 0, { finish_reason: "stop" })]);
  assert.equal(told([thought("a"), chunk([delta({ content: "-" })]), thought("b")], "thinking:0"), "ab");
  assert.equal(told([stopped("a"), stopped("b")], "answer:0"), "ab", "some upstreams finish every chunk");
  assert.equal(told([details("a"), details("b")], "other:unmodelled:0/reasoning_details/3/text"), "ab");
  const far = (content: string) => chunk([delta({ content }, 300)]);
  assert.equal(told([far("a"), far("b")], "other:unmodelled:/300/delta/content"), "ab");
  const aside = (words: string) => ({ type: "novelty", words });
  assert.equal(told([aside("a"), aside("b")], "other:unmodelled:/words"), "ab");

  const twice = chunk([delta({ content: "a" }), delta({ content: "b" })]);
  const lying = chunk([
    delta({}, 0, { logprobs: { content: [{ ...token("x"), bytes: [97, 98] }], refusal: null } }),
  ]);
  for (const event of [twice, lying]) assert.equal(readAll([event])[0]?.unjudgeable, true);
  const part = chunk([
    delta({}, 0, { logprobs: { content: [{ ...token("\\xf0"), bytes: [0xf0] }], refusal: null } }),
  ]);
  assert.equal(readAll([part])[0]?.unjudgeable, false, "a token may be a part of a character");
});

test("rewrite: an id that was cut is told again; what cannot be changed is dropped", () => {
  const stream = openai.openAnswerStream("chat");
  const first = read(stream, chunk([delta({ content: "a" })]));
  const rewritten = first.rewrite(
    first.segments.map(({ channel, text }) => (channel === "other:id" ? "x\n" : text)),
  );
  assert.equal((JSON.parse(rewritten) as Chunk).id, "x");
  assert.ok(
    read(stream, chunk([delta({ content: "b" })])).segments.some(({ channel }) => channel === "other:id"),
  );
  assert.match(stream.ending()[0]!.data, /"id":"x"/);
  assert.equal(read(stream, "not json").rewrite([""]), "");
  const odd = read(stream, { ...HEAD, choices: [], extra: { name: "secret", other: "fine" } });
  const bundle = odd.segments.map(({ text }) => text.replace("secret", "-"));
  assert.deepEqual((JSON.parse(odd.rewrite(bundle)) as JsonObject)["extra"], { name: "-", other: "fine" });
  const across = odd.segments.map(({ text }) => text.replace("secret\nother\nfine", "-"));
  assert.ok(!odd.rewrite(across).includes("secret"));
  const named = odd.segments.map(({ text }) => text.replace("other\n", "-\n"));
  assert.deepEqual((JSON.parse(odd.rewrite(named)) as JsonObject)["extra"], { name: "secret" });
});

test("splitBefore: the head of a delta as an event of its own", () => {
  const stream = openai.openAnswerStream("chat");
  assert.equal(read(stream, CHAT[2]).splitBefore?.(0, "H"), undefined, "ids were not told yet");
  const plain = read(stream, chunk([delta({ content: "Hello" }, 2)], { obfuscation: "zz" }));
  const at = plain.segments.findIndex(({ kind }) => kind === "answer");
  assert.deepEqual(JSON.parse(plain.splitBefore?.(at, "He") ?? ""), {
    ...HEAD,
    choices: [{ index: 2, delta: { content: "He" }, finish_reason: null }],
  });
  assert.equal(plain.splitBefore?.(1 - at, "He"), undefined);
  read(stream, CHAT[6]);
  const call = read(stream, CHAT[7]);
  assert.deepEqual((JSON.parse(call.splitBefore?.(0, "{") ?? "") as Chunk).choices[0]?.delta, {
    tool_calls: [{ index: 0, function: { arguments: "{" } }],
  });
  const intro = read(
    stream,
    chunk([
      delta({ tool_calls: [{ index: 3, id: "c", type: "custom", custom: { name: "n", input: "abc" } }] }),
    ]),
  );
  assert.ok(intro.segments.every((_, i) => intro.splitBefore?.(i, "a") === undefined));
  const completion = openai.openAnswerStream("completions");
  const event = {
    id: "c",
    object: "text_completion",
    created: 1,
    model: "m",
    choices: [{ index: 0, text: "abc", logprobs: null, finish_reason: null }],
  };
  read(completion, event);
  assert.deepEqual(
    (JSON.parse(read(completion, event).splitBefore?.(0, "a") ?? "") as JsonObject)["choices"],
    [{ index: 0, text: "a", finish_reason: null }],
  );
});

test("ending: every unfinished choice that the client saw", () => {
  const finishes = (stream: AnswerStream, unsent?: EventReading[]) =>
    stream
      .ending(unsent)
      .map(({ data }) =>
        data === "[DONE]"
          ? data
          : (JSON.parse(data) as Chunk).choices.map(({ index, finish_reason, delta }) => [
              index,
              finish_reason,
              delta,
            ])[0],
      );
  const stream = openai.openAnswerStream("chat");
  const start = [[0, null, { role: "assistant", content: "" }], [0, "content_filter", {}], "[DONE]"];
  assert.deepEqual(finishes(stream), start);
  const readings = CHAT.map((data) => read(stream, data));
  assert.deepEqual(finishes(stream), ["[DONE]"]);
  assert.deepEqual(finishes(stream, readings.slice(12)), [
    [0, "content_filter", {}],
    [1, "content_filter", {}],
    "[DONE]",
  ]);
  assert.deepEqual(finishes(stream, readings.slice(13)), [[1, "content_filter", {}], "[DONE]"]);
  assert.deepEqual(finishes(stream, readings.slice(4)), [[0, "content_filter", {}], "[DONE]"]);
  assert.deepEqual(finishes(stream, readings), start);
  assert.match(stream.ending(readings)[0]!.data, /chatcmpl-withheld/);
});

const WHOLE = {
  id: "chatcmpl-2",
  object: "chat.completion",
  created: 1,
  model: "gpt-6-sol",
  system_fingerprint: "fp",
  service_tier: "default",
  choices: [
    {
      index: 0,
      finish_reason: "tool_calls",
      logprobs: { content: [token("Hi", ["Ho"])], refusal: null },
      message: {
        role: "assistant",
        content: "Hi",
        refusal: null,
        annotations: [
          {
            type: "url_citation",
            url_citation: { url: "https://a.test", title: "A", start_index: 0, end_index: 1 },
          },
        ],
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "f", arguments: "{}" } },
          { id: "call_2", type: "custom", custom: { name: "g", input: "in" } },
        ],
      },
    },
    {
      index: 1,
      finish_reason: "stop",
      logprobs: null,
      message: {
        role: "assistant",
        content: null,
        refusal: "No",
        audio: { id: "a", data: "UklG", expires_at: 1, transcript: "said" },
      },
    },
  ],
  usage: {
    prompt_tokens: 1,
    completion_tokens: 2,
    total_tokens: 3,
    completion_tokens_details: { reasoning_tokens: 1 },
  },
} satisfies OpenAI.ChatCompletion;

const ANSWERS: [string, Operation, Json][] = [
  ["answer-chat", "chat", WHOLE as unknown as Json],
  [
    "answer-completions",
    "completions",
    {
      id: "cmpl",
      object: "text_completion",
      created: 1,
      model: "m",
      choices: [{ index: 0, text: "words", finish_reason: "stop", logprobs: null }],
      usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
    } satisfies OpenAI.Completion as Json,
  ],
  [
    "answer-embeddings",
    "embeddings",
    {
      object: "list",
      model: "m",
      data: [{ object: "embedding", index: 0, embedding: [0.1, -0.2] }],
      usage: { prompt_tokens: 3, total_tokens: 3 },
    },
  ],
  [
    "answer-embeddings-base64",
    "embeddings",
    { object: "list", model: "m", data: [{ object: "embedding", index: 0, embedding: "AAAA" }] },
  ],
  [
    "answer-moderations",
    "moderations",
    {
      id: "modr",
      model: "m",
      results: [
        {
          flagged: true,
          categories: { hate: true },
          category_scores: { hate: 0.9 },
          category_applied_input_types: { hate: ["text"] },
        },
      ],
    },
  ],
  [
    "answer-models",
    "models",
    { object: "list", data: [{ id: "m", object: "model", created: 1, owned_by: "o" }] },
  ],
  [
    "answer-error",
    "chat",
    { error: { message: "bad", type: "invalid_request_error", param: "model", code: null } },
  ],
];

test("golden: whole answers", () => {
  for (const [name, operation, body] of ANSWERS) {
    const answer = openai.readAnswer(operation, body);
    assert.equal(answer.modelled, true, name);
    const withheld = answer.withheld();
    golden(name, {
      segments: answer.segments.map((s) => `${s.channel} (${s.kind} ${s.choice}) ${JSON.stringify(s.text)}`),
      usage: answer.usage,
      withheld: withheld === undefined ? undefined : JSON.parse(withheld),
    });
    assert.deepEqual(JSON.parse(answer.rewrite(answer.segments.map((s) => s.text))), body);
  }
  assert.equal(openai.readAnswer("chat", { ...WHOLE, odd: "x" } as unknown as Json).modelled, false);
  assert.equal(openai.readAnswer("models", { object: "list", odd: 1 }).modelled, false);
  assert.equal(openai.readAnswer("chat", "just text").rewrite(["*\n"]), '"*"');
});

/** Every string, and every member name that no table could list. */
function strings(value: Json | undefined, into: Set<string>): void {
  if (typeof value === "string") into.add(value);
  else if (Array.isArray(value)) for (const element of value) strings(element, into);
  else if (typeof value === "object" && value !== null) {
    for (const [name, member] of Object.entries(value)) {
      if (/^Z|^\*$|^constructor$|^__proto__$/.test(name)) into.add(name);
      strings(member, into);
    }
  }
}

/** Words that are part of the format and need no scanning, and text that is told once. */
const FORMAT = new Set(["assistant", "user", "tool", "function", "custom", "stop", "length", ""]);
const NAMES =
  "id object model choices index delta message content text tool_calls function custom name arguments input \
role audio data transcript logprobs tokens token top_logprobs bytes refusal reasoning reasoning_content finish_reason usage \
function_call annotations error type output item part response delta logprobs item_id encrypted_content summary action \
instructions tools status expires_at created sequence_number output_index content_index name".split(" ");
const TYPES =
  "message function_call reasoning output_text custom_tool_call mcp_call computer_call response.created \
response.output_text.delta response.output_item.done response.completed response.function_call_arguments.done \
response.shell_call_output_content.delta response.content_part.added response.output_text.annotation.added error".split(
    " ",
  );
const anyJson = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.string().map((text) => `s${text}`),
    fc.constantFrom("assistant", "function", "stop", "two\nlines", ...TYPES),
    fc.constantFrom<Json>(null, true, 0, 1, 0.5, ""),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(
      fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(...NAMES) },
        fc.string().map((text) => `Z~/${text}`),
        fc.constantFrom("*", "constructor", "__proto__"),
      ),
      tie("value"),
      { maxKeys: 7 },
    ),
  ),
})).value as fc.Arbitrary<Json>;
const bodies = fc
  .dictionary(fc.constantFrom(...NAMES, "Zodd"), anyJson, { minKeys: 1, maxKeys: 8 })
  .map((body) => JSON.parse(JSON.stringify(body)) as JsonObject);
const operations = fc.constantFrom<Operation>("chat", "completions", "responses", "embeddings", "models");

function covers(segments: readonly { readonly text: string }[], body: Json): void {
  const wanted = new Set<string>();
  strings(body, wanted);
  const told = segments.map(({ text }) => text).join("\u0000");
  for (const text of wanted) {
    if (!FORMAT.has(text) && !TYPES.includes(text))
      assert.ok(told.includes(text), `slips through: ${JSON.stringify(text)} of ${JSON.stringify(body)}`);
  }
}

test("property: every string of any event or answer is in a segment, and rewriting nothing changes nothing", () => {
  fc.assert(
    fc.property(operations, bodies, (operation, body) => {
      const data = JSON.stringify(body);
      const reading = openai.openAnswerStream(operation).read({ event: "", data });
      covers(reading.segments, body);
      const texts = reading.segments.map(({ text }) => text);
      assert.equal(reading.rewrite(texts), data);
      assert.equal(
        new Set(reading.segments.map(({ channel }) => channel)).size,
        texts.length,
        "a channel occurs once",
      );
      for (let i = 0; i < texts.length; i++) {
        const without = reading.rewrite(texts.map((text, at) => (at === i ? "" : text)));
        if (without !== "") assert.doesNotThrow(() => JSON.parse(without));
      }
      assert.equal(reading.rewrite(texts), data);
      const answer = openai.readAnswer(operation, body);
      covers(answer.segments, body);
      assert.deepEqual(JSON.parse(answer.rewrite(answer.segments.map(({ text }) => text))), body);
    }),
    { numRuns: 1_500 },
  );
});

test("property: what a rewrite cuts is gone from the event", () => {
  const planted = "SECRET-7f3a";
  fc.assert(
    fc.property(operations, bodies, fc.nat(), (operation, raw, seed) => {
      const places: [JsonObject | Json[], string][] = [];
      const find = (value: Json): void => {
        if (typeof value !== "object" || value === null) return;
        for (const [key, member] of Object.entries(value)) {
          if (typeof member === "string" && !TYPES.includes(member)) places.push([value, key]);
          else if (member !== undefined) find(member);
        }
      };
      const body = structuredClone(raw);
      find(body);
      const place = places[seed % Math.max(places.length, 1)];
      if (place === undefined) return;
      (place[0] as JsonObject)[place[1]] = `a ${planted} b`;
      const cut = (text: string): string => text.replaceAll(planted, "[cut]");
      const reading = openai.openAnswerStream(operation).read({ event: "", data: JSON.stringify(body) });
      assert.ok(!reading.rewrite(reading.segments.map(({ text }) => cut(text))).includes(planted));
      const answer = openai.readAnswer(operation, body);
      assert.ok(!answer.rewrite(answer.segments.map(({ text }) => cut(text))).includes(planted));
    }),
    { numRuns: 1_500 },
  );
});

test("property: a stream of any events never throws and never speaks on a closed channel", () => {
  fc.assert(
    fc.property(operations, fc.array(bodies, { maxLength: 8 }), (operation, events) => {
      const stream = openai.openAnswerStream(operation);
      const closed = new Set<string>();
      const readings: EventReading[] = [];
      for (const body of [...events, ...events]) {
        const reading = stream.read({ event: "", data: JSON.stringify(body) });
        for (const { channel } of reading.segments) assert.ok(!closed.has(channel), `${channel} was closed`);
        for (const channel of reading.closes) closed.add(channel);
        readings.push(reading);
      }
      for (const unsent of [undefined, readings, readings.slice(3)]) {
        for (const event of stream.ending(unsent)) if (event.data !== "[DONE]") JSON.parse(event.data);
      }
    }),
    { numRuns: 400 },
  );
});
