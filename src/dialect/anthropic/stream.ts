/**
 * A streamed message. Nearly all events are `content_block_delta`, so those take a short path of their own;
 * everything else goes along the tables. The stream remembers what a proper ending needs: whether the
 * client saw the message begin, which content blocks it saw open, and the tokens counted.
 *
 *   message_start  (content_block_start  content_block_delta*  content_block_stop)*  message_delta  message_stop
 *
 * An event is what its JSON's `type` says, as in the official clients, whatever name it came under. A block
 * that speaks on after its stop has channels of the next generation ("answer:0~2"), open like the first.
 */
import { type Channel, PROBLEMS, type Usage } from "../../layer/index.ts";
import { parseJson } from "../../wire/json-text.ts";
import type {
  AnswerStream,
  EventReading,
  Json,
  JsonObject,
  PublicProblem,
  Segment,
  SseEvent,
  StopCause,
} from "../dialect.ts";
import { type Run, runOf, Unmodelled } from "../unmodelled.ts";
import {
  DONE_TO_INPUT,
  ERROR_FIELDS,
  isObject,
  MESSAGE_FIELDS,
  refused,
  STOP,
  USAGE,
  usageOf,
} from "./answer.ts";
import { AnswerText, KINDS, type StrangerPart } from "./answer-text.ts";
import { BLOCK, CITATION } from "./blocks.ts";
import { errorBody } from "./errors.ts";
import { object, PLAIN, type Shape, type Speech, tagged, WORDS } from "./shape.ts";

/** Content blocks of one stream with channels of their own; what lies past them is not modelled. */
const BLOCKS_MAX = 4_096;
/** Longer ids and names are not remembered, so that a second start of their block never says the same. */
const NAMED_UNITS_MAX = 256;
const NEVER = Number.POSITIVE_INFINITY;
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

/** How the API ends a message that reached its maximum. */
const AT_MAXIMUM = { stop_reason: "max_tokens", stop_sequence: null, stop_details: null };

interface OpenBlock {
  readonly index: number;
  /** End of its channels' names: "" until the block is stopped and speaks on. */
  readonly suffix: string;
  /** A content_block_start was read; what a second one says once has channels of its own. */
  started: boolean;
  /** Channels that have had text and may get more. */
  readonly channels: Map<Speech, Channel>;
}

/** Ordinals of the events that opened and closed a block. */
interface Span {
  readonly openedAt: number;
  closedAt: number;
}

/** A reading that knows its place in the stream, from 1. */
interface Placed extends EventReading {
  readonly ordinal: number;
}

export class MessageStream implements AnswerStream {
  readonly #open = new Map<number, OpenBlock>();
  /** The block that the last delta went to: the map is asked only when it changes. */
  #current: OpenBlock | undefined;
  #highestIndex = -1;
  #blocks = 0;
  #generation = 1;
  #events = 0;
  #usage: Usage | undefined;
  #startedAt = NEVER;
  readonly #spans = new Map<number, Span>();
  /** Speech of blocks that were stopped: what would go on from it has left. */
  readonly #said = new Set<string>();
  /** What each block's start said of id and name. */
  readonly #named = new Map<number, string>();
  readonly #unmodelled = new Unmodelled();
  #ended = false;

  read(event: SseEvent): Placed {
    this.#events += 1;
    let value: Json;
    try {
      value = parseJson(event.data);
    } catch {
      return this.#opaque(event, undefined);
    }
    if (!isObject(value)) return this.#opaque(event, value);
    const { type } = value;
    const reading = type === "content_block_delta" ? this.#delta(value) : this.#structure(value);
    if (reading === undefined) return this.#opaque(event, value);
    return type === event.event || event.event === ""
      ? reading
      : this.#misnamed(event, reading, String(type));
  }

