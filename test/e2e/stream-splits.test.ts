/**
 * Streams at every split. Transcripts of every streamed operation are recorded from the simulator, cut at
 * every byte and at 2,000 random chunkings, and sent through decoder, dialect, seats and hold-back: text and
 * usage must come out the same. A secret planted at any offset must never leave, whole or in part.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { outputSecrets } from "../../layers/output-secrets/layer.ts";
import { anthropic } from "../../src/dialect/anthropic/index.ts";
import type { Dialect } from "../../src/dialect/dialect.ts";
import { openai } from "../../src/dialect/openai/index.ts";
import { IDLE_PORTS, type Operation, type Usage } from "../../src/layer/index.ts";
import { HoldBack } from "../../src/pipeline/hold-back.ts";
import { Passage } from "../../src/pipeline/passage.ts";
import { VerdictCache } from "../../src/pipeline/verdict-cache.ts";
import type { Snapshot } from "../../src/policy/snapshot.ts";
import { SseDecoder } from "../../src/wire/sse.ts";
import { type House, KEY, NO_SEATS, openHouse, seeded } from "../support/house.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
/** Built here so that no scanner takes this file for a leak. */
const SECRET = ["AKIA", "Q7XJ2M4N", "5P6R3STU"].join("");
const MARK = "[redacted:aws-access-key]";

interface Recorded {
  readonly name: string;
  readonly dialect: Dialect;
  readonly operation: Operation;
  readonly bytes: Buffer;
}

const kind = outputSecrets;
const layer = kind.compile(kind.config.parse({}), {
  seat: "output-secrets",
  ...IDLE_PORTS,
  artifacts: { text: () => "", bytes: () => new Uint8Array() },
});
const snapshot: Snapshot = {
  revision: "test",
  seats: [
    {
      id: "output-secrets",
      use: kind.kind,
      mode: "enforce",
      rollout: 100,
      sample: 1,
      onError: "block",
      timeoutMs: 100,
      when: undefined,
      layer,
      config: {},
      phases: kind.phases,
      holdMax: 0,
      fingerprint: "f",
    },
  ],
  routes: new Set(),
  passThrough: [],
  unknownFields: "scan",
  unknownEvents: "scan",
  redaction: "[redacted:{kind}]",
};

interface Relayed {
  readonly out: string;
  readonly usage: Usage;
  readonly state: string;
}

/** Chunks in, client bytes out; `watch` sees all that has left after each chunk. */
async function relay(
  recorded: Recorded,
  chunks: Iterable<Buffer>,
  watch?: (out: string) => void,
): Promise<Relayed> {
  const { dialect, operation } = recorded;
  const facts = { id: "req_1", dialect: dialect.name, operation, route: "r", address: "127.0.0.1" };
  let out = "";
  const engine = new HoldBack({
    judge: new Passage(snapshot, facts, new VerdictCache({ entriesMax: 0 })),
    stream: dialect.openAnswerStream(operation),
    redaction: snapshot.redaction,
    heldUnitsMax: 1_000_000,
    unknownEvents: "scan",
    emit: (text) => {
      out += text;
    },
  });
  const decoder = new SseDecoder({ eventBytesMax: 1_000_000 });
  let state = "open";
  for (const chunk of chunks) {
    decoder.push(chunk, (event) => {
      if (state !== "open") return;
      const next = engine.push(event);
      assert.ok(!(next instanceof Promise), "nothing here is asynchronous");
      state = next.state;
      if (next.state === "ended") out += next.tail;
    });
    watch?.(out);
  }
  if (state === "open") await engine.finish();
  return { out, usage: engine.usage, state };
}

/** The text of every channel, read from client bytes by a fresh reader. */
function texts(recorded: Recorded, out: string): Map<string, string> {
  const stream = recorded.dialect.openAnswerStream(recorded.operation);
  const found = new Map<string, string>();
  const decoder = new SseDecoder({ eventBytesMax: 1_000_000 });
  decoder.push(Buffer.from(out), (event) => {
    for (const { channel, text } of stream.read(event).segments)
      found.set(channel, (found.get(channel) ?? "") + text);
  });
  return found;
}

