/** Every string of a request is a leaf, whatever its shape; known shapes get the right role, kind and turn. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import type { Leaf } from "../../layer/index.ts";
import type { Json, JsonObject } from "../dialect.ts";
import { anthropic } from "./index.ts";

function read(body: JsonObject, operation: "messages" | "count_tokens" | "models" = "messages") {
  return anthropic.readPrompt({ operation, body, parameters: [] });
}

/** "path role/kind/turn text" of each leaf. */
function lines(leaves: readonly Leaf[]): string[] {
  return leaves.map(({ path, role, kind, turn, text }) => `${path} ${role}/${kind}/${turn} ${text}`);
}

test("a conversation with tools, media and thinking", () => {
  const prompt = read({
    model: "claude-sonnet-5",
    max_tokens: 64,
    stream: true,
    temperature: 0.5,
    metadata: { user_id: "user-7" },
    stop_sequences: ["END"],
    system: [{ type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } }],
    tools: [
      {
        name: "weather",
        description: "Tells the weather",
        input_schema: { type: "object", properties: { city: { type: "string" } } },
      },
      { type: "web_search_20250305", name: "web_search", allowed_domains: ["example.com"] },
    ],
    messages: [
      { role: "user", content: "Hello" },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "Hmm", signature: "c2ln" },
          { type: "redacted_thinking", data: "ZGF0YQ==" },
          { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Paris" } },
        ],
      },
      {
        role: "user",
        content: [
          {
            type: "tool_result",
            tool_use_id: "toolu_1",
            content: [
              { type: "text", text: "Sunny" },
              { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
            ],
          },
          {
            type: "document",
            title: "Notes",
            source: { type: "text", media_type: "text/plain", data: "Plain words" },
          },
          { type: "image", source: { type: "url", url: "https://example.com/a.png" } },
        ],
      },
    ],
  });
  assert.deepEqual(prompt.unknown, []);
  assert.equal(prompt.model, "claude-sonnet-5");
  assert.equal(prompt.stream, true);
  assert.equal(prompt.endUser, "user-7");
  assert.equal(prompt.newestTurn, 2);
  assert.equal(prompt.mediaCount, 2);
  assert.deepEqual(lines(prompt.leaves), [
    "/model none/parameter/-1 claude-sonnet-5",
    "/metadata/user_id none/parameter/-1 user-7",
    "/stop_sequences/0 none/parameter/-1 END",
    "/system/0/type system/parameter/-1 text",
    "/system/0/text system/text/-1 Be kind.",
    "/system/0/cache_control/type system/parameter/-1 ephemeral",
    "/tools/0/name none/tool-schema/-1 weather",
    "/tools/0/description none/tool-schema/-1 Tells the weather",
    "/tools/0/input_schema/type none/key/-1 type",
    "/tools/0/input_schema/type none/tool-schema/-1 object",
    "/tools/0/input_schema/properties none/key/-1 properties",
    "/tools/0/input_schema/properties/city none/key/-1 city",
    "/tools/0/input_schema/properties/city/type none/key/-1 type",
    "/tools/0/input_schema/properties/city/type none/tool-schema/-1 string",
    "/tools/1/type none/parameter/-1 web_search_20250305",
    "/tools/1/name none/tool-schema/-1 web_search",
    "/tools/1/allowed_domains/0 none/tool-schema/-1 example.com",
    "/messages/0/role user/parameter/0 user",
    "/messages/0/content user/text/0 Hello",
    "/messages/1/role assistant/parameter/1 assistant",
    "/messages/1/content/0/type assistant/parameter/1 thinking",
    "/messages/1/content/0/thinking assistant/text/1 Hmm",
    "/messages/1/content/0/signature assistant/parameter/1 c2ln",
    "/messages/1/content/1/type assistant/parameter/1 redacted_thinking",
    "/messages/1/content/1/data assistant/parameter/1 ZGF0YQ==",
    "/messages/1/content/2/type assistant/parameter/1 tool_use",
    "/messages/1/content/2/id assistant/parameter/1 toolu_1",
    "/messages/1/content/2/name assistant/tool-arguments/1 weather",
    "/messages/1/content/2/input/city assistant/key/1 city",
    "/messages/1/content/2/input/city assistant/tool-arguments/1 Paris",
    "/messages/2/role user/parameter/2 user",
    "/messages/2/content/0/type tool/parameter/2 tool_result",
    "/messages/2/content/0/tool_use_id tool/parameter/2 toolu_1",
    "/messages/2/content/0/content/0/type tool/parameter/2 text",
    "/messages/2/content/0/content/0/text tool/tool-result/2 Sunny",
    "/messages/2/content/0/content/1/type tool/parameter/2 image",
    "/messages/2/content/0/content/1/source/type tool/parameter/2 base64",
    "/messages/2/content/0/content/1/source/media_type tool/parameter/2 image/png",
    "/messages/2/content/0/content/1/source/data tool/media/2 iVBORw0KGgo=",
    "/messages/2/content/1/type user/parameter/2 document",
    "/messages/2/content/1/title user/text/2 Notes",
    "/messages/2/content/1/source/type user/parameter/2 text",
    "/messages/2/content/1/source/media_type user/parameter/2 text/plain",
    "/messages/2/content/1/source/data user/text/2 Plain words",
    "/messages/2/content/2/type user/parameter/2 image",
    "/messages/2/content/2/source/type user/parameter/2 url",
    "/messages/2/content/2/source/url user/media/2 https://example.com/a.png",
  ]);
});

