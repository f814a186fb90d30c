/** Headers that say what is left: their exact text in each dialect, and what the official clients make of a 429. */
import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { anthropic } from "../dialect/anthropic/index.ts";
import { instant } from "../dialect/anthropic/quotas.ts";
import type { Dialect } from "../dialect/dialect.ts";
import { openai } from "../dialect/openai/index.ts";
import { duration } from "../dialect/openai/quotas.ts";
import type { Quota } from "../layer/index.ts";
import { quotaHeaders } from "./quota-headers.ts";

const NOW = Date.UTC(2026, 0, 31, 23, 59, 30);
const QUOTAS: readonly Quota[] = [
  { name: "key-requests", unit: "requests", limit: 600, remaining: 599, resetMs: 60_000, windowSec: 60 },
  { name: "org-requests", unit: "requests", limit: 100, remaining: 50, resetMs: 12_345, windowSec: 3_600 },
  { name: "key-input", unit: "input_tokens", limit: 9_000, remaining: 0, resetMs: 29_000, windowSec: 60 },
  { name: "key-output", unit: "output_tokens", limit: 800, remaining: 700, resetMs: 900, windowSec: 60 },
  { name: "month", unit: "tokens", limit: 1e9, remaining: 5, resetMs: 361_000, windowSec: 2_678_400 },
  { name: "at-once", unit: "concurrency", limit: 8, remaining: 7, resetMs: 0, windowSec: 0 },
  { name: "money", unit: "spend", limit: 5e9, remaining: 4e9, resetMs: 100, windowSec: 60 },
];
const SHARED = {
  "ratelimit-policy":
    '"key-requests";q=600;w=60, "org-requests";q=100;w=3600, "key-input";q=9000;qu="input-tokens";w=60, ' +
    '"key-output";q=800;qu="output-tokens";w=60, "month";q=1000000000;qu="tokens";w=2678400, ' +
    '"at-once";q=8;qu="concurrent-requests"',
  ratelimit:
    '"key-requests";r=599;t=60, "org-requests";r=50;t=13, "key-input";r=0;t=29, "key-output";r=700;t=1, ' +
    '"month";r=5;t=361, "at-once";r=7',
};

test("openai: the tightest limit on requests and the tightest on tokens", () => {
  assert.deepEqual(quotaHeaders(QUOTAS, openai, NOW), {
    ...SHARED,
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-requests": "50",
    "x-ratelimit-reset-requests": "13s",
    "x-ratelimit-limit-tokens": "9000",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "29s",
  });
});

test("anthropic: input and output tokens have headers of their own", () => {
  assert.deepEqual(quotaHeaders(QUOTAS, anthropic, NOW), {
    ...SHARED,
    "anthropic-ratelimit-requests-limit": "100",
    "anthropic-ratelimit-requests-remaining": "50",
    "anthropic-ratelimit-requests-reset": "2026-01-31T23:59:43Z",
    "anthropic-ratelimit-tokens-limit": "9000",
    "anthropic-ratelimit-tokens-remaining": "0",
    "anthropic-ratelimit-tokens-reset": "2026-01-31T23:59:59Z",
    "anthropic-ratelimit-input-tokens-limit": "9000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2026-01-31T23:59:59Z",
    "anthropic-ratelimit-output-tokens-limit": "800",
    "anthropic-ratelimit-output-tokens-remaining": "700",
    "anthropic-ratelimit-output-tokens-reset": "2026-01-31T23:59:31Z",
  });
  assert.equal(instant(NOW + 30_000), "2026-02-01T00:00:00Z");
});

test("durations as the vendor writes them", () => {
  const rows = [
    [0, "0ms"],
    [119.2, "120ms"],
    [1_000, "1s"],
    [59_001, "1m0s"],
    [360_000, "6m0s"],
    [3_600_000, "1h0m0s"],
    [3_661_000, "1h1m1s"],
  ] as const;
  for (const [ms, text] of rows) assert.equal(duration(ms), text);
});