  ending(unsent?: readonly EventReading[], why: StopCause = "filter", words?: string): readonly SseEvent[] {
    if (this.#ended) return [];
    this.#ended = true;
    // Only this class makes readings of this stream.
    const cut = (unsent?.[0] as Placed | undefined)?.ordinal ?? NEVER;
    const open = [...this.#spans].filter(([, span]) => span.openedAt < cut && span.closedAt >= cut);
    const { inputTokens, outputTokens = 0 } = this.#usage ?? {};
    const stop = why === "filter" ? refused(words ?? PROBLEMS.answer_blocked.text) : AT_MAXIMUM;
    return [
      ...(this.#startedAt < cut ? [] : [START]),
      ...open
        .map(([index]) => index)
        .sort((a, b) => a - b)
        .map((index) => ({ type: "content_block_stop", index })),
      {
        type: "message_delta",
        delta: stop,
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

  /** Undefined for a kind of delta that is not modelled, or one of no block. */
  #delta(value: JsonObject): Placed | undefined {
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
  #run(value: JsonObject, delta: JsonObject, block: OpenBlock, speech: Speech, field: string): Placed {
    const text = delta[field];
    const plain =
      typeof text === "string" &&
      text !== "" &&
      value["index"] === block.index &&
      countMembers(value) === 3 &&
      (countMembers(delta) === 2 || (speech === "thinking" && isEstimated(delta)));
    if (!plain) return this.#along(value, `${this.#events}`, block);
    let channel = block.channels.get(speech);
    if (channel === undefined) {
      channel = `${speech}:${block.index}${block.suffix}`;
      block.channels.set(speech, channel);
    }
    return new RunReading(
      this.#events,
      block.suffix === "",
      this.#resumes(speech, block),
      value,
      delta,
      field,
      {
        channel,
        kind: KINDS[speech],
        choice: 0,
        text,
      },
    );
  }

  /** Undefined for an event that is not modelled. */
  #structure(value: JsonObject): Placed | undefined {
    const { type, index } = value;
    const prefix = `${this.#events}`;
    switch (type) {
      case "message_start":
        this.#startedAt = Math.min(this.#startedAt, this.#events);
        if (isObject(value["message"])) this.#usage = usageOf(value["message"]["usage"], this.#usage);
        return this.#along(value, prefix, undefined, this.#usage);
      case "message_delta":
        this.#usage = usageOf(value["usage"], this.#usage);
        return this.#along(value, prefix, undefined, this.#usage);
      case "content_block_start": {
        const block = this.#blockAt(index);
        if (block === undefined) return undefined;
        this.#noteOpened(block.index);
        const once = block.started ? `~${this.#nextGeneration()}` : block.suffix;
        block.started = true;
        const reading = this.#along(value, prefix, block, undefined, once);
        return this.#isRenamed(block.index, value["content_block"])
          ? { ...reading, unjudgeable: true }
          : reading;
      }
      case "content_block_stop": {
        const number = indexOf(index);
        const block = this.#open.get(number);
        this.#open.delete(number);
        for (const speech of block?.channels.keys() ?? NONE) this.#said.add(`${speech}:${number}`);
        if (block === this.#current) this.#current = undefined;
        const span = this.#spans.get(number);
        if (span !== undefined) span.closedAt = Math.min(span.closedAt, this.#events);
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

  /** The open block of this index, opened now when none is. */
  #blockAt(value: Json | undefined): OpenBlock | undefined {
    if (this.#current !== undefined && this.#current.index === value) return this.#current;
    const index = indexOf(value);
    if (index < 0) return undefined;
    let block = this.#open.get(index);
    if (block === undefined) {
      if (this.#blocks >= BLOCKS_MAX) return undefined;
      this.#blocks += 1;
      // Below the highest, a block may have been stopped before: its channels are closed.
      const suffix = index > this.#highestIndex ? "" : `~${this.#nextGeneration()}`;
      block = { index, suffix, started: false, channels: new Map() };
      this.#open.set(index, block);
      this.#highestIndex = Math.max(this.#highestIndex, index);
    }
    this.#current = block;
    return block;
  }

  #nextGeneration(): number {
    this.#generation += 1;
    return this.#generation;
  }

  #noteOpened(index: number): void {
    const span = this.#spans.get(index);
    if (span === undefined || span.closedAt !== NEVER)
      this.#spans.set(index, { openedAt: this.#events, closedAt: NEVER });
  }

  /** True where a start says another id or name of a block than one before, which has left: who joins them is not safe. */
  #isRenamed(index: number, block: Json | undefined): boolean {
    if (!isObject(block)) return false;
    const { id, name } = block;
    if (typeof id !== "string" && typeof name !== "string") return false;
    const named = JSON.stringify([id, name]);
    const before = this.#named.get(index);
    if (before === undefined) this.#named.set(index, named.length > NAMED_UNITS_MAX ? "" : named);
    return before !== undefined && before !== named;
  }

  #resumes(speech: Speech, block: OpenBlock): boolean {
    return block.suffix !== "" && this.#said.has(`${speech}:${block.index}`);
  }

  #along(value: JsonObject, prefix: string, block?: OpenBlock, usage?: Usage, once = ""): Placed {
    const text = new AnswerText(value, EVENTS, prefix, block?.index, block?.suffix, once);
    let unjudgeable = false;
    for (const speech of text.open) {
      if (block === undefined) continue;
      block.channels.set(speech, `${speech}:${block.index}${block.suffix}`);
      unjudgeable ||= this.#resumes(speech, block);
    }
    const at = text.strangers.length === 0 ? "" : runOf(value);
    const runs = this.#unmodelled.runs(text.strangers.map((part) => ({ ...part, place: at + part.place })));
    return {
      ordinal: this.#events,
      segments: runs.length === 0 ? text.segments : [...text.segments, ...runs],
      closes: text.closes,
      unjudgeable: unjudgeable || this.#unmodelled.full,
      terminal: false,
      // What comes out of its order is covered all the same, but no API sends it.
      modelled: text.modelled && once === "" && (block === undefined || block.suffix === ""),
      ...(usage === undefined ? {} : { usage }),
      rewrite: (texts) => text.rewrite(withRuns(texts, text.segments.length, runs)),
    };
  }

  /** An event under a name that is not its type: the name is text too. It leaves with its event or not at all. */
  #misnamed(event: SseEvent, reading: Placed, type: string): Placed {
    const channel = `other:event:${this.#events}`;
    const last = reading.segments.length;
    // The last event must arrive, so it goes under its own name.
    if (reading.terminal && event.event !== "ping") return { ...reading, modelled: false, name: type };
    return {
      ...reading,
      segments: [...reading.segments, { channel, kind: "other", choice: 0, text: event.event }],
      closes: [...reading.closes, channel],
      // The official client skips whatever is named "ping".
      terminal: reading.terminal && event.event !== "ping",
      modelled: false,
      rewrite: (texts) => ((texts[last] ?? event.event) === event.event ? reading.rewrite(texts) : ""),
    };
  }

  /** Text that nobody can place runs on from event to event; the event goes when any of it may not leave. */
  #opaque(event: SseEvent, value: Json | undefined): Placed {
    const { segments, closes } = this.#unmodelled.read(event.event, event.data, value, this.#events);
    return {
      ordinal: this.#events,
      segments,
      closes,
      terminal: false,
      modelled: false,
      unjudgeable: this.#unmodelled.full,
      rewrite: (texts) => (segments.every(({ text }, i) => (texts[i] ?? "") === text) ? event.data : ""),
    };
  }
}

/** The reading of a delta with one text: made for nearly every event, so it is lean. */
class RunReading implements Placed {
  readonly ordinal: number;
  readonly segments: readonly Segment[];
  readonly closes = NONE;
  readonly terminal = false;
  readonly modelled: boolean;
  readonly unjudgeable: boolean;
  readonly #value: JsonObject;
  readonly #delta: JsonObject;
  readonly #field: string;

  constructor(
    ordinal: number,
    modelled: boolean,
    unjudgeable: boolean,
    value: JsonObject,
    delta: JsonObject,
    field: string,
    segment: Segment,
  ) {
    this.ordinal = ordinal;
    this.modelled = modelled;
    this.unjudgeable = unjudgeable;
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

/** A part whose run changed goes as if it had changed by itself. */
function withRuns(
  texts: readonly string[],
  known: number,
  runs: readonly Run<StrangerPart>[],
): readonly string[] {
  if (runs.every(({ text }, i) => (texts[known + i] ?? text) === text)) return texts;
  const changed = [...texts];
  for (const [i, { text, of }] of runs.entries()) {
    if ((texts[known + i] ?? text) !== text) for (const { segment } of of) changed[segment] = "";
  }
  return changed;
}

/** -1 for what is no index. Clients take "0" for 0 when they look a block up, so it is the same block here. */
function indexOf(value: Json | undefined): number {
  const index = typeof value === "string" && value !== "" ? Number(value) : value;
  return typeof index === "number" && Number.isInteger(index) && index >= 0 ? index : -1;
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
