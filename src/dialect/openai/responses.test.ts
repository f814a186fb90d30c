/** Responses events of every kind and whole responses: golden readings, repetitions, endings. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { AnswerStream, EventReading, Json, JsonObject } from "../dialect.ts";
import { golden } from "./golden.ts";
import { openai } from "./index.ts";
import { EVENTS } from "./response-events.ts";
import { OTHER_RESPONSE_EVENTS, RESPONSE_EVENTS } from "./transcripts.ts";

function read(stream: AnswerStream, event: JsonObject): EventReading {
  return stream.read({ event: String(event["type"]), data: JSON.stringify(event) });
}

function brief(type: Json | undefined, reading: EventReading): JsonObject {
  const { closes, terminal, modelled, usage, upstreamError } = reading;
  return {
    type: type ?? null,
    segments: reading.segments.map((s) => `${s.channel} (${s.kind} ${s.choice}) ${JSON.stringify(s.text)}`),
    ...(closes.length > 0 ? { closes: [...closes] } : {}),
    ...(terminal ? { terminal } : {}),
    ...(modelled ? {} : { modelled }),
    ...(usage === undefined ? {} : { usage: { ...usage } }),
    ...(upstreamError === undefined ? {} : { upstreamError }),
  };
}

test("golden: a transcript, and every other kind of event", () => {
  for (const [name, events] of [
    ["stream-responses", RESPONSE_EVENTS],
    ["stream-responses-others", OTHER_RESPONSE_EVENTS],
  ] as const) {
    const stream = openai.openAnswerStream("responses");
    golden(
      name,
      events.map((event) => brief(event["type"], read(stream, event))),
    );
  }
});

test("the table knows every event of the SDK's own declarations, and the transcripts show each", () => {
  const file = new URL("../../../node_modules/openai/resources/responses/responses.d.ts", import.meta.url);
  const source = readFileSync(file, "utf8");
  const union = /export type ResponseStreamEvent = ([^;]+);/.exec(source)?.[1] ?? "";
  const names = union.split("|").map((name) => name.trim());
  assert.ok(names.length > 50);
  const types = names.map((name) => {
    const body = new RegExp(`export interface ${name} \\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? "";
    return [...body.matchAll(/^ {4}type: '([\w.]+)'/gm)].map((match) => match[1]!)[0] ?? name;
  });
  assert.deepEqual(
    types.filter((type) => !EVENTS.has(type)),
    [],
  );
  const shown = new Set([...RESPONSE_EVENTS, ...OTHER_RESPONSE_EVENTS].map((event) => event["type"]));
  assert.deepEqual(
    [...EVENTS.keys()].filter((type) => !shown.has(type)),
    [],
  );
});

test("a text that is cut is cut from every repetition, with its tokens", () => {
  const stream = openai.openAnswerStream("responses");
  const told = new Set<string>();
  for (const event of RESPONSE_EVENTS) {
    const reading = read(stream, event);
    for (const { channel } of reading.segments) {
      if (reading.closes.includes(channel)) {
        assert.ok(!told.has(channel), channel);
        told.add(channel);
      }
    }
    const original = reading.segments.map(({ text }) => text);
    assert.equal(reading.rewrite(original), JSON.stringify(event));
    const cut = reading.rewrite(
      original.map((text) => text.replaceAll(" there", "*").replaceAll("Oslo", "*")),
    );
    assert.ok(!cut.includes(" there") && !cut.includes("Oslo"), cut);
    assert.doesNotThrow(() => JSON.parse(cut));
    assert.equal(reading.splitBefore, undefined);
  }
  for (const channel of [
    "answer:1:0#text_done",
    "answer:1:0#item_done",
    "answer:1:0#completed",
    "tool:2#completed",
  ])
    assert.ok(told.has(channel), channel);
});

test("golden: a whole response, withheld and cut", () => {
  const body = RESPONSE_EVENTS.at(-1)!["response"] as JsonObject;
  const answer = openai.readAnswer("responses", body);
  assert.equal(answer.modelled, true);
  golden("answer-responses", {
    segments: answer.segments.map((s) => `${s.channel} (${s.kind} ${s.choice}) ${JSON.stringify(s.text)}`),
    usage: answer.usage,
    withheld: JSON.parse(answer.withheld() ?? ""),
  });
  assert.deepEqual(JSON.parse(answer.rewrite(answer.segments.map(({ text }) => text))), body);
  assert.ok(
    !answer.rewrite(answer.segments.map(({ text }) => text.replaceAll("Hello", "*"))).includes("Hello"),
  );
  assert.equal(openai.readAnswer("responses", { ...body, odd: 1 }).modelled, false);
  assert.equal(
    openai.readAnswer("responses", { ...body, output: [{ type: "novel", id: "n" }] }).modelled,
    false,
  );
});

test("a secret cut anywhere over two unmodelled events is whole on one channel", () => {
  const secret = "sk-fake-0123456789";
  const novel = (output_index: number, delta: string): JsonObject => ({
    type: "response.novel.delta",
    item_id: "n1",
    output_index,
    sequence_number: 7,
    delta,
    nested: { words: [delta] },
  });
  for (const operation of ["responses", "chat", "completions", "models"] as const) {
    for (let cut = 1; cut < secret.length; cut++) {
      const told = new Map<string, string>();
      const stream = openai.openAnswerStream(operation);
      const json = operation !== "chat" && operation !== "completions";
      for (const part of [secret.slice(0, cut), secret.slice(cut)]) {
        const events = [
          { event: "", data: part },
          ...(json ? [novel(0, part), novel(1, "between")] : []).map((body) => ({
            event: String(body["type"]),
            data: JSON.stringify(body),
          })),
          { event: "", data: JSON.stringify([part]) },
        ];
        for (const event of events) {
          const reading = stream.read(event);
          assert.equal(reading.modelled, false);
          const texts = reading.segments.map(({ text }) => text);
          assert.equal(reading.rewrite(texts), event.data);
          for (let i = 0; i < texts.length; i++) assert.equal(reading.rewrite(texts.with(i, "*")), "");
          for (const { channel, text } of reading.segments) {
            if (reading.closes.includes(channel)) assert.ok(!told.has(channel), channel);
            told.set(channel, `${told.get(channel) ?? ""}${text}`);
          }
          for (const channel of reading.closes) assert.match(channel, /^other:alone:/);
        }
      }
      const whole = ["other:unmodelled", "other:unmodelled:/0"];
      if (json) whole.push("other:unmodelled:0/delta", "other:unmodelled:0/nested/words/0");
      for (const channel of whole)
        assert.equal(told.get(channel), secret, `${operation} ${channel} cut at ${cut}`);
    }
  }
});

test("a part that was done and speaks on is cut", () => {
  const stream = openai.openAnswerStream("responses");
  const at = { output_index: 0, content_index: 0, item_id: "m" };
  const said = (delta: string) => read(stream, { type: "response.output_text.delta", ...at, delta });
  assert.equal(said("a").unjudgeable, false);
  read(stream, { type: "response.output_text.done", ...at, text: "a" });
  assert.equal(said("b").unjudgeable, true);
});

test("places without end share one channel, and so do deep ones", () => {
  const stream = openai.openAnswerStream("responses");
  const channels = new Set<string>();
  const told = (body: JsonObject): void => {
    for (const { channel } of read(stream, { type: "novel", ...body }).segments) channels.add(channel);
  };
  let deep: Json = "bottom";
  for (let i = 0; i < 500; i++) deep = { down: deep };
  told({ deep });
  assert.deepEqual([...channels].slice(0, 1), ["other:unmodelled"]);
  told(Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`m${i}`, "x"])));
  // 1024 places, the shared channel, and the names of two events.
  assert.equal(channels.size, 1_024 + 3);
});

test("golden: endings at the head, within a part and after an item", () => {
  const stream = openai.openAnswerStream("responses");
  const readings = RESPONSE_EVENTS.map((event) => read(stream, event));
  const at = (cut: number): Json =>
    endingAt(cut).map(({ event, data }) => ({ event, data: JSON.parse(data) }));
  golden("ending-responses", { "0": at(0), "5": at(5), "12": at(12), "23": at(23) });
  assert.equal(stream.ending(readings.slice(12)).at(-1)?.event, "response.incomplete");
  assert.deepEqual(
    stream.ending(readings.slice(12)).map(({ event }) => event),
    [
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.incomplete",
    ],
  );
});

/** The ending of a stream of which `cut` events were read. */
function endingAt(cut: number) {
  const stream = openai.openAnswerStream("responses");
  for (const event of RESPONSE_EVENTS.slice(0, cut)) read(stream, event);
  return stream.ending();
}