function* cut(bytes: Buffer, sizes: () => number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const size = Math.max(1, sizes());
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

describe(`streams at every split (seed ${SEED})`, () => {
  let house: House;
  const transcripts: Recorded[] = [];

  async function record(name: string, path: string, body: object, script?: object): Promise<Recorded> {
    const model = `rec-${transcripts.length}-${name.replaceAll(/\W/g, "")}`;
    if (script !== undefined) {
      await fetch(`${house.simulator.url}/_script?model=${model}`, {
        method: "POST",
        body: JSON.stringify(script),
      });
    }
    const isAnthropic = path === "/v1/messages";
    const response = await fetch(house.simulator.url + path, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-api-key": KEY,
        ...(isAnthropic && { "anthropic-version": "2023-06-01" }),
      },
      body: JSON.stringify({ ...body, model, stream: true }),
    });
    const operation = (
      {
        "/v1/chat/completions": "chat",
        "/v1/completions": "completions",
        "/v1/responses": "responses",
        "/v1/messages": "messages",
      } as const
    )[path]!;
    return {
      name,
      dialect: isAnthropic ? anthropic : openai,
      operation,
      bytes: Buffer.from(await response.arrayBuffer()),
    };
  }

  before(async () => {
    house = await openHouse({ policy: NO_SEATS });
    const messages = [{ role: "user", content: "hello" }];
    const text = { text: "Short words, naïve café, 😀 and 語. Done at last" };
    const tool = { toolCalls: [{ name: "f", arguments: '{"city":"Bergen","n":[1,2]}' }] };
    const cases: [string, string, object, object][] = [
      ["chat", "/v1/chat/completions", { messages, stream_options: { include_usage: true } }, text],
      ["chat, n = 2, logprobs", "/v1/chat/completions", { messages, n: 2, logprobs: true }, text],
      ["chat with tools", "/v1/chat/completions", { messages }, tool],
      ["chat with thinking", "/v1/chat/completions", { messages }, { ...text, thinking: "Hm, so." }],
      ["completions", "/v1/completions", { prompt: "once" }, text],
      ["responses", "/v1/responses", { input: "hello" }, text],
      ["responses with tools", "/v1/responses", { input: "hello" }, tool],
      ["messages", "/v1/messages", { messages, max_tokens: 99 }, text],
      ["messages with tools", "/v1/messages", { messages, max_tokens: 99 }, tool],
      [
        "messages with thinking",
        "/v1/messages",
        { messages, max_tokens: 99 },
        { ...text, thinking: "Hm, so." },
      ],
    ];
    for (const [name, path, body, script] of cases) transcripts.push(await record(name, path, body, script));
  });
  after(() => house.close());

  it("an untouched transcript comes out event for event", async () => {
    for (const recorded of transcripts) {
      const { out, state } = await relay(recorded, [recorded.bytes]);
      assert.equal(state, "ended", recorded.name);
      assert.equal(out, recorded.bytes.toString(), recorded.name);
    }
  });

  it("cut in two at every byte: the same bytes and usage", async () => {
    for (const recorded of transcripts) {
      const { bytes } = recorded;
      const whole = await relay(recorded, [bytes]);
      for (let at = 1; at < bytes.length; at++) {
        const { out, usage } = await relay(recorded, [bytes.subarray(0, at), bytes.subarray(at)]);
        if (out !== whole.out) assert.equal(out, whole.out, `${recorded.name} cut at ${at}`);
        assert.deepEqual(usage, whole.usage);
      }
    }
  });

  it("2,000 random chunkings: the same bytes and usage", async () => {
    const random = seeded(SEED);
    const wholes = await Promise.all(transcripts.map((recorded) => relay(recorded, [recorded.bytes])));
    for (let run = 0; run < 2_000; run++) {
      const index = run % transcripts.length;
      const most = 1 + Math.floor(random() ** 3 * 400);
      const { out, usage } = await relay(
        transcripts[index]!,
        cut(transcripts[index]!.bytes, () => Math.floor(random() * most)),
      );
      if (out !== wholes[index]!.out)
        assert.equal(out, wholes[index]!.out, `${transcripts[index]!.name} run ${run}`);
      assert.deepEqual(usage, wholes[index]!.usage);
    }
  });

  it("a secret planted at any offset, in events of any size, never leaves", async () => {
    const around = "The key that you asked for stands here, and after it comes more text";
    const random = seeded(SEED + 1);
    for (const path of ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]) {
      for (let at = 0; at <= around.length; at += 3) {
        const planted = `${around.slice(0, at)} ${SECRET} ${around.slice(at)}`;
        const chunks: string[] = [];
        for (let from = 0; from < planted.length; ) {
          const size = 1 + Math.floor(random() * 7);
          chunks.push(planted.slice(from, from + size));
          from += size;
        }
        const body = { messages: [{ role: "user", content: "x" }], input: "x", prompt: "x", max_tokens: 99 };
        const recorded = await record(`${path}${at}`, path, body, { chunks });
        const { out } = await relay(
          recorded,
          cut(recorded.bytes, () => Math.floor(random() * 90)),
          (left) => {
            for (const text of texts(recorded, left).values()) {
              for (let length = 5; length <= SECRET.length; length++) {
                assert.ok(
                  !text.includes(SECRET.slice(0, length)),
                  `${path} at ${at}: ${length} units of the secret left`,
                );
              }
            }
          },
        );
        const found = [...texts(recorded, out).values()].filter(
          (text) => text.includes("asked for") || text.includes(MARK),
        );
        assert.ok(found.length > 0, `${path} at ${at}`);
        for (const text of found) assert.equal(text, planted.replace(SECRET, MARK), `${path} at ${at}`);
      }
    }
  });
});