test("what is not modelled is named by its pointer, and covered", () => {
  const rows: readonly (readonly [
    why: string,
    body: JsonObject,
    unknown: readonly string[],
    covered: string,
  ])[] = [
    ["field", { "x/y": { deep: ["secret"] } }, ["/x~1y"], "secret"],
    [
      "block type",
      { messages: [{ role: "user", content: [{ type: "hologram", text: "secret" }] }] },
      ["/messages/0/content/0"],
      "secret",
    ],
    [
      "block without type",
      { messages: [{ role: "user", content: [{ text: "secret" }] }] },
      ["/messages/0/content/0"],
      "secret",
    ],
    [
      "block field",
      { messages: [{ role: "user", content: [{ type: "text", text: "", secret: 1 }] }] },
      ["/messages/0/content/0/secret"],
      "secret",
    ],
    [
      "message field",
      { messages: [{ role: "user", content: "", name: "secret" }] },
      ["/messages/0/name"],
      "secret",
    ],
    ["role", { messages: [{ role: "secret", content: "x" }] }, ["/messages/0/role"], "secret"],
    ["message that is a string", { messages: ["secret"] }, ["/messages/0/role", "/messages/0"], "secret"],
    ["messages that are no list", { messages: { secret: 1 } }, ["/messages"], "secret"],
    ["number's place", { max_tokens: "secret" }, ["/max_tokens"], "secret"],
    ["string's place", { model: { name: "secret" } }, ["/model"], "secret"],
    ["tool type", { tools: [{ type: "telepathy_20990101", name: "secret" }] }, ["/tools/0"], "secret"],
    ["inherited name", { constructor: "secret" }, ["/constructor"], "secret"],
    [
      "inherited block type",
      { messages: [{ role: "user", content: [{ type: "toString", a: "secret" }] }] },
      ["/messages/0/content/0"],
      "secret",
    ],
    [
      "media that is text",
      {
        messages: [
          {
            role: "user",
            content: [{ type: "image", source: { type: "base64", data: "secret: in the clear!" } }],
          },
        ],
      },
      [],
      "secret: in the clear!",
    ],
  ];
  for (const [why, body, unknown, covered] of rows) {
    const prompt = read(body);
    assert.deepEqual(prompt.unknown, unknown, why);
    const leaf = prompt.leaves.find(({ text, kind }) => text === covered && kind !== "media");
    assert.ok(leaf !== undefined, why);
  }
});

test("path and query parameters are leaves; nothing of a body is modelled where there should be none", () => {
  const prompt = anthropic.readPrompt({
    operation: "models",
    body: { model: "x" },
    parameters: [
      ["model", "claude-sonnet-5"],
      ["limit", "10"],
      ["odd", "value"],
    ],
  });
  assert.deepEqual(prompt.unknown, ["?odd", "/model"]);
  assert.deepEqual(lines(prompt.leaves).slice(0, 4), [
    "?model none/query/-1 claude-sonnet-5",
    "?limit none/query/-1 10",
    "?odd none/query/-1 value",
    "?odd none/key/-1 odd",
  ]);
  const bare = anthropic.readPrompt({ operation: "models", body: undefined, parameters: [["model", "m"]] });
  assert.equal(bare.model, "m");
  assert.deepEqual([bare.newestTurn, bare.stream, bare.unknown], [-1, false, []]);
});

