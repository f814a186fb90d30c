/** The HTTP edge on real sockets: bounds, encodings, duplicates, routes, timeouts, faults of the upstream. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { eventually, type House, KEY, NO_SEATS, openHouse } from "../support/house.ts";

const CHAT = JSON.stringify({ model: "m", messages: [{ role: "user", content: "hello" }] });
const AUTH = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };

/** Sends bytes as they are and gives back all that comes until the other side closes. */
function raw(url: string, text: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(text));
    let out = "";
    socket.setEncoding("latin1");
    socket.on("data", (chunk) => {
      out += chunk;
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(out));
    socket.setTimeout(8_000, () => socket.destroy());
  });
}

function post(body: string, headers: readonly string[]): string {
  return [`POST /v1/chat/completions HTTP/1.1`, "host: x", "connection: close", ...headers, "", body].join(
    "\r\n",
  );
}

describe("http", () => {
  let house: House;
  before(async () => {
    house = await openHouse({
      policy: NO_SEATS,
      gateway: {
        limits: { bodyBytesMax: 100_000, eventBytesMax: 20_000, answerBytesMax: 300_000 },
        timeouts: {
          bodyMs: 300,
          headersMs: 1_000,
          firstByteMs: 700,
          idleMs: 700,
          totalMs: 4_000,
          upstreamConnectMs: 500,
        },
      },
    });
  });
  after(() => house.close());

  async function call(
    body: string | Buffer,
    headers: Record<string, string> = {},
    path = "/v1/chat/completions",
  ) {
    const response = await fetch(house.url + path, {
      method: "POST",
      headers: { ...AUTH, ...headers },
      body,
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, code: codeOf(text) };
  }
  function codeOf(text: string): string | undefined {
    try {
      return (JSON.parse(text) as { error?: { code?: string } }).error?.code;
    } catch {
      return undefined;
    }
  }
  const model = (name: string, more: object = {}) =>
    JSON.stringify({ ...JSON.parse(CHAT), model: name, ...more });
  const script = (name: string, fields: object) =>
    fetch(`${house.simulator.url}/_script?model=${name}`, { method: "POST", body: JSON.stringify(fields) });

  for (const [name, compress] of Object.entries({
    gzip: gzipSync,
    deflate: deflateSync,
    br: brotliCompressSync,
  })) {
    it(`inflates ${name} and forwards plain bytes`, async () => {
      await fetch(`${house.simulator.url}/_received`, { method: "DELETE" });
      const { status } = await call(compress(CHAT), { "content-encoding": name });
      assert.equal(status, 200);
      const received = house.simulator
        .received()
        .filter(({ url }) => url.startsWith("/v1"))
        .at(-1)!;
      assert.equal(Buffer.from(received.body).toString(), CHAT);
      assert.ok(!received.rawHeaders.some((header) => header.toLowerCase() === "content-encoding"));
    });
    it(`stops a ${name} bomb at the bound`, async () => {
      const { status, code } = await call(compress(Buffer.alloc(50_000_000, 32)), {
        "content-encoding": name,
      });
      assert.deepEqual([status, code], [413, "body_too_large"]);
    });
    it(`refuses broken ${name}`, async () => {
      assert.equal((await call(Buffer.from("nonsense"), { "content-encoding": name })).code, "body_inflate");
    });
  }

  it("refuses encodings that it does not know, chained ones too", async () => {
    for (const encoding of ["zstd", "compress", "gzip, gzip", "gzip, br"]) {
      const { status, code } = await call(CHAT, { "content-encoding": encoding });
      assert.deepEqual([status, code], [415, "body_encoding"]);
    }
  });

  it("refuses a body that is too large, announced or not", async () => {
    assert.equal((await call("x".repeat(100_001))).code, "body_too_large");
    const chunk = "x".repeat(60_000);
    const size = chunk.length.toString(16);
    const answer = await raw(
      house.url,
      post(`${size}\r\n${chunk}\r\n${size}\r\n${chunk}\r\n0\r\n\r\n`, [
        "content-type: application/json",
        "transfer-encoding: chunked",
      ]),
    );
    assert.match(answer, /^HTTP\/1.1 413 /);
  });

  it("refuses other media types, missing and non-JSON bodies", async () => {
    assert.equal((await call(CHAT, { "content-type": "text/plain" })).code, "body_media_type");
    assert.equal((await call("")).code, "body_missing");
    assert.equal((await call("{")).code, "body_json");
  });

  it("refuses doubled headers that must be single", async () => {
    const length = `content-length: ${CHAT.length}`;
    for (const [first, second] of [
      ["content-type: application/json", "content-type: text/plain"],
      [`authorization: Bearer ${KEY}`, "authorization: Bearer other"],
      ["x-api-key: a", "x-api-key: b"],
      ["anthropic-version: 1", "anthropic-version: 2"],
      ["content-encoding: gzip", "content-encoding: br"],
    ]) {
      assert.match(
        await raw(house.url, post(CHAT, [length, first!, second!])),
        /^HTTP\/1.1 400 [\s\S]*header_duplicate/,
        first,
      );
    }
    assert.match(
      await raw(house.url, post(CHAT, [length, `content-length: ${CHAT.length}`])),
      /^HTTP\/1.1 400 /,
    );
    assert.match(await raw(house.url, post(CHAT, [length, "transfer-encoding: chunked"])), /^HTTP\/1.1 400 /);
    assert.match(
      await raw(house.url, post(CHAT, [length, "authorization: Bearer a", "x-api-key: b"])),
      /^HTTP\/1.1 400 /,
    );
  });

  it("answers unknown routes 404 in the caller's dialect, and other methods 405", async () => {
    for (const path of [
      "/v1/unknown",
      "/",
      "/v1/chat/completions/",
      "//v1/chat/completions",
      "/v1/./chat/completions",
      "/v1/chat%2fcompletions",
      "/V1/chat/completions",
      "/v1beta/models/x:generateContent",
    ]) {
      const answer = await raw(
        house.url,
        `POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1.1 404 [\s\S]*route_unknown/, path);
    }
    const anthropic = await call("{}", { "anthropic-version": "2023-06-01" }, "/v1/unknown");
    assert.equal((JSON.parse(anthropic.text) as { type: string }).type, "error");
    const get = await fetch(`${house.url}/v1/chat/completions`, { headers: AUTH });
    assert.equal(get.status, 405);
    const absolute = await raw(
      house.url,
      `GET http://elsewhere/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
    );
    assert.match(absolute, /^HTTP\/1.1 404 /);
  });

  it("forwards allow-listed headers only, with its own framing", async () => {
    await fetch(`${house.simulator.url}/_received`, { method: "DELETE" });
    await call(CHAT, {
      "x-evil": "1",
      cookie: "a=b",
      "openai-organization": "org-1",
      "openai-beta": "x=1",
      te: "trailers",
      "x-stainless-lang": "js",
    });
    const { rawHeaders } = house.simulator
      .received()
      .filter(({ url }) => url.startsWith("/v1"))
      .at(-1)!;
    const names = rawHeaders.filter((_, i) => i % 2 === 0).map((header) => header.toLowerCase());
    for (const absent of [
      "openai-organization",
      "x-evil",
      "cookie",
      "authorization",
      "te",
      "transfer-encoding",
    ])
      assert.ok(!names.includes(absent), absent);
    for (const present of ["openai-beta", "x-stainless-lang", "content-length", "content-type", "host"]) {
      assert.equal(names.filter((header) => header === present).length, 1, present);
    }
  });

  it("limits the head and slow bodies", async () => {
    assert.match(
      await raw(house.url, `GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: ${"a".repeat(40_000)}\r\n\r\n`),
      /^HTTP\/1.1 431 /,
    );
    assert.match(
      await raw(house.url, post("{", ["content-type: application/json", "content-length: 100"])),
      /^HTTP\/1.1 408 [\s\S]*body_timeout/,
    );
    assert.match(await raw(house.url, "GET /v1/models HTTP/1.1\r\nhost"), /^HTTP\/1.1 408 /);
  });

  const faults: readonly (readonly [string, object, number, string])[] = [
    ["a reset before the head", { fault: { kind: "reset" } }, 502, "upstream_reset"],
    ["silence", { fault: { kind: "silence" } }, 504, "upstream_first_byte_timeout"],
    ["a wrong content type", { fault: { kind: "wrong_content_type" } }, 502, "upstream_content_type"],
    ["a body that is not JSON", { rawBody: "<html>", contentType: "application/json" }, 502, "upstream_body"],
    ["an answer that is too large", { text: "x".repeat(400_000) }, 502, "upstream_too_large"],
  ];
  for (const [name, fields, status, code] of faults) {
    it(`upstream: ${name} is ${code}`, async () => {
      const key = `f-${code}`;
      await script(key, fields);
      const answer = await call(model(key));
      assert.deepEqual([answer.status, answer.code], [status, code]);
      const decision = await eventually(async () => {
        const found = (await house.decisions()).find(({ model: named }) => named === key);
        assert.ok(found);
        return found;
      });
      assert.equal(decision.cause, code);
    });
  }

  const streamFaults: readonly (readonly [string, object, string])[] = [
    ["a reset mid-stream", { fault: { kind: "reset", afterEvents: 3 } }, "upstream_truncated"],
    ["silence mid-stream", { fault: { kind: "silence", afterEvents: 3 } }, "upstream_idle_timeout"],
    ["an end without a last event", { fault: { kind: "no_terminal", afterEvents: 3 } }, "upstream_truncated"],
    [
      "an event that is too large",
      { fault: { kind: "oversize_event", afterEvents: 2, bytes: 50_000 } },
      "upstream_event_too_large",
    ],
  ];
  for (const [name, fields, code] of streamFaults) {
    it(`stream: ${name} ends once, as ${code}`, async () => {
      const key = `s-${name.replaceAll(" ", "-")}`;
      await script(key, fields);
      const { status, text } = await call(model(key, { stream: true }));
      assert.equal(status, 200);
      const events = text.split("\n\n").filter((event) => event.startsWith("data: "));
      assert.match(events.at(-1)!, new RegExp(`"code":"${code}"`));
      assert.equal(events.filter((event) => event.includes('"error"')).length, 1);
      const found = (await house.decisions()).find((decision) => decision.model === key);
      assert.equal(found?.cause, code);
    });
  }

  it("JSON answered to stream: true is judged and passed as JSON", async () => {
    await script("json-for-stream", { fault: { kind: "json_for_stream" } });
    const { status, headers, text } = await call(model("json-for-stream", { stream: true }));
    assert.equal(status, 200);
    assert.match(headers.get("content-type") ?? "", /application\/json/);
    assert.ok(JSON.parse(text));
  });

  it("an upstream that is away is upstream_connect", async () => {
    const away = await openHouse({
      policy: NO_SEATS,
      gateway: { upstreams: { openai: { url: "http://127.0.0.1:1" } } },
    });
    try {
      const response = await fetch(`${away.url}/v1/chat/completions`, {
        method: "POST",
        headers: AUTH,
        body: CHAT,
      });
      assert.equal(response.status, 502);
      assert.equal(((await response.json()) as { error: { code: string } }).error.code, "upstream_connect");
    } finally {
      await away.close();
    }
  });

  it("an answer that takes too long is upstream_total_timeout, streamed or not", async () => {
    const own = await openHouse({ policy: NO_SEATS, gateway: { timeouts: { totalMs: 250 } } });
    try {
      own.simulator.setScript(
        { text: "word ".repeat(100), eventGapMs: 20, firstByteDelayMs: 10 },
        "slow-stream",
      );
      own.simulator.setScript({ firstByteDelayMs: 5_000 }, "slow-head");
      const send = async (name: string, stream: boolean) => {
        const init = { method: "POST", headers: AUTH, body: model(name, { stream }) };
        return (await fetch(`${own.url}/v1/chat/completions`, init)).text();
      };
      const events = (await send("slow-stream", true)).split("\n\n").filter((event) => event !== "");
      assert.match(events.at(-1)!, /upstream_total_timeout/);
      assert.equal(codeOf(await send("slow-head", false)), "upstream_total_timeout");
      await eventually(() => assert.equal(own.simulator.openStreams(), 0, "the upstream was cancelled"));
    } finally {
      await own.close();
    }
  });

  it("drains: running answers end, new connections are refused", async () => {
    const own = await openHouse({ policy: NO_SEATS });
    await fetch(`${own.simulator.url}/_script?model=slow`, {
      method: "POST",
      body: JSON.stringify({ eventGapMs: 20, text: "word ".repeat(15) }),
    });
    const response = await fetch(`${own.url}/v1/chat/completions`, {
      method: "POST",
      headers: AUTH,
      body: model("slow", { stream: true }),
    });
    const closed = own.sallyport.close(5_000);
    await assert.rejects(fetch(`${own.url}/v1/models`, { headers: AUTH }));
    assert.match(await response.text(), /data: \[DONE\]/);
    await closed;
    await own.simulator.close();
  });
});
