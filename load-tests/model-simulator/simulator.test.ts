/**
 * The simulator as a tool for tests: determinism, scripts, the record of what was received, how a client's
 * leaving is seen, the WebSocket, bounds, and the command.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { afterEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import { type ReceivedRequest, type Simulator, type SimulatorOptions, startSimulator } from "./simulator.ts";

const open: Simulator[] = [];

async function start(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = await startSimulator(options);
  open.push(simulator);
  return simulator;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((simulator) => simulator.close()));
});

const chat = (more: object = {}) =>
  JSON.stringify({ model: "m", messages: [{ role: "user", content: "x" }], ...more });

function post(simulator: Simulator, body: string, path = "/v1/chat/completions", headers = {}) {
  return fetch(`${simulator.url}${path}`, { method: "POST", body, headers });
}

async function content(response: Response): Promise<string> {
  const json = (await response.json()) as { choices: { message: { content: string } }[] };
  return json.choices[0]!.message.content;
}

async function eventually(check: () => boolean): Promise<void> {
  const until = performance.now() + 5_000;
  while (!check()) {
    assert.ok(performance.now() < until, `not within 5 s: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("determinism", () => {
  it("same seed and body: same bytes and request id; another seed or body: others", async () => {
    const [one, same, other] = [
      await start({ seed: 7 }),
      await start({ seed: 7, record: false }),
      await start({ seed: 8 }),
    ];
    for (const stream of [true, false]) {
      const answers: string[] = [];
      for (const simulator of [one, one, same, other]) {
        const response = await post(simulator, chat({ stream }));
        answers.push(`${response.headers.get("x-request-id")} ${await response.text()}`);
      }
      assert.equal(answers[0], answers[1]);
      assert.equal(answers[0], answers[2]);
      assert.notEqual(answers[0], answers[3]);
      assert.notEqual(await (await post(one, chat({ stream, seed: 1 }))).text(), answers[0]?.slice(37));
    }
  });

  it("white space in the body changes nothing", async () => {
    const simulator = await start();
    const spaced = JSON.stringify(JSON.parse(chat()), null, 2);
    assert.equal(await content(await post(simulator, spaced)), await content(await post(simulator, chat())));
  });
});

describe("scripts", () => {
  const set = (simulator: Simulator, body: object, query = "") =>
    post(simulator, JSON.stringify(body), `/_script${query}`);

  it("header, model, queue, standing one: in that order", async () => {
    const simulator = await start();
    const say = async (headers = {}, model = "m") =>
      content(await post(simulator, chat({ model }), undefined, headers));
    const plain = await say();
    await set(simulator, { text: "standing" });
    await set(simulator, { times: 2, script: { text: "queued" } });
    await set(simulator, { text: "mine" }, "?model=special");
    assert.equal(await say({ "x-sim-script": '{"text":"header"}' }, "special"), "header");
    assert.equal(await say({}, "special"), "mine");
    assert.deepEqual([await say(), await say(), await say()], ["queued", "queued", "standing"]);
    await fetch(`${simulator.url}/_script?model=special`, { method: "DELETE" });
    assert.equal(await say({}, "special"), "standing");
    await fetch(`${simulator.url}/_script`, { method: "DELETE" });
    assert.equal(await say(), plain);
  });

  it("a script that will not do is refused with the field and the reason", async () => {
    const simulator = await start();
    const cases: readonly (readonly [string, RegExp])[] = [
      ["{", /body: not valid JSON/],
      ['{"txt":"x"}', /script: Unrecognized key: "txt"/],
      ['{"times":0,"script":{}}', /body\.times: /],
      ['{"script":{"fault":{"kind":"boom"}}}', /body\.script\.fault\.kind: .*"reset"/],
      ['{"text":"a","chunks":["b"]}', /script\.chunks: cannot stand beside "text"/],
      ['{"status":500}', /script\.status: needs "rawBody"/],
    ];
    for (const [body, message] of cases) {
      const response = await post(simulator, body, "/_script");
      assert.equal(response.status, 400);
      assert.match(((await response.json()) as { error: string }).error, message);
    }
    const response = await post(simulator, chat(), undefined, { "x-sim-script": '{"words":-1}' });
    assert.equal(response.status, 400);
    assert.match(await response.text(), /header x-sim-script\.words/);
  });

  it("events and rawBody go out verbatim", async () => {
    const simulator = await start();
    simulator.setScript({ events: [{ event: "odd", data: "two\nlines" }, { data: { a: 1 } }] });
    const events = await post(simulator, chat({ stream: true }));
    assert.equal(await events.text(), 'event: odd\ndata: two\ndata: lines\n\ndata: {"a":1}\n\n');
    simulator.setScript({ rawBody: "<html>", status: 502, contentType: "text/html" });
    const raw = await post(simulator, chat());
    assert.deepEqual(
      [raw.status, raw.headers.get("content-type"), await raw.text()],
      [502, "text/html", "<html>"],
    );
  });
});

describe("the record", () => {
  it("holds what was received, byte for byte", async () => {
    const simulator = await start();
    const bytes = Buffer.from([0x7b, 0xff, 0x00, 0x7d]);
    const sent = ["Host", "x", "X-Odd", "1", "x-odd", "2", "Content-Length", "4"];
    const client = request(`${simulator.url}/v1/chat/completions?a=%20b`, { method: "POST", headers: sent });
    client.end(bytes);
    const [response] = (await once(client, "response")) as [IncomingMessage];
    response.resume();
    await eventually(() => simulator.openStreams() === 0);
    const list = (await (await fetch(`${simulator.url}/_received`)).json()) as Record<string, unknown>[];
    assert.equal(list.length, 1);
    const { id, method, url, rawHeaders, bodyBase64, at, aborted, abortedAfterMs, completed } = list[0]!;
    assert.deepEqual(
      { id, method, url, bodyBase64, aborted, abortedAfterMs, completed },
      {
        id: 1,
        method: "POST",
        url: "/v1/chat/completions?a=%20b",
        bodyBase64: bytes.toString("base64"),
        aborted: false,
        abortedAfterMs: null,
        completed: true,
      },
    );
    assert.equal(typeof at, "number");
    assert.deepEqual((rawHeaders as string[]).slice(0, sent.length), sent);
    assert.deepEqual(simulator.received()[0]?.body, bytes);
    assert.deepEqual(await (await fetch(`${simulator.url}/_received/count`)).json(), { count: 1, open: 0 });
    await fetch(`${simulator.url}/_received`, { method: "DELETE" });
    assert.equal(simulator.received().length, 0);
  });

  it("keeps the newest thousand", async () => {
    const simulator = await start();
    for (let i = 0; i < 1_010; i++) await (await fetch(`${simulator.url}/v1/models/m${i}`)).text();
    const urls = simulator.received().map(({ url }) => url);
    assert.deepEqual([urls.length, urls[0], urls.at(-1)], [1_000, "/v1/models/m10", "/v1/models/m1009"]);
  });

  it("refuses a body beyond 64 MiB in the vendor's shape, and keeps no more than that", async () => {
    const simulator = await start();
    const response = await fetch(`${simulator.url}/v1/messages`, {
      method: "POST",
      body: Buffer.alloc(64 * 1024 * 1024 + 1),
    });
    assert.equal(response.status, 413);
    assert.equal(((await response.json()) as { error: { type: string } }).error.type, "request_too_large");
    assert.ok(simulator.received()[0]!.body.length <= 64 * 1024 * 1024);
  });

  it("without it nothing is kept, and answers are the same", async () => {
    const simulator = await start({ record: false });
    assert.equal((await post(simulator, chat())).status, 200);
    assert.equal(simulator.received().length, 0);
  });
});

describe("a client that leaves", () => {
  const waits: readonly (readonly [string, object, boolean])[] = [
    ["in a paced stream", { eventGapMs: 5, words: 5_000 }, true],
    ["in silence after some events", { fault: { kind: "silence", afterEvents: 2 } }, true],
    ["in a stream that it does not read", { words: 100_000 }, true],
    ["before the head", { firstByteDelayMs: 60_000 }, true],
    ["while it waits for JSON", { firstByteDelayMs: 60_000 }, false],
  ];
  for (const [name, script, stream] of waits) {
    it(`${name}: is seen within milliseconds`, async () => {
      let seenAt = Number.NaN;
      let aborted: ReceivedRequest | undefined;
      const simulator = await start({
        script,
        onAbort: (one) => {
          seenAt = performance.now();
          aborted = one;
        },
      });
      const client = request(`${simulator.url}/v1/chat/completions`, { method: "POST" });
      client.on("error", () => {});
      client.end(chat({ stream }));
      if ("firstByteDelayMs" in script)
        await eventually(() => (simulator.received()[0]?.body.length ?? 0) > 0);
      else await once(client, "response");
      assert.equal(simulator.openStreams(), 1);
      const leftAt = performance.now();
      client.destroy();
      await eventually(() => aborted !== undefined);
      assert.ok(seenAt - leftAt < 100, `${seenAt - leftAt} ms`);
      assert.ok(Math.abs(aborted!.at + aborted!.abortedAfterMs! - seenAt) < 20);
      assert.deepEqual([aborted?.completed, simulator.openStreams()], [false, 0]);
    });
  }

  it("is not confused with a fault of ours, nor with an answer that was complete", async () => {
    let aborts = 0;
    const simulator = await start({ onAbort: () => (aborts += 1) });
    await post(simulator, chat({ stream: true })).then((response) => response.text());
    simulator.setScript({ fault: { kind: "reset", afterEvents: 1 } });
    await assert.rejects(post(simulator, chat({ stream: true })).then((response) => response.text()));
    await eventually(() => simulator.openStreams() === 0);
    assert.equal(aborts, 0);
  });
});

describe("realtime", () => {
  it("echoes JSON events and answers anything else with an error event", async () => {
    const simulator = await start();
    const socket = new WebSocket(`${simulator.url.replace("http", "ws")}/v1/realtime?model=m`);
    await once(socket, "open");
    const next = async (): Promise<string> => String((await once(socket, "message"))[0]);
    socket.send('{"type": "response.create"}');
    assert.equal(await next(), '{"type": "response.create"}');
    socket.send("no JSON");
    assert.equal(JSON.parse(await next()).type, "error");
    assert.equal(simulator.openStreams(), 1);
    socket.close();
    await eventually(() => simulator.openStreams() === 0);
    const [seen] = simulator.received();
    assert.deepEqual([seen?.url, seen?.completed, seen?.aborted], ["/v1/realtime?model=m", true, false]);
  });

  it("sees a client that is cut off, and takes no upgrade elsewhere", async () => {
    const simulator = await start();
    const socket = new WebSocket(`${simulator.url.replace("http", "ws")}/v1/realtime`);
    await once(socket, "open");
    socket.terminate();
    await eventually(() => simulator.received()[0]?.aborted === true);
    const lost = new WebSocket(`${simulator.url.replace("http", "ws")}/v1/other`);
    const [error] = (await once(lost, "error")) as [Error];
    assert.match(error.message, /404/);
  });
});

describe("the server", () => {
  it("unknown paths and methods get the vendor's error", async () => {
    const simulator = await start();
    const openai = await fetch(`${simulator.url}/v1/nothing`);
    assert.equal(openai.status, 404);
    assert.equal(((await openai.json()) as { error: { type: string } }).error.type, "invalid_request_error");
    const anthropic = await fetch(`${simulator.url}/v1/x`, {
      headers: { "anthropic-version": "2023-06-01" },
    });
    assert.equal(((await anthropic.json()) as { error: { type: string } }).error.type, "not_found_error");
    assert.equal((await fetch(`${simulator.url}/v1/chat/completions`)).status, 405);
  });

  it("answers HTTP/1.0 and pipelined requests too", async () => {
    const simulator = await start({ script: { text: "x" } });
    const body = chat({ stream: true });
    const head = (version: string, more = "") =>
      `POST /v1/chat/completions HTTP/${version}\r\nhost: x\r\n${more}content-length: ${body.length}\r\n\r\n${body}`;
    for (const bytes of [head("1.0"), head("1.1") + head("1.1", "connection: close\r\n")]) {
      const socket = connect(simulator.port, "127.0.0.1");
      socket.end(bytes);
      let text = "";
      for await (const part of socket) text += part;
      const answers = bytes.split("POST").length - 1;
      assert.equal(text.split("data: [DONE]").length - 1, answers);
      assert.equal(text.split("HTTP/1.1 200").length - 1, answers);
    }
  });

  it("close destroys what is open", async () => {
    const simulator = await startSimulator({ script: { fault: { kind: "silence" } } });
    const hanging = post(simulator, chat());
    await eventually(() => simulator.openStreams() === 1);
    await simulator.close();
    await assert.rejects(hanging);
  });
});

describe("the command", () => {
  const main = `${import.meta.dirname}/main.ts`;

  it("prints its address in one line, serves, and ends on SIGTERM", async () => {
    const child = spawn(process.execPath, [main, "--listen", "127.0.0.1:0", "--seed", "3"]);
    const lines: string[] = [];
    const logs: string[] = [];
    const out = createInterface(child.stdout).on("line", (line) => lines.push(line));
    createInterface(child.stderr).on("line", (line) => logs.push(line));
    await once(out, "line");
    const url = /^model simulator listening on (http:\/\/127\.0\.0\.1:\d+)$/.exec(lines[0]!)?.[1];
    assert.equal((await fetch(`${url}/v1/models`)).status, 200);
    await eventually(() => logs.some((line) => /^GET \/v1\/models 200 complete /.test(line)));
    child.kill("SIGTERM");
    assert.deepEqual(await once(child, "exit"), [0, null]);
    assert.equal(lines.length, 1);
  });

  it("refuses arguments that will not do", async () => {
    for (const [args, message] of [
      [["--listen", "8080"], /--listen: "8080" is not HOST:PORT/],
      [["--seed", "x"], /--seed: "x" is not a whole number/],
      [["--nope"], /nope/],
    ] as const) {
      const child = spawn(process.execPath, [main, ...args]);
      let text = "";
      child.stderr.on("data", (data) => (text += String(data)));
      assert.deepEqual(await once(child, "close"), [2, null]);
      assert.match(text, message);
    }
  });
});