test("nothing to say adds nothing; a name that would break the header is left out; few are listed", () => {
  const [first] = QUOTAS;
  assert.deepEqual(quotaHeaders([], openai, NOW), {});
  assert.deepEqual(quotaHeaders([{ ...first!, unit: "spend" }], openai, NOW), {});
  for (const name of ['a"b', "a\\b", "a\r\nb", "", "é", "x".repeat(65)])
    assert.deepEqual(quotaHeaders([{ ...first!, name }], openai, NOW), {});
  const many = Array.from({ length: 500 }, (_, i) => ({ ...first!, name: `limit-${i}` }));
  assert.equal(quotaHeaders(many, openai, NOW)["ratelimit"]?.split(", ").length, 32);
});

/** Answers 429 with our headers to the first `refusals` calls, then what the client wants to hear. */
async function withServer(
  dialect: Dialect,
  answer: unknown,
  run: (
    baseURL: string,
    calls: { readonly atMs: number; readonly headers: IncomingHttpHeaders }[],
  ) => Promise<void>,
): Promise<void> {
  const calls: { readonly atMs: number; readonly headers: IncomingHttpHeaders }[] = [];
  const server = createServer((request, response) => {
    request.resume();
    calls.push({ atMs: performance.now(), headers: request.headers });
    if (calls.length > 1) {
      response.writeHead(200, { "content-type": "application/json", ...quotaHeaders(QUOTAS, dialect) });
      response.end(JSON.stringify(answer));
      return;
    }
    const body = dialect.errorBody({
      code: "rate_limited",
      status: 429,
      message: "Too many requests.",
      requestId: "req_1",
    });
    response.writeHead(429, {
      "content-type": "application/json",
      "retry-after": "1",
      "retry-after-ms": "250",
      ...quotaHeaders(QUOTAS, dialect),
    });
    response.end(body);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  try {
    await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("the openai client waits as long as it is told, and throws RateLimitError when it may not wait", async () => {
  const answer = {
    id: "c",
    object: "chat.completion",
    created: 1,
    model: "m",
    choices: [{ index: 0, message: { role: "assistant", content: "Hi" }, finish_reason: "stop" }],
  };
  const request = { model: "m", messages: [{ role: "user" as const, content: "x" }] };
  await withServer(openai, answer, async (url, calls) => {
    const client = new OpenAI({ apiKey: "k", baseURL: `${url}/v1`, maxRetries: 1 });
    const { data, response } = await client.chat.completions.create(request).withResponse();
    assert.equal(data.choices[0]?.message.content, "Hi");
    assert.equal(response.headers.get("x-ratelimit-remaining-requests"), "50");
    const waitedMs = calls[1]!.atMs - calls[0]!.atMs;
    assert.ok(waitedMs >= 245 && waitedMs < 900, `waited ${waitedMs} ms: not retry-after-ms`);
  });
  await withServer(openai, answer, async (url) => {
    const client = new OpenAI({ apiKey: "k", baseURL: `${url}/v1`, maxRetries: 0 });
    await assert.rejects(client.chat.completions.create(request), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.headers.get("x-ratelimit-reset-tokens"), "29s");
      return true;
    });
  });
});

test("the anthropic client waits as long as it is told, and throws RateLimitError when it may not wait", async () => {
  const answer = {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "m",
    content: [{ type: "text", text: "Hi" }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: { input_tokens: 1, output_tokens: 1 },
  };
  const request = { model: "m", max_tokens: 5, messages: [{ role: "user" as const, content: "x" }] };
  await withServer(anthropic, answer, async (url, calls) => {
    const client = new Anthropic({ apiKey: "k", baseURL: url, maxRetries: 1 });
    const { data, response } = await client.messages.create(request).withResponse();
    assert.equal(data.stop_reason, "end_turn");
    assert.equal(response.headers.get("anthropic-ratelimit-output-tokens-remaining"), "700");
    const waitedMs = calls[1]!.atMs - calls[0]!.atMs;
    assert.ok(waitedMs >= 245 && waitedMs < 900, `waited ${waitedMs} ms: not retry-after-ms`);
  });
  await withServer(anthropic, answer, async (url) => {
    const client = new Anthropic({ apiKey: "k", baseURL: url, maxRetries: 0 });
    await assert.rejects(client.messages.create(request), Anthropic.RateLimitError);
  });
});
