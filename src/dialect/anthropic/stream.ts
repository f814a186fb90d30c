/**
 * A streamed message. Nearly all events are `content_block_delta`, so those take a short path of their own;
 * everything else goes along the tables. The stream remembers what a proper ending needs: whether the
 * client saw the message begin, which content blocks it saw open, and the tokens counted. What an event
 * changes counts from the next event on: when the gateway stops at an event, that event was never sent.
 *
 *   message_start  (content_block_start  content_block_delta*  content_block_stop)*  message_delta  message_stop
 */
import { type Channel, PROBLEMS, type Usage } from "../../layer/index.ts";
import type {
  AnswerStream,
  EventReading,
  Json,
  JsonObject,
  PublicProblem,
  Segment,
  SseEvent,
} from "../dialect.ts";
import {
  DONE_TO_INPUT,
  ERROR_FIELDS,
  isObject,
  MESSAGE_FIELDS,
  REFUSED,
  STOP,
  USAGE,
  usageOf,
} from "./answer.ts";
import { AnswerText, joinStrings, KINDS } from "./answer-text.ts";
import { BLOCK, CITATION } from "./blocks.ts";
import { errorBody } from "./errors.ts";
import { object, PLAIN, type Shape, type Speech, tagged, WORDS } from "./shape.ts";

/** Content blocks that may be open at once; the API opens one at a time. */
const OPEN_BLOCKS_MAX = 1024;
const NONE: readonly never[] = Object.freeze([]);

function spoken(speech: Speech): Shape {
  return { string: "words", speech };
}

const DELTA: Shape = {
  ...tagged({
    text_delta: { text: spoken("answer") },
    input_json_delta: { partial_json: spoken("tool") },
    thinking_delta: { thinking: spoken("thinking"), estimated_tokens: PLAIN },
    signature_delta: { signature: spoken("signature") },
    citations_delta: { citation: CITATION },
    compaction_delta: { content: WORDS, encrypted_content: WORDS },
  }),
  numbered: true,
};
const EVENTS: Shape = tagged({
  message_start: { message: tagged({ message: MESSAGE_FIELDS }) },
  content_block_start: { index: PLAIN, content_block: { ...BLOCK, numbered: true } },
  content_block_delta: { index: PLAIN, delta: DELTA },
  content_block_stop: { index: PLAIN },
  message_delta: { delta: object(STOP), usage: USAGE, ...DONE_TO_INPUT },
  message_stop: {},
  ping: {},
  error: ERROR_FIELDS,
});

/** For an answer that is stopped before the upstream's own first event was sent. */
const START = {
  type: "message_start",
  message: {
    id: "msg_withheld",
    type: "message",
    role: "assistant",
    model: "unknown",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 0, output_tokens: 0 },
  },
};

interface OpenBlock {
  readonly index: number;
  /** Channels that have had text and may get more. */
  readonly channels: Map<Speech, Channel>;
}

export class MessageStream implements AnswerStream {
  readonly #open = new Map<number, OpenBlock>();
  /** The block that the last delta went to: the map is asked only when it changes. */
  #current: OpenBlock | undefined;
  #highestIndex = -1;
  #events = 0;
  #usage: Usage | undefined;
  /** What the client saw: up to the event before the last one read. */
  #sawStart = false;
  readonly #sawOpen = new Set<number>();
  #last: JsonObject | undefined;
  #ended = false;

