/**
 * The answer side's door: which reader serves which operation, and what an answer becomes when its content
 * is withheld. Withheld answers are built anew from ids and numbers; no word of the original is carried over.
 */
import type { Operation } from "../../layer/index.ts";
import type { AnswerReading, AnswerStream, EventReading, Json, JsonObject } from "../dialect.ts";
import { Unmodelled } from "../unmodelled.ts";
import type { ChunkOperation } from "./choices.ts";
import { ChunkStream, toldWhy } from "./chunks.ts";
import { errorBody } from "./errors.ts";
import { ERROR, PLAIN_ANSWERS } from "./fields.ts";
import { Gather } from "./gather.ts";
import { Bundle, type Holder, parse, Reading, unreadable } from "./reading.ts";
import { incomplete, minimalResponse } from "./response-outline.ts";
import { ResponseStream } from "./responses.ts";
import { isObject, objectRule } from "./shape.ts";

const NOTHING_KNOWN = objectRule("");
/** Members of a body that is an error and nothing else. */
const ERROR_ONLY = { ...NOTHING_KNOWN, members: new Map([["error", ERROR]]) };

export function openAnswerStream(operation: Operation): AnswerStream {
  if (operation === "chat" || operation === "completions") return new ChunkStream(operation);
  if (operation === "responses") return new ResponseStream();
  return unstreamed();
}

/** Operations that the vendor never streams: every event is unknown. */
function unstreamed(): AnswerStream {
  const unmodelled = new Unmodelled();
  let ordinal = 0;
  return {
    read(event): EventReading {
      return unreadable(unmodelled, event, parse(event.data), ordinal++);
    },
    ending: () => [],
    failure: (problem) => [{ event: "", data: errorBody(problem) }],
  };
}

export function readAnswer(operation: Operation, body: Json): AnswerReading {
  if (isObject(body) && isObject(body["error"]) && body["id"] === undefined)
    return readPlain(ERROR_ONLY, body);
  if (isObject(body) && (operation === "chat" || operation === "completions")) {
    const { reading, foreign } = new ChunkStream(operation, true).readWhole(body);
    return answer(reading, !foreign, (words) => withheldChunk(operation, body, words));
  }
  if (isObject(body) && operation === "responses") {
    const { reading, foreign } = new ResponseStream().readWhole(body);
    return answer(reading, !foreign, (words) => {
      const response = incomplete(minimalResponse(body), "filter", words);
      return JSON.stringify({ ...response, usage: numbersOnly(body["usage"]) ?? null });
    });
  }
  return readPlain(PLAIN_ANSWERS[operation] ?? NOTHING_KNOWN, body);
}

/** Answers without text of the model: every string in one bundle. */
function readPlain(rule: ReturnType<typeof objectRule>, body: Json): AnswerReading {
  const holder: Holder = { body };
  const bundle = new Bundle("other:rest", "other", 0);
  const gather = new Gather(() => bundle);
  gather.value(rule, holder, "body", "");
  const reading = new PlainReading(holder);
  if (bundle.entries.length > 0) reading.segments.push(bundle);
  if (isObject(body) && isObject(body["usage"])) {
    const tokens = body["usage"]["prompt_tokens"];
    if (typeof tokens === "number") reading.usage = { inputTokens: tokens };
  }
  return answer(reading, !gather.foreign, () => undefined);
}

/** Printed through a holder, so that a body that is itself a string can change. */
class PlainReading extends Reading {
  private readonly holder: Holder;
  constructor(holder: Holder) {
    super(undefined, null, 0);
    this.holder = holder;
  }
  protected override print(): string {
    return JSON.stringify(this.holder["body"] ?? null);
  }
}

function answer(reading: Reading, modelled: boolean, withheld: AnswerReading["withheld"]): AnswerReading {
  const { usage } = reading;
  return {
    segments: reading.segments,
    ...(usage === undefined ? {} : { usage }),
    modelled: modelled && reading.modelled,
    rewrite: (texts) => reading.rewrite(texts),
    withheld,
  };
}

function withheldChunk(operation: ChunkOperation, body: JsonObject, words?: string): string | undefined {
  const list = body["choices"];
  if (!Array.isArray(list)) return undefined;
  const chat = operation === "chat";
  const choices = list.map((choice, i): JsonObject => {
    const index = isObject(choice) && typeof choice["index"] === "number" ? choice["index"] : i;
    const content = chat ? { message: { role: "assistant", content: null, refusal: null } } : { text: "" };
    return { index, ...content, logprobs: null, finish_reason: "content_filter", ...toldWhy(words) };
  });
  return JSON.stringify({
    id: body["id"],
    object: chat ? "chat.completion" : "text_completion",
    created: body["created"],
    model: body["model"],
    choices,
    usage: numbersOnly(body["usage"]),
  });
}

/** Token counts as they came; anything else in their place goes. */
function numbersOnly(usage: Json | undefined): JsonObject | undefined {
  if (!isObject(usage)) return undefined;
  const counts: JsonObject = {};
  for (const name of Object.keys(usage)) {
    const value = usage[name];
    if (typeof value === "number") counts[name] = value;
    else if (isObject(value)) counts[name] = numbersOnly(value) ?? {};
  }
  return counts;
}
