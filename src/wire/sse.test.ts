/** The event-stream codec: the grammar, every way of cutting a stream, its bounds and its speed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeSse, SseDecoder, type SseEvent, SseFault } from "./sse.ts";

const BOUND = 1 << 20;

interface Decoded {
  readonly events: readonly SseEvent[];
  readonly comments: number;
  readonly end: string;
}

function decode(chunks: readonly Uint8Array[], eventBytesMax = BOUND): Decoded {
  const decoder = new SseDecoder({ eventBytesMax });
  const events: SseEvent[] = [];
  let comments = 0;
  try {
    for (const chunk of chunks) {
      decoder.push(
        chunk,
        (event) => events.push(event),
        () => {
          comments += 1;
        },
      );
    }
  } catch (error) {
    assert.ok(error instanceof SseFault);
    return { events, comments, end: error.code };
  }
  return { events, comments, end: decoder.end() };
}

function cutAt(bytes: Buffer, offsets: readonly number[]): Buffer[] {
  const edges = [0, ...offsets, bytes.length];
  return edges.slice(1).map((end, i) => bytes.subarray(edges[i], end));
}

/** Small linear congruential generator: the seed alone replays a failure. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const NBSP = "\u00a0";
const GRAMMAR: readonly (readonly [why: string, wire: string, events: readonly SseEvent[], end?: string])[] =
  [
    ["named", "event: a\ndata: 1\n\n", [{ event: "a", data: "1" }]],
    ["unnamed", "data: 1\n\n", [{ event: "", data: "1" }]],
    ["several data lines", "data: 1\ndata:\ndata: 2\n\n", [{ event: "", data: "1\n\n2" }]],
    ["only one space goes", "data:  1 \n\n", [{ event: "", data: " 1 " }]],
    ["no space", "event:a\ndata:1\n\n", [{ event: "a", data: "1" }]],
    ["NBSP is no space", `data:${NBSP}1${NBSP}\n\n`, [{ event: "", data: `${NBSP}1${NBSP}` }]],
    ["tab is no space", "data:\t1\n\n", [{ event: "", data: "\t1" }]],
    ["CR", "event: a\rdata: 1\r\r", [{ event: "a", data: "1" }]],
    ["CRLF", "event: a\r\ndata: 1\r\n\r\n", [{ event: "a", data: "1" }]],
    [
      "mixed ends",
      "data: 1\r\n\rdata: 2\n\r\n",
      [
        { event: "", data: "1" },
        { event: "", data: "2" },
      ],
    ],
    ["BOM at the start", "\ufeffdata: 1\n\n", [{ event: "", data: "1" }]],
    ["BOM later is part of a name", "data: 1\n\n\ufeffdata: 2\n\n", [{ event: "", data: "1" }]],
    ["comments", ": x\ndata: 1\n:\n\n", [{ event: "", data: "1" }]],
    ["id and retry", "id: 7\nretry: 9\ndata: 1\n\n", [{ event: "", data: "1" }]],
    ["names are case-sensitive", "Data: 1\n data: 2\n\n", []],
    ["data without colon", "data\n\n", [{ event: "", data: "" }]],
    ["data without colon twice", "data\ndata\n\n", [{ event: "", data: "\n" }]],
    ["event without data is dropped", "event: a\n\ndata: 1\n\n", [{ event: "", data: "1" }]],
    ["event without colon clears", "event: a\nevent\ndata: 1\n\n", [{ event: "", data: "1" }]],
    ["last event name wins", "event: a\nevent: b\ndata: 1\n\n", [{ event: "b", data: "1" }]],
    ["datax is unknown", "datax: 1\ndata2\n\n", []],
    ["unterminated event", "data: 1\n\ndata: 2\n", [{ event: "", data: "1" }], "unterminated"],
    ["unterminated line", "data: 1\n\ndata: 2", [{ event: "", data: "1" }], "unterminated"],
    ["unterminated name", "event: a\n", [], "unterminated"],
    ["empty", "", []],
    ["U+2028 ends no line", "data: a\u2028b\u0085c\n\n", [{ event: "", data: "a\u2028b\u0085c" }]],
    ["NUL stays", "data: \u0000\n\n", [{ event: "", data: "\u0000" }]],
  ];

test("the grammar, whole and one byte at a time", () => {
  for (const [why, wire, events, end = "clean"] of GRAMMAR) {
    const bytes = Buffer.from(wire);
    for (const chunks of [[bytes], [...bytes].map((byte) => Uint8Array.of(byte))]) {
      const decoded = decode(chunks);
      assert.deepEqual(decoded.events, events, why);
      assert.equal(decoded.end, end, why);
    }
  }
});

const TRANSCRIPT = Buffer.from(
  [
    '\ufeffevent: message_start\ndata: {"type":"message_start"}\n\n',
    ': keep-alive é\n\nevent: ping\r\ndata: {"type": "ping"}\r\n\r\n',
    'data: {"text":"grüße 👩‍🚀 日本"}\rdata: second\r\r',
    "data\n\nevent: dropped\n\nid: 1\ndata:  two spaces\n\n",
    `data: ${"x".repeat(300)}\n\n: bye\n\ndata: [DONE]\n\n`,
  ].join(""),
);

test("every cut of a transcript gives the same events", () => {
  const whole = decode([TRANSCRIPT]);
  assert.equal(whole.events.length, 7);
  assert.equal(whole.comments, 2);
  assert.equal(whole.end, "clean");
  for (let at = 0; at <= TRANSCRIPT.length; at++) {
    assert.deepEqual(decode(cutAt(TRANSCRIPT, [at])), whole, `cut at ${at}`);
  }
});

test("2,000 random chunkings of good and bad transcripts give the same events", (t) => {
  const seed = Date.now() % 1e9;
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const bad = Buffer.concat([TRANSCRIPT, Buffer.from("data: \xff\n\ndata: 1\n\n", "latin1"), TRANSCRIPT]);
  const cases: readonly (readonly [Buffer, number, string])[] = [
    [TRANSCRIPT, BOUND, "clean"],
    [bad, BOUND, "utf8"],
    [TRANSCRIPT, 200, "event_too_large"],
    [TRANSCRIPT, 307, "clean"],
    [TRANSCRIPT, 305, "event_too_large"],
    [TRANSCRIPT.subarray(0, -1), BOUND, "unterminated"],
  ];
  for (let round = 0; round < 2_000; round++) {
    const [bytes, bound, end] = cases[round % cases.length]!;
    const cuts = Array.from({ length: Math.floor(next() * 12) }, () => Math.floor(next() * bytes.length));
    const decoded = decode(
      cutAt(
        bytes,
        cuts.sort((a, b) => a - b),
      ),
      bound,
    );
    const whole = decode([bytes], bound);
    assert.equal(decoded.end, end, `seed ${seed}, round ${round}`);
    assert.deepEqual(decoded, whole, `seed ${seed}, round ${round}, cuts ${cuts}`);
  }
});

test("bad UTF-8 is refused, at the line that has it", () => {
  for (const bad of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0xaf], [0xf5, 0x80, 0x80, 0x80]]) {
    const bytes = Buffer.concat([Buffer.from("data: 1\n\n: "), Buffer.from(bad), Buffer.from("\n\n")]);
    assert.deepEqual(decode([bytes]), { events: [{ event: "", data: "1" }], comments: 0, end: "utf8" });
  }
});

test("an event is bounded, whatever its shape, in linear time", () => {
  const big = Buffer.alloc(10 << 20, "x");
  const small = Buffer.alloc(1 << 16, "x");
  // This thread's own time: neighbours of the machine have no part in it.
  const spentMs = () => process.threadCpuUsage().user / 1000;
  const startedMs = spentMs();
  assert.equal(decode([big]).end, "event_too_large");
  assert.equal(decode(Array.from({ length: 160 }, () => small)).end, "event_too_large");
  assert.equal(decode(Array.from({ length: BOUND + 1 }, () => small.subarray(0, 1))).end, "event_too_large");
  assert.equal(decode([Buffer.from("data: 12345678\n".repeat(100_000))]).end, "event_too_large");
  assert.equal(decode([Buffer.from("data\n".repeat(300_000))]).end, "event_too_large");
  assert.equal(decode([Buffer.from(`: ${"x".repeat(BOUND)}\n`)]).end, "event_too_large");
  assert.ok(spentMs() - startedMs < 2_000, "took too long for linear work");
  // What is not kept is not counted: an hour of keep-alives without a blank line is no large event.
  assert.deepEqual(decode([Buffer.from(": ping\nid: 7\n".repeat(200_000))]).end, "clean");
  assert.equal(decode([Buffer.from("data: 12345\n\n")], 11).events.length, 1);
  assert.equal(decode([Buffer.from("data: 123456\n\n")], 11).end, "event_too_large");
  assert.equal(decode([Buffer.from("data: é23456\n\n")], 13).events.length, 1);
  assert.equal(decode([Buffer.from("data: é23456\n\n")], 12).end, "event_too_large");
});

test("encoding is canonical and decodes to itself", () => {
  assert.equal(encodeSse({ event: "a", data: "1" }), "event: a\ndata: 1\n\n");
  assert.equal(encodeSse({ event: "", data: "1\n\n 2" }), "data: 1\ndata: \ndata:  2\n\n");
  for (const [, , events] of GRAMMAR) {
    assert.deepEqual(decode([Buffer.from(events.map(encodeSse).join(""))]).events, events);
  }
});

test("100 events of 150 bytes in one chunk stay well under 40 µs", (t) => {
  const event = `event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"${"w".repeat(40)}"}}\n\n`;
  const chunk = Buffer.from(event.repeat(100));
  let seen = 0;
  const rounds = 2_000;
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 4; attempt++) {
    const decoder = new SseDecoder({ eventBytesMax: BOUND });
    const started = performance.now();
    for (let i = 0; i < rounds; i++) decoder.push(chunk, (e) => (seen += e.data.length));
    best = Math.min(best, ((performance.now() - started) * 1_000) / rounds);
  }
  assert.ok(seen > 0);
  t.diagnostic(`${best.toFixed(1)} µs per chunk of 100 events, decoding included`);
  assert.ok(best < 120, `${best} µs`);
});
