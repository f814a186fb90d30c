/**
 * What is scanned is what is forwarded: a probe layer writes down every leaf that it is shown, the
 * simulator every byte that it gets. The strings of both must be the same, for any body that is let in.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { ALLOW, defineLayer, type LayerKind, type Leaf } from "../../src/layer/index.ts";
import { type House, KEY, openHouse, policyWith } from "../support/house.ts";

const seen: Leaf[] = [];
const probe = defineLayer({
  kind: "probe",
  summary: "Writes down what it is shown.",
  config: z.strictObject({}),
  phases: ["onPrompt"],
  compile: () => ({
    open: () => ({
      onPrompt(prompt) {
        seen.push(...prompt.leaves);
        return ALLOW;
      },
    }),
  }),
});

/** Every string and member name below a value, by a walk that shares nothing with the gateway's. */
function strings(
  value: unknown,
  out: string[] = [],
  names: string[] = [],
): { out: string[]; names: string[] } {
  if (typeof value === "string") out.push(value);
  else if (Array.isArray(value)) for (const item of value) strings(item, out, names);
  else if (value !== null && typeof value === "object") {
    for (const [name, item] of Object.entries(value)) {
      names.push(name);
      strings(item, out, names);
    }
  }
  return { out, names };
}

describe("what is scanned is what is forwarded", () => {
  let house: House;
  before(async () => {
    house = await openHouse({
      policy: policyWith("  - { id: probe, use: probe }\n"),
      layers: [probe as LayerKind],
    });
  });
  after(() => house.close());

  async function send(path: string, body: string, headers: Record<string, string> = {}) {
    seen.length = 0;
    await fetch(`${house.simulator.url}/_received`, { method: "DELETE" });
    const response = await fetch(house.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${KEY}`, ...headers },
      body,
    });
    await response.arrayBuffer();
    const received = house.simulator.received().filter(({ url }) => !url.startsWith("/_"));
    return {
      status: response.status,
      received: received.map(({ body: bytes }) => Buffer.from(bytes).toString("utf8")),
    };
  }

  const shapes: Record<string, (value: unknown) => unknown> = {
    "/v1/chat/completions": (value) => ({
      model: "m",
      messages: [{ role: "user", content: "hello" }, value],
      extra: value,
    }),
    "/v1/completions": (value) => ({ model: "m", prompt: "once", logit_bias: value, odd: value }),
    "/v1/responses": (value) => ({
      model: "m",
      input: [value, { role: "user", content: value }],
      metadata: value,
    }),
    "/v1/embeddings": (value) => ({ model: "m", input: ["a"], odd: value }),
    "/v1/moderations": (value) => ({ model: "m", input: "a", odd: value }),
    "/v1/messages": (value) => ({
      model: "m",
      max_tokens: 5,
      system: value,
      messages: [
        { role: "user", content: value },
        { role: "user", content: [{ type: "text", text: "x", odd: value }, value] },
      ],
      tools: [{ name: "t", input_schema: value }],
    }),
    "/v1/messages/count_tokens": (value) => ({ model: "m", messages: [{ role: "user", content: value }] }),
  };
  const json = fc.jsonValue({ maxDepth: 4, stringUnit: "grapheme" });

  for (const [path, shape] of Object.entries(shapes)) {
    it(`${path}: any value in any of its fields`, async () => {
      await fc.assert(
        fc.asyncProperty(json, async (value) => {
          const body = JSON.stringify(shape(value));
          if (body.includes("__proto__")) return;
          const { received } = await send(
            path,
            body,
            path.includes("messages") ? { "anthropic-version": "2023-06-01" } : {},
          );
          assert.deepEqual(received, [body], "the bytes arrive as they were sent");
          const texts = new Set(seen.filter(({ kind }) => kind !== "key").map(({ text }) => text));
          const keys = new Set(seen.map(({ text }) => text));
          const forwarded = strings(JSON.parse(received[0]!));
          for (const text of forwarded.out)
            assert.ok(texts.has(text), `not scanned: ${JSON.stringify(text)}`);
          // Names that a caller can choose are scanned too; here every name that is in `value`.
          const known = new Set(strings(shape(null)).names);
          for (const name of strings(value).names) {
            if (!known.has(name) && name.length > 12)
              assert.ok(keys.has(name), `name not scanned: ${JSON.stringify(name)}`);
          }
        }),
        { numRuns: 60 },
      );
    });
  }

  it("keeps big integers, escapes and spacing as they were", async () => {
    const body = `{ "model":"m","messages":[{"role":"user","content":"caf\\u00e9 \\/ 😀"}],\n "seed": 9007199254740993, "top_p":1.0 }`;
    const { received } = await send("/v1/chat/completions", body);
    assert.deepEqual(received, [body]);
    assert.ok(seen.some(({ text }) => text === "café / 😀"));
  });

  const refused: readonly (readonly [string, string | Buffer, string])[] = [
    ["a doubled name", '{"model":"m","messages":[],"messages":[]}', "body_duplicate_key"],
    [
      "a doubled name, escaped",
      '{"model":"m","messages":[{"content":"a","c\\u006fntent":"b"}]}',
      "body_duplicate_key",
    ],
    ["__proto__", '{"model":"m","__proto__":{"a":1}}', "body_forbidden_key"],
    ["a lone surrogate", '{"model":"\\ud800"}', "body_surrogate"],
    ["bytes that are not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), "body_utf8"],
    ["a byte order mark", '\ufeff{"model":"m"}', "body_bom"],
    ["nesting beyond the bound", `{"a":${"[".repeat(200)}${"]".repeat(200)}}`, "body_too_deep"],
    ["an array", "[1]", "body_not_object"],
    ["text after the value", '{"model":"m"} {"model":"n"}', "body_json"],
    ["a comment", '{"model":"m" /* x */}', "body_json"],
  ];
  for (const [name, body, code] of refused) {
    it(`refuses ${name} without calling the upstream`, async () => {
      await fetch(`${house.simulator.url}/_received`, { method: "DELETE" });
      const response = await fetch(`${house.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
        body: body as string,
      });
      const answer = (await response.json()) as { error: { code: string; message: string } };
      assert.equal(response.status, 400);
      assert.equal(answer.error.code, code);
      assert.equal(house.simulator.received().filter(({ url }) => url.startsWith("/v1")).length, 0);
    });
  }
});
