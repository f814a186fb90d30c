/**
 * Attacks on the gateway that once worked, or nearly did, each as it was found: smuggled requests, text that
 * two parsers read differently, callers who leave at bad moments, answers that never end.
 */
import assert from "node:assert/strict";
import { request } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, it } from "node:test";
import { z } from "zod";
import { ALLOW, defineLayer, type LayerKind } from "../../src/layer/index.ts";
import {
  eventually,
  type House,
  type HouseOptions,
  KEY,
  NO_SEATS,
  openHouse,
  policyWith,
} from "../support/house.ts";

const SECRET = ["AKIA", "Q7XJ2M4N", "5P6R3STU"].join("");
const AUTH = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
const CHAT = { model: "m", messages: [{ role: "user", content: "hello" }] };

let opened = 0;
let ended = 0;
/** Takes its time over the phases that it is told of, and counts its watches. */
const slow = defineLayer({
  kind: "slow",
  summary: "Takes its time.",
  config: z.strictObject({ waitMs: z.int().default(40) }),
  phases: ["onRequest", "onResponseHead", "onEnd"],
  compile({ waitMs }) {
    const wait = async () => {
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      return ALLOW;
    };
    return {
      open() {
        opened += 1;
        return {
          onRequest: wait,
          onResponseHead: wait,
          onEnd() {
            ended += 1;
            return ALLOW;
          },
        };
      },
    };
  },
});
const SLOW = policyWith(
  "  - { id: one, use: slow }\n  - { id: two, use: slow }\n",
  "passThrough: [{ path: /v1/files/*, methods: [GET, DELETE], upstream: openai }]\n",
);