/** Every member name that the SDK's declarations mention: the vocabulary, found without our tables. */
const VOCABULARY: ReadonlySet<string> = (() => {
  const sdk = dirname(createRequire(import.meta.url).resolve("@anthropic-ai/sdk"));
  const names = ["temperature", "top_p", "top_k"];
  for (const file of ["resources/messages/messages.d.ts", "resources/beta/messages/messages.d.ts"]) {
    const source = readFileSync(join(sdk, file), "utf8");
    names.push(...[...source.matchAll(/^ +(\w+)\??: /gm)].map(([, name]) => name!));
  }
  return new Set(names);
})();

function everyString(value: Json, path: string, found: [path: string, text: string][]): void {
  if (typeof value === "string") found.push([path, value]);
  else if (value !== null && typeof value === "object") {
    for (const [name, item] of Object.entries(value)) {
      const below = `${path}/${name.replace(/~/g, "~0").replace(/\//g, "~1")}`;
      if (!Array.isArray(value) && !VOCABULARY.has(name)) found.push([below, name]);
      everyString(item, below, found);
    }
  }
}

const TYPES = [
  "text",
  "image",
  "document",
  "tool_use",
  "tool_result",
  "thinking",
  "base64",
  "url",
  "content",
  "search_result",
  "server_tool_use",
  "web_search_tool_result",
  "web_search_result",
  "mcp_tool_result",
  "compaction",
  "char_location",
  "web_fetch_20260318",
  "custom",
  "mcp_toolset",
  "fallback",
  "odd",
  "tool_definition",
  "advisor_tool_result",
  "advisor_result",
];
const name = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      "model",
      "messages",
      "content",
      "role",
      "type",
      "text",
      "source",
      "data",
      "title",
      "system",
      "tools",
      "input",
      "input_schema",
      "name",
      "citations",
      "cited_text",
      "tool",
      "definition",
      "metadata",
      "user_id",
      "url",
      "thinking",
      "signature",
      "tool_choice",
      "context_management",
      "edits",
      "output_config",
      "format",
      "schema",
      "container",
      "skills",
      "mcp_servers",
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom("a/b", "~x", "", "constructor", "__proto__", "hasOwnProperty", "zzz"),
  },
);
const { value } = fc.letrec<{ value: Json; object: JsonObject }>((tie) => ({
  object: fc
    .tuple(
      fc.array(fc.tuple(name, tie("value")), { maxLength: 5 }),
      fc.option(fc.constantFrom(...TYPES), { nil: undefined }),
    )
    .map(([members, type]) => {
      const object: JsonObject = type === undefined ? {} : { type };
      for (const [key, item] of members)
        Object.defineProperty(object, key, {
          value: item,
          enumerable: true,
          writable: true,
          configurable: true,
        });
      return object;
    }),
  value: fc.oneof(
    { depthSize: "small", maxDepth: 7 },
    fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom<Json>("user", 1, true, null, ...TYPES)),
    tie("object"),
    fc.array(tie("value"), { maxLength: 4 }),
  ),
}));
const block = fc
  .tuple(fc.constantFrom(...TYPES), fc.dictionary(name, value, { maxKeys: 5 }))
  .map(([type, fields]) => ({ ...fields, type }));
const body = fc.record(
  {
    model: fc.oneof(fc.string(), value),
    messages: fc.array(
      fc.record({
        role: fc.constantFrom("user", "assistant", "system", "odd"),
        content: fc.oneof(value, fc.array(block, { maxLength: 4 })),
      }),
      { maxLength: 4 },
    ),
    system: fc.oneof(value, fc.array(block, { maxLength: 3 })),
    tools: fc.oneof(value, fc.array(block, { maxLength: 3 })),
    tool_choice: value,
    metadata: value,
    context_management: value,
    zzz: value,
  },
  { requiredKeys: [] },
);

test("every string and every unmodelled name is a leaf, by an independent walk", (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}, vocabulary of ${VOCABULARY.size} names`);
  fc.assert(
    fc.property(
      body,
      fc.constantFrom("messages" as const, "count_tokens" as const, "models" as const),
      (made, operation) => {
        const request = made as JsonObject;
        const prompt = read(request, operation);
        const leaves = new Set(prompt.leaves.map(({ path, text }) => JSON.stringify([path, text])));
        const expected: [string, string][] = [];
        everyString(request, "", expected);
        for (const found of expected) assert.ok(leaves.has(JSON.stringify(found)), `${found} is no leaf`);
        const newest = Math.max(-1, ...prompt.leaves.map(({ turn }) => turn));
        assert.ok(prompt.newestTurn >= newest);
        prompt.leaves.forEach(({ channel }, i) => void assert.equal(channel, `prompt:${i}`));
      },
    ),
    { seed, numRuns: 1_500 },
  );
});
