/**
 * Each fault as a client on a plain socket sees it, byte by byte, and the pace of scripted streams.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import { type Script, type Simulator, scriptHeader, startSimulator } from "./simulator.ts";

let simulator: Simulator;

before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());

interface Seen {
  readonly head: string;
  /** Body as sent, chunk framing included. */
  readonly body: Buffer;
  readonly events: readonly string[];
  /** - `end` FIN came · `reset` RST came · `open` nothing more within the time */
  readonly end: "end" | "reset" | "open";
  /** Reads of the socket and when they came. */
  readonly reads: readonly { readonly text: string; readonly atMs: number }[];
}

/** One request on a connection of its own; waits for the end or, at most, `openMs`. */
function ask(script: Script, { stream = true, openMs = 150 } = {}): Promise<Seen> {
  const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "x" }], stream });
  const reads: { text: string; atMs: number }[] = [];
  return new Promise((resolve) => {
    const socket = connect(simulator.port, "127.0.0.1");
    const began = performance.now();
    const done = (end: Seen["end"]): void => {
      clearTimeout(timer);
      socket.destroy();
      const all = Buffer.from(reads.map((read) => read.text).join(""), "latin1");
      const split = all.indexOf("\r\n\r\n");
      const text = all.subarray(split + 4).toString("latin1");
      resolve({
        head: all.subarray(0, Math.max(0, split)).toString("latin1"),
        body: split === -1 ? Buffer.alloc(0) : all.subarray(split + 4),
        events: text.match(/data: .*/g) ?? [],
        end,
        reads,
      });
    };
    const timer = setTimeout(() => done("open"), openMs);
    socket.on("data", (data) => {
      reads.push({ text: data.toString("latin1"), atMs: performance.now() - began });
      // The last chunk of a clean answer: what follows would only be the idle connection.
      if (data.toString("latin1").endsWith("\r\n0\r\n\r\n")) done("open");
    });
    socket.on("end", () => done("end"));
    socket.on("error", () => done("reset"));
    const header = Object.entries(scriptHeader(script)).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n${header.join("")}content-length: ${body.length}\r\n\r\n${body}`,
    );
  });
}

/** The payloads of HTTP's chunked coding. */
function unchunked({ body }: Seen): string[] {
  const payloads: string[] = [];
  for (let at = 0; ; ) {
    const start = body.indexOf("\r\n", at) + 2;
    const size = Number.parseInt(body.toString("latin1", at, start), 16);
    if (size === 0) return payloads;
    payloads.push(body.toString("latin1", start, start + size));
    at = start + size + 2;
  }
}

const chunks = ["a", "b", "c", "d"];
/** Role, four deltas, finish, [DONE]. */
const EVENTS = 7;

describe("faults", () => {
  for (const kind of ["reset", "silence", "half_close"] as const) {
    const end = { reset: "reset", silence: "open", half_close: "end" }[kind];
    it(`${kind} before the head`, async () => {
      const seen = await ask({ fault: { kind } });
      assert.deepEqual([seen.reads.length, seen.end], [0, end]);
    });
    it(`${kind} after three events`, async () => {
      const seen = await ask({ chunks, fault: { kind, afterEvents: 3 } });
      assert.deepEqual([seen.events.length, seen.end], [3, end]);
    });
    it(`${kind} halfway through an answer that is not streamed`, async () => {
      const seen = await ask({ fault: { kind, afterEvents: 0 } }, { stream: false });
      const announced = Number(/content-length: (\d+)/.exec(seen.head)?.[1]);
      assert.equal(seen.body.length, announced >> 1);
      assert.equal(seen.end, end);
    });
  }

  it("malformed_event: one event that is no JSON, the rest as it was", async () => {
    const { events } = await ask({ chunks, fault: { kind: "malformed_event", afterEvents: 2 } });
    assert.equal(events.length, EVENTS + 1);
    assert.equal(events[2], 'data: {"broken": ');
    assert.equal(events.at(-1), "data: [DONE]");
  });

  it("oversize_event: valid, and as large as asked", async () => {
    const { events } = await ask({
      chunks,
      fault: { kind: "oversize_event", afterEvents: 2, bytes: 200_000 },
    });
    assert.equal(events.length, EVENTS);
    const value = JSON.parse(events[2]!.slice(6)) as { padding: string; object: string };
    assert.deepEqual([value.padding.length, value.object], [200_000, "chat.completion.chunk"]);
  });

  it("wrong_content_type, with the body as it was", async () => {
    const seen = await ask({ chunks, fault: { kind: "wrong_content_type" } });
    assert.match(seen.head, /content-type: text\/plain/);
    assert.equal(seen.events.length, EVENTS);
    const whole = await ask({ fault: { kind: "wrong_content_type" } }, { stream: false, openMs: 50 });
    assert.match(whole.head, /content-type: text\/html/);
  });

  it("status in the vendor's shape, with retry-after", async () => {
    const seen = await ask({ fault: { kind: "status", status: 429, retryAfter: 7 } }, { openMs: 50 });
    assert.match(seen.head, /^HTTP\/1.1 429 .*retry-after: 7/s);
    assert.equal(JSON.parse(seen.body.toString()).error.code, "rate_limit_exceeded");
  });

  it("error_event ends the stream cleanly after the error", async () => {
    const { events, body } = await ask({
      chunks,
      fault: { kind: "error_event", afterEvents: 2, status: 503 },
    });
    assert.equal(events.length, 3);
    assert.equal(JSON.parse(events[2]!.slice(6)).error.code, "overloaded");
    assert.ok(body.toString().endsWith("\r\n0\r\n\r\n"));
  });

  it("json_for_stream answers whole", async () => {
    const seen = await ask({ text: "x", fault: { kind: "json_for_stream" } }, { openMs: 50 });
    assert.match(seen.head, /content-type: application\/json/);
    assert.equal(JSON.parse(seen.body.toString()).choices[0].message.content, "x");
  });

  it("truncate cuts inside an event, and HTTP ends cleanly", async () => {
    const { events, body } = await ask({ chunks, fault: { kind: "truncate", afterEvents: 2 } });
    assert.equal(events.length, 3);
    assert.throws(() => JSON.parse(events[2]!.slice(6)));
    assert.ok(body.toString().endsWith("\r\n0\r\n\r\n"));
    const whole = await ask({ fault: { kind: "truncate" } }, { stream: false, openMs: 50 });
    assert.match(whole.head, new RegExp(`content-length: ${whole.body.length}\\b`));
    assert.throws(() => JSON.parse(whole.body.toString()));
  });

  it("no_terminal leaves the last event out, or all after the given one", async () => {
    const { events } = await ask({ chunks, fault: { kind: "no_terminal" } });
    assert.deepEqual([events.length, events.includes("data: [DONE]")], [EVENTS - 1, false]);
    assert.equal((await ask({ chunks, fault: { kind: "no_terminal", afterEvents: 2 } })).events.length, 2);
  });

  it("slow_headers: the head comes in pieces", async () => {
    const script: Script = { chunks, eventGapMs: 4, fault: { kind: "slow_headers", bytes: 100 } };
    const seen = await ask(script, { openMs: 5_000 });
    assert.ok(seen.reads.length >= 4 && seen.reads[0]!.text.length <= 100, `${seen.reads.length} reads`);
    assert.deepEqual([seen.events.length, seen.end], [EVENTS, "end"]);
  });

  it("bad_encoding: gzip that nobody asked for", async () => {
    const seen = await ask({ text: "x", fault: { kind: "bad_encoding" } }, { stream: false, openMs: 50 });
    assert.match(seen.head, /content-encoding: gzip/);
    assert.equal(JSON.parse(gunzipSync(seen.body).toString()).object, "chat.completion");
  });

  it("bad_utf8: bytes inside a text that no UTF-8 decoder takes", async () => {
    for (const stream of [true, false]) {
      const { body } = await ask({ chunks, fault: { kind: "bad_utf8" } }, { stream, openMs: 80 });
      assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(body), `stream ${stream}`);
    }
  });
});

describe("pace", () => {
  it("eventGapMs lies between events, firstByteDelayMs before everything", async () => {
    const { reads } = await ask({ chunks, eventGapMs: 15, firstByteDelayMs: 40 }, { openMs: 5_000 });
    assert.ok(reads[0]!.atMs >= 39, `first byte after ${reads[0]!.atMs} ms`);
    const tookMs = reads.at(-1)!.atMs - reads[0]!.atMs;
    assert.ok(tookMs >= 15 * (EVENTS - 1) - 3, `${tookMs} ms for ${EVENTS} events`);
    assert.ok(reads.length >= EVENTS - 1);
  });

  it("tokensPerSecond counts the pieces of text", async () => {
    const { reads } = await ask({ words: 10, tokensPerSecond: 200 }, { openMs: 5_000 });
    const tookMs = reads.at(-1)!.atMs - reads[0]!.atMs;
    assert.ok(tookMs >= 44 && tookMs < 2_000, `${tookMs} ms for 10 tokens`);
  });

  it("byteChunks cuts anywhere, coalesce sends all at once; the text stays", async () => {
    const clean = unchunked(await ask({ chunks }));
    assert.equal(clean.length, EVENTS);
    for (const size of [1, 7, 1_000]) {
      const cut = unchunked(await ask({ chunks, byteChunks: size }, { openMs: 2_000 }));
      assert.ok(cut.slice(0, -1).every((one) => one.length === size));
      assert.deepEqual(cut.join(""), clean.join(""));
    }
    assert.deepEqual(unchunked(await ask({ chunks, coalesce: true })), [clean.join("")]);
  });

  it("waits for a receiver that is slower than the answer", async () => {
    const text = "0123456789".repeat(800_000);
    const response = await fetch(`${simulator.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "x-sim-script": JSON.stringify({ words: 100_000 }) },
      body: JSON.stringify({ model: "m", messages: [{}], stream: true }),
    });
    let bytes = 0;
    for await (const part of response.body!) bytes += part.length;
    assert.ok(bytes > 15_000_000, `${bytes} bytes`);
    simulator.setScript({ times: 1, script: { text } });
    const json = (await (
      await fetch(`${simulator.url}/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model: "m", messages: [{}] }),
      })
    ).json()) as { choices: { message: { content: string } }[] };
    assert.equal(json.choices[0]?.message.content, text);
  });
});