describe("attacks on the gateway", () => {
  const closers: (() => Promise<unknown> | unknown)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  async function house(options: HouseOptions): Promise<House> {
    const open = await openHouse({ ...options, layers: [slow as LayerKind] });
    closers.push(() => open.close());
    opened = 0;
    ended = 0;
    return open;
  }
  /** An upstream that does with its socket what a test says. */
  async function upstream(onData: (socket: Socket, text: string) => void): Promise<string> {
    const sockets = new Set<Socket>();
    const server: Server = createServer((socket) => {
      sockets.add(socket);
      socket.setEncoding("latin1");
      socket.on("error", () => {});
      socket.on("data", (text) => onData(socket, String(text)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const chat = (url: string, more: object = {}) =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: AUTH,
      body: JSON.stringify({ ...CHAT, ...more }),
    });

  it("a pass-through DELETE cannot carry a second request in its body", async () => {
    const { url, simulator } = await house({ policy: SLOW });
    const inner = "GET /v1/admin HTTP/1.1\r\nhost: x\r\n\r\n";
    const raw = `DELETE /v1/files/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${KEY}\r\ntransfer-encoding: chunked\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
    const answer = await talk(url, raw);
    assert.match(answer, /^HTTP\/1.1 400 [\s\S]*body_unexpected/);
    assert.deepEqual(
      simulator.received().map(({ url: path }) => path),
      [],
    );
  });

  for (const stream of [false, true]) {
    it(`an answer that names a member twice is judged as it is sent (stream: ${stream})`, async () => {
      const { url, simulator } = await house({
        policy: policyWith("  - { id: secrets, use: output-secrets }\n"),
      });
      const part = stream ? "delta" : "message";
      const body = `{"id":"c","object":"chat.completion${stream ? ".chunk" : ""}","created":1,"model":"m","choices":[{"index":0,"${part}":{"role":"assistant","content":"${SECRET}","content":"hi"},"finish_reason":${stream ? null : '"stop"'}}]}`;
      simulator.setScript(
        stream
          ? { events: [{ data: body }, { data: ` \t ${body}` }, { data: "[DONE]" }] }
          : { rawBody: body, contentType: "application/json" },
      );
      const text = await (await chat(url, { stream })).text();
      assert.ok(text.includes('"hi"'), text);
      assert.ok(!text.includes(SECRET), text);
    });
  }

  for (const stream of [false, true]) {
    it(`a credential in the upstream's headers stays behind (stream: ${stream})`, async () => {
      const type = stream ? "text/event-stream" : "application/json";
      const away = await upstream((socket, text) => {
        const id = text.includes("hello") ? SECRET : "req_1";
        socket.end(
          `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\nx-request-id: ${id}\r\nopenai-processing-ms: 7\r\nconnection: close\r\n\r\n${stream ? "data: [DONE]\n\n" : "{}"}`,
        );
      });
      const { url } = await house({
        policy: policyWith("  - { id: secrets, use: output-secrets }\n"),
        gateway: { upstreams: { openai: { url: away } } },
      });
      const kept = await chat(url, { stream, messages: [{ role: "user", content: "other" }] });
      assert.equal(kept.headers.get("x-request-id"), "req_1");
      const cut = await chat(url, { stream });
      assert.deepEqual([cut.status, cut.headers.get("x-request-id")], [200, null]);
      assert.equal(cut.headers.get("openai-processing-ms"), "7");
    });
  }

  it("a prompt of token ids is refused where prompts are judged, and only there", async () => {
    const rules = "  - { id: rules, use: prompt-rules }\n";
    for (const [policy, status] of [
      [policyWith(rules), 400],
      [NO_SEATS, 200],
    ] as const) {
      const { url } = await house({ policy });
      const body = JSON.stringify({ model: "m", prompt: [2675, 527] });
      const response = await fetch(`${url}/v1/completions`, { method: "POST", headers: AUTH, body });
      assert.equal(response.status, status, await response.text());
    }
  });

  it("callers who leave while a seat still thinks leave nothing behind, on every kind of route", async () => {
    const open = await house({ policy: SLOW });
    const leave = (path: string, method: string, headers: object, body = "") =>
      new Promise<void>((resolve) => {
        const call = request(open.url + path, { method, agent: false, headers: { ...AUTH, ...headers } });
        call.on("error", () => {});
        call.on("close", () => resolve());
        call.end(body);
        setTimeout(() => call.destroy(), 20);
      });
    const body = JSON.stringify(CHAT);
    await leave("/v1/chat/completions", "POST", { "content-length": body.length }, body);
    await leave("/v1/files/a", "GET", {});
    await leave("/v1/realtime?model=m", "GET", {
      upgrade: "websocket",
      connection: "upgrade",
      "sec-websocket-version": "13",
      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    });
    await eventually(async () => {
      assert.deepEqual(
        (await open.decisions()).map(({ cause }) => cause),
        ["client_gone", "client_gone", "client_gone"],
      );
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual([opened, ended], [3, 3], "the second seat was never opened");
    assert.equal(open.simulator.received().length, 0, "the upstream was never called");
    open.writePolicy(NO_SEATS);
    await open.sallyport.policy.reload();
    assert.equal(open.sallyport.policy.status().draining, 0, "no snapshot stays pinned");
  });

  it("a pass-through answer that breaks off does not end in order", async () => {
    const away = await upstream((socket) => {
      socket.write(
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: text/plain\r\nset-cookie: a=b\r\n\r\nabc",
      );
      setTimeout(() => socket.resetAndDestroy(), 20);
    });
    const open = await house({ policy: SLOW, gateway: { upstreams: { openai: { url: away } } } });
    const response = await fetch(`${open.url}/v1/files/a`, { headers: AUTH });
    assert.equal(response.headers.get("set-cookie"), null);
    await assert.rejects(response.text());
    await eventually(async () => assert.equal((await open.decisions())[0]?.cause, "upstream_truncated"));
  });

  it("a stream that ends while its head is still judged ends for the client too", async () => {
    const open = await house({ policy: SLOW });
    open.simulator.setScript({ events: [] });
    const text = await (await chat(open.url, { stream: true })).text();
    assert.match(text, /upstream_truncated/);
    await eventually(() => assert.equal(opened, ended));
  });

  it("a client that never reads is dropped once nothing moves", async () => {
    const open = await house({ policy: NO_SEATS, gateway: { timeouts: { idleMs: 300 } } });
    open.simulator.setScript({ text: "x".repeat(30_000_000) });
    const body = JSON.stringify(CHAT);
    const socket = connect(open.sallyport.gateway.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.pause();
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${KEY}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await eventually(() => assert.equal(open.sallyport.gateway.connections, 1));
    await eventually(() => assert.equal(open.sallyport.gateway.connections, 0), 8_000);
    socket.destroy();
  });

  const broken: readonly (readonly [string, string, string])[] = [
    [
      "a redirect",
      "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
      "upstream_protocol",
    ],
    [
      "both framings",
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
      "upstream_protocol",
    ],
    ["a bad status line", "HTTP/1.1 OK\r\n\r\n", "upstream_protocol"],
    [
      "an empty JSON answer",
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
      "upstream_body",
    ],
    [
      "JSON nested without end",
      `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 40000\r\n\r\n${"[".repeat(20_000)}${"]".repeat(20_000)}`,
      "upstream_body",
    ],
  ];
  for (const [name, head, code] of broken) {
    it(`${name} from the upstream is ${code}`, async () => {
      const odd = await upstream((socket) => socket.end(head));
      const open = await house({ policy: NO_SEATS, gateway: { upstreams: { openai: { url: odd } } } });
      const response = await chat(open.url);
      const { error } = (await response.json()) as { error: { code: string } };
      assert.deepEqual([response.status, error.code], [502, code]);
    });
  }

  it("steps hidden in a model's name are refused", async () => {
    const { url } = await house({ policy: NO_SEATS });
    for (const name of ["..%2f..%2fadmin", "..", "%2e%2e", "a%2f..%2fb", "a%5cb", "a%00b"]) {
      const answer = await talk(
        url,
        `GET /v1/models/${name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1.1 400 /, name);
    }
  });

  it("rubbish sent while an answer streams never lands inside it", async () => {
    const { url, simulator } = await house({ policy: NO_SEATS });
    simulator.setScript({ text: "word ".repeat(20), eventGapMs: 10 });
    const body = JSON.stringify({ ...CHAT, stream: true });
    const answer = await talk(
      url,
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      "\x00\x01 rubbish\r\n\r\n",
    );
    assert.equal(answer.split("HTTP/1.1 ").length, 2, "one answer");
  });

  it("an offer to upgrade an ordinary route is ignored", async () => {
    const { url } = await house({ policy: NO_SEATS });
    const body = JSON.stringify(CHAT);
    const answer = await talk(
      url,
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    assert.match(answer, /^HTTP\/1.1 200 /);
  });
});

/** Sends bytes, and more of them 50 ms after the answer begins; gives back all that came until the end, or 2 s. */
function talk(url: string, first: string, then?: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.write(first));
    let out = "";
    socket.setEncoding("latin1");
    socket.once("data", () => {
      if (then !== undefined) setTimeout(() => socket.write(then), 50);
    });
    socket.on("data", (chunk) => {
      out += chunk;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(out));
    socket.setTimeout(2_000, () => socket.destroy());
  });
}