  read(event: SseEvent): EventReading {
    this.#events += 1;
    if (this.#last !== undefined) this.#noteSent(this.#last);
    let value: Json;
    try {
      value = JSON.parse(event.data) as Json;
    } catch {
      return this.#opaque(event, event.data);
    }
    if (isObject(value) && (value["type"] === event.event || event.event === "")) {
      const reading = value["type"] === "content_block_delta" ? this.#delta(value) : this.#structure(value);
      if (reading !== undefined) return reading;
    }
    return this.#opaque(event, value);
  }

  ending(): readonly SseEvent[] {
    if (this.#ended) return [];
    this.#ended = true;
    const { inputTokens, outputTokens = 0 } = this.#usage ?? {};
    const explanation = PROBLEMS.answer_blocked.text;
    return [
      ...(this.#sawStart ? [] : [START]),
      ...[...this.#sawOpen].sort((a, b) => a - b).map((index) => ({ type: "content_block_stop", index })),
      {
        type: "message_delta",
        delta: { ...REFUSED, stop_details: { ...REFUSED.stop_details, explanation } },
        usage: {
          ...(inputTokens === undefined ? {} : { input_tokens: inputTokens }),
          output_tokens: outputTokens,
        },
      },
      { type: "message_stop" },
    ].map((data) => ({ event: data.type, data: JSON.stringify(data) }));
  }

  failure(problem: PublicProblem): readonly SseEvent[] {
    if (this.#ended) return [];
    this.#ended = true;
    return [{ event: "error", data: errorBody(problem) }];
  }

  /** Undefined for a kind of delta that is not modelled, or one of no open block. */
  #delta(value: JsonObject): EventReading | undefined {
    const { index, delta } = value;
    if (!isObject(delta)) return undefined;
    const block = this.#blockAt(index);
    if (block === undefined) return undefined;
    switch (delta["type"]) {
      case "text_delta":
        return this.#run(value, delta, block, "answer", "text");
      case "input_json_delta":
        return this.#run(value, delta, block, "tool", "partial_json");
      case "thinking_delta":
        return this.#run(value, delta, block, "thinking", "thinking");
      case "signature_delta":
        return this.#run(value, delta, block, "signature", "signature");
      case "citations_delta":
        return this.#along(value, `citations:${block.index}:${this.#events}`, block);
      case "compaction_delta":
        return this.#along(value, `${this.#events}`, block);
      default:
        return undefined;
    }
  }

  /** A delta that carries one text and nothing else; any surprise goes along the tables instead. */
  #run(value: JsonObject, delta: JsonObject, block: OpenBlock, speech: Speech, field: string): EventReading {
    const text = delta[field];
    const plain =
      typeof text === "string" &&
      text !== "" &&
      countMembers(value) === 3 &&
      (countMembers(delta) === 2 || (speech === "thinking" && isEstimated(delta)));
    if (!plain) return this.#along(value, `${this.#events}`, block);
    let channel = block.channels.get(speech);
    if (channel === undefined) {
      channel = `${speech}:${block.index}`;
      block.channels.set(speech, channel);
    }
    return new RunReading(value, delta, field, { channel, kind: KINDS[speech], choice: 0, text });
  }

  /** Undefined for an event that is not modelled. */
  #structure(value: JsonObject): EventReading | undefined {
    const { type, index } = value;
    const prefix = `${this.#events}`;
    switch (type) {
      case "message_start":
        this.#last = value;
        if (isObject(value["message"])) this.#usage = usageOf(value["message"]["usage"], this.#usage);
        return this.#along(value, prefix, undefined, this.#usage);
      case "message_delta":
        this.#usage = usageOf(value["usage"], this.#usage);
        return this.#along(value, prefix, undefined, this.#usage);
      case "content_block_start": {
        const block =
          typeof index === "number" && index > this.#highestIndex ? this.#blockAt(index) : undefined;
        if (block === undefined) return undefined;
        this.#last = value;
        return this.#along(value, prefix, block);
      }
      case "content_block_stop": {
        const block = typeof index === "number" ? this.#open.get(index) : undefined;
        if (block !== undefined) this.#open.delete(block.index);
        if (block === this.#current) this.#current = undefined;
        this.#last = value;
        const reading = this.#along(value, prefix);
        return { ...reading, closes: [...reading.closes, ...(block?.channels.values() ?? NONE)] };
      }
      case "message_stop":
      case "ping":
        return { ...this.#along(value, prefix), terminal: type === "message_stop" };
      case "error": {
        const { error } = value;
        const upstreamError = isObject(error) ? `${error["type"]}: ${error["message"]}` : "error event";
        return { ...this.#along(value, prefix), terminal: true, upstreamError };
      }
      default:
        return undefined;
    }
  }

  /** The open block of this index, opened now when it is a new one. */
  #blockAt(index: Json | undefined): OpenBlock | undefined {
    if (this.#current !== undefined && this.#current.index === index) return this.#current;
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0) return undefined;
    let block = this.#open.get(index);
    if (block === undefined) {
      // What comes after a block's end has no place: its channels are closed.
      if (index <= this.#highestIndex || this.#open.size >= OPEN_BLOCKS_MAX) return undefined;
      block = { index, channels: new Map() };
      this.#open.set(index, block);
      this.#highestIndex = index;
    }
    this.#current = block;
    return block;
  }

  #along(value: JsonObject, prefix: string, block?: OpenBlock, usage?: Usage): EventReading {
    const text = new AnswerText(value, EVENTS, prefix, block?.index);
    for (const speech of text.open) block?.channels.set(speech, `${speech}:${block.index}`);
    return {
      segments: text.segments,
      closes: text.closes,
      terminal: false,
      modelled: text.modelled,
      ...(usage === undefined ? {} : { usage }),
      rewrite: (texts) => text.rewrite(texts),
    };
  }

  /** Text that nobody can place: judged as one run, and dropped when any of it may not leave. */
  #opaque(event: SseEvent, value: Json): EventReading {
    const text = joinStrings(value, event.event === "" ? [] : [event.event]);
    const channel = `other:${this.#events}`;
    return {
      segments: text === "" ? NONE : [{ channel, kind: "other", choice: 0, text }],
      closes: [channel],
      terminal: false,
      modelled: false,
      rewrite: (texts) => ((texts[0] ?? "") === text ? event.data : ""),
    };
  }

  #noteSent(last: JsonObject): void {
    this.#last = undefined;
    const index = last["index"] as number;
    if (last["type"] === "message_start") this.#sawStart = true;
    else if (last["type"] === "content_block_start") this.#sawOpen.add(index);
    else this.#sawOpen.delete(index);
  }
}

/** The reading of a delta with one text: made for nearly every event, so it is lean. */
class RunReading implements EventReading {
  readonly segments: readonly Segment[];
  readonly closes = NONE;
  readonly terminal = false;
  readonly modelled = true;
  readonly #value: JsonObject;
  readonly #delta: JsonObject;
  readonly #field: string;

  constructor(value: JsonObject, delta: JsonObject, field: string, segment: Segment) {
    this.segments = [segment];
    this.#value = value;
    this.#delta = delta;
    this.#field = field;
  }

  rewrite(texts: readonly string[]): string {
    return JSON.stringify({ ...this.#value, delta: { ...this.#delta, [this.#field]: texts[0] ?? "" } });
  }

  splitBefore(_index: number, text: string): string | undefined {
    // Clients append texts but replace signatures: half of one would be taken for the whole.
    if (this.#field === "signature") return undefined;
    const { type } = this.#delta;
    return JSON.stringify({
      type: "content_block_delta",
      index: this.#value["index"],
      delta: { type, [this.#field]: text },
    });
  }
}

function countMembers(value: JsonObject): number {
  let count = 0;
  for (const _name in value) count += 1;
  return count;
}

/** `thinking_delta` with the count of tokens that the beta API adds. */
function isEstimated(delta: JsonObject): boolean {
  const tokens = delta["estimated_tokens"];
  return countMembers(delta) === 3 && (tokens === null || typeof tokens === "number");
}
