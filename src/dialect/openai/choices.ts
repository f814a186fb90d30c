/**
 * Reads the choices of a chunk: which member carries which text, on which channel. Runs for every streamed
 * event, so each object is passed over once, without closures, and names of channels are made once.
 */
import type { ChannelKind } from "../../layer/index.ts";
import type { Json, JsonObject } from "../dialect.ts";
import { type ChunkReading, ChunkSpot, type Part } from "./chunk-reading.ts";
import { CHAT_LOGPROBS, COMPLETION_LOGPROBS } from "./fields.ts";
import { Gather } from "./gather.ts";
import { Pieces } from "./pieces.ts";
import { type Holder, Lane, Spot, TokensSpot } from "./reading.ts";
import { isObject } from "./shape.ts";
import type { Strays } from "./strays.ts";
import { foreignBytes } from "./token-bytes.ts";

export type ChunkOperation = "chat" | "completions";

/** Choices with channels of their own; what lies past them is bundled. The API's own limit is 128. */
const CHOICES_MAX = 256;
/** Lanes of one choice (tool calls, unmodelled text members); what lies past them is bundled. */
const LANES_MAX = 512;

const FINISH_REASONS = new Set(["stop", "length", "tool_calls", "content_filter", "function_call"]);
const ROLES = new Set(["assistant", "user", "system", "developer", "tool"]);
const CALL_TYPES = new Set(["function", "custom"]);
const LOGPROBS = { chat: CHAT_LOGPROBS, completions: COMPLETION_LOGPROBS };
const DELTA_MEMBERS = new Set([
  "role",
  "content",
  "refusal",
  "tool_calls",
  "function_call",
  "audio",
  "reasoning",
  "reasoning_content",
]);
const AUDIO_LANES: ReadonlyMap<string, { readonly prefix: string; readonly kind: ChannelKind }> = new Map([
  ["transcript", { prefix: "transcript", kind: "transcript" }],
  ["data", { prefix: "other:audio", kind: "other" }],
]);

export class Choice {
  readonly index: number;
  readonly answer: Lane;
  readonly named = new Map<string, Lane>();
  /** Lanes with text that are not closed. */
  open: Lane[] = [];
  /** Thinking speaks. It rests when the answer or a call begins: what is held of it would hold the answer back. */
  thinks = false;
  thought = false;
  readonly seenAt: number;
  finishedAt = Number.POSITIVE_INFINITY;

  constructor(index: number, seenAt: number) {
    this.index = index;
    this.seenAt = seenAt;
    this.answer = new Lane(`answer:${index}`, "answer", index);
  }

  lane(name: string, kind: ChannelKind): Lane | undefined {
    let lane = this.named.get(name);
    if (lane === undefined && this.named.size < LANES_MAX) {
      lane = new Lane(name, kind, this.index);
      this.named.set(name, lane);
    }
    return lane;
  }
}

export class ChoiceReader {
  private readonly operation: ChunkOperation;
  /** A whole answer: `message` in place of `delta`, and nothing goes on. */
  private readonly whole: boolean;
  private readonly strays: Strays;
  private readonly tokenGather: Gather;
  private readonly choices: (Choice | undefined)[] = [];
  private readonly pieces = new Pieces();
  /** Tokens of the event at hand: those that spell the text, and those that might have stood in their place. */
  private chosen = "";
  private alternatives = "";

  constructor(operation: ChunkOperation, whole: boolean, strays: Strays) {
    this.operation = operation;
    this.whole = whole;
    this.strays = strays;
    this.tokenGather = new Gather(
      () => strays.bundle(),
      (place, _holder, _key, text, at) => {
        if (place !== "param") return false;
        if (at.includes(":", 1)) this.alternatives += `${text}\n`;
        else this.chosen += text;
        return true;
      },
    );
  }

  get foreign(): boolean {
    return this.tokenGather.foreign;
  }

  /** Choices that began before the event `cut`. */
  before(cut: number): readonly Choice[] {
    return this.choices.filter((choice) => choice !== undefined && choice.seenAt < cut) as Choice[];
  }

  closeAll(closes: string[]): void {
    for (const choice of this.choices) if (choice !== undefined) this.close(choice, closes);
  }

  read(reading: ChunkReading, list: readonly Json[]): void {
    for (let i = 0; i < list.length; i++) {
      const value = list[i];
      const index = isObject(value) && typeof value["index"] === "number" ? value["index"] : i;
      if (isObject(value) && Number.isInteger(index) && index >= 0 && index < CHOICES_MAX)
        this.choice(reading, index, value);
      else this.strays.unlisted(list as unknown as Holder, String(i));
    }
  }

  /** The event is read, and what it says by itself is told. */
  finish(reading: ChunkReading): void {
    this.pieces.finish(reading);
  }

  private choice(reading: ChunkReading, index: number, value: JsonObject): void {
    let choice = this.choices[index];
    if (choice === undefined) {
      choice = new Choice(index, reading.ordinal);
      this.choices[index] = choice;
    }
    this.strays.gather.at = String(index);
    const logprobs = value["logprobs"];
    const beside = logprobs === null || logprobs === undefined ? undefined : (value as Holder);
    let finished = false;
    for (const name in value) {
      const member = value[name];
      switch (name) {
        case "index":
          if (typeof member !== "number") this.strays.extra(value, name, "choice");
          break;
        case "delta":
        case "message":
          if (this.operation === "chat" && (name === "message") === this.whole && isObject(member))
            this.delta(reading, choice, member, beside);
          else if (member !== null) this.strays.extra(value, name, "choice");
          break;
        case "text":
          if (this.operation === "completions" && typeof member === "string")
            this.text(reading, choice, choice.answer, value, name, member, beside, "text");
          else if (member !== null) this.strays.extra(value, name, "choice");
          break;
        case "logprobs":
          if (member !== null) this.logprobs(reading, choice, value, member);
          break;
        case "finish_reason":
          // Some upstreams send a blank one with every chunk.
          if (typeof member === "string" && member !== "") finished = true;
          if (member === "" || (finished && FINISH_REASONS.has(member as string))) break;
          this.strays.unlisted(value, name);
          break;
        default:
          this.strays.extra(value, name, "choice");
      }
    }
    this.strays.gather.at = "";
    if (this.whole) return;
    this.pieces.passed(reading, choice.index, finished);
    if (choice.thought) this.restThinking(reading, choice);
    if (!finished) return;
    choice.finishedAt = Math.min(choice.finishedAt, reading.ordinal);
    // Not closed: some upstreams speak on, and clients join what they say.
    reading.rests = [...reading.rests, ...choice.open.map(({ channel }) => channel)];
  }

  private delta(reading: ChunkReading, choice: Choice, delta: JsonObject, beside: Holder | undefined): void {
    for (const name in delta) {
      const value = delta[name];
      if (value === null) {
        if (!DELTA_MEMBERS.has(name)) this.strays.extra(delta, name, "delta");
        continue;
      }
      if (name === "content" && typeof value === "string") {
        this.text(reading, choice, choice.answer, delta, name, value, beside, "delta");
        continue;
      }
      switch (name) {
        case "role":
          if (typeof value !== "string" || !ROLES.has(value)) this.strays.unlisted(delta, name);
          continue;
        case "tool_calls":
          if (Array.isArray(value)) this.toolCalls(reading, choice, value);
          else this.strays.gather.unmodelled(delta, name);
          continue;
        case "function_call":
          if (isObject(value)) this.call(reading, choice, "function_call", value, -1, false);
          else this.strays.gather.unmodelled(delta, name);
          continue;
        case "audio":
          if (isObject(value)) this.audio(reading, choice, value);
          else this.strays.gather.unmodelled(delta, name);
          continue;
      }
      if (typeof value !== "string") {
        this.strays.extra(delta, name, "delta");
        continue;
      }
      const lane = this.deltaLane(choice, name, delta);
      if (lane === undefined) this.strays.extra(delta, name, "delta");
      else this.text(reading, choice, lane, delta, name, value, beside, "delta");
    }
  }

  /** Text members of a delta; one that nobody lists is still text that goes on from chunk to chunk. */
  private deltaLane(choice: Choice, name: string, delta: JsonObject): Lane | undefined {
    const { index } = choice;
    if (name === "refusal") return choice.lane(`refusal:${index}`, "refusal");
    if (name === "reasoning_content") return choice.lane(`thinking:${index}`, "thinking");
    if (name === "reasoning") {
      const both = typeof delta["reasoning_content"] === "string";
      return choice.lane(both ? `thinking:${index}:reasoning` : `thinking:${index}`, "thinking");
    }
    const channel = `other:${index}:${name}`;
    if (!choice.named.has(channel)) {
      this.strays.gather.foreign = true;
      this.strays.bundle().add(delta, name, name, true);
    }
    return choice.lane(channel, "other");
  }

  private toolCalls(reading: ChunkReading, choice: Choice, list: readonly Json[]): void {
    for (let i = 0; i < list.length; i++) {
      const call = list[i];
      if (!isObject(call)) {
        this.strays.unlisted(list as unknown as Holder, String(i));
        continue;
      }
      const given = call["index"];
      const index = typeof given === "number" ? given : i;
      // An event that introduces the call must come whole: a split part would arrive before its id and name.
      let introduces = false;
      for (const name in call) {
        const value = call[name];
        if (name === "id" || name === "type") {
          if (value !== null) introduces = true;
          if (name === "type" && typeof value === "string" && CALL_TYPES.has(value)) continue;
          if (name === "id") this.piece(reading, choice, `id:${index}`, call, name);
          else this.strays.unlisted(call, name);
        } else if ((name === "function" || name === "custom") && isObject(value)) {
          this.call(reading, choice, String(index), value, index, introduces);
        } else if (name !== "index" || typeof value !== "number") {
          this.strays.gather.unmodelled(call, name);
        }
      }
    }
  }

  private call(
    reading: ChunkReading,
    choice: Choice,
    id: string,
    value: JsonObject,
    index: number,
    introduces: boolean,
  ): void {
    const named = typeof value["name"] === "string" && value["name"] !== "";
    for (const name in value) {
      const member = value[name];
      if (name === "name" && typeof member === "string") {
        // By itself; as clients join it, it is told beside.
        const lane = choice.lane(`tool-name:${choice.index}:${id}`, "tool");
        if (lane === undefined) this.piece(reading, choice, `name:${id}`, value, name);
        else if (member !== "") {
          reading.segments.push(new Spot(lane.channel, "tool", choice.index, member, value, name, undefined));
          reading.closes = [...reading.closes, lane.close()];
          if (!this.whole)
            this.pieces.add(reading, { choice: choice.index, place: `name:${id}`, holder: value, key: name });
        }
      } else if ((name === "arguments" || name === "input") && typeof member === "string") {
        const lane = choice.lane(`tool:${choice.index}:${id}`, "tool");
        const part = introduces || named || index < 0 ? "whole" : "call";
        if (lane === undefined) this.strays.unlisted(value, name);
        else this.text(reading, choice, lane, value, name, member, undefined, part, index);
      } else if (member !== null || (name !== "name" && name !== "arguments" && name !== "input")) {
        this.strays.gather.unmodelled(value, name);
      }
    }
  }

  /** An id or a name that has no channel of its own: bundled, and told as clients join it. */
  private piece(reading: ChunkReading, choice: Choice, place: string, holder: JsonObject, key: string): void {
    this.strays.known(holder, key);
    if (!this.whole) this.pieces.add(reading, { choice: choice.index, place, holder, key });
  }

  private audio(reading: ChunkReading, choice: Choice, value: JsonObject): void {
    for (const name in value) {
      const member = value[name];
      const known = AUDIO_LANES.get(name);
      const lane =
        known === undefined || typeof member !== "string"
          ? undefined
          : choice.lane(`${known.prefix}:${choice.index}`, known.kind);
      if (lane !== undefined && typeof member === "string")
        this.text(reading, choice, lane, value, name, member, undefined, "whole");
      else if (name === "id") this.piece(reading, choice, "audio-id", value, name);
      else if (name !== "expires_at" || typeof member !== "number")
        this.strays.gather.unmodelled(value, name);
    }
  }

  private logprobs(reading: ChunkReading, choice: Choice, holder: JsonObject, value: Json | undefined): void {
    if (!isObject(value)) {
      this.strays.unlisted(holder, "logprobs");
      return;
    }
    this.chosen = "";
    this.alternatives = "";
    this.tokenGather.value(LOGPROBS[this.operation], holder, "logprobs", "");
    this.tokens(reading, choice, `logprobs:${choice.index}`, holder, this.chosen);
    this.tokens(reading, choice, `logprobs-top:${choice.index}`, holder, this.alternatives);
    const foreign = this.operation === "chat" ? foreignBytes(value) : "";
    if (foreign === "") return;
    this.tokens(reading, choice, `logprobs-bytes:${choice.index}`, holder, foreign);
    // What they go on from may be what tokens said.
    reading.unjudgeable = true;
  }

  private tokens(reading: ChunkReading, choice: Choice, name: string, holder: Holder, text: string): void {
    if (text === "") return;
    const lane = choice.lane(name, "logprobs");
    if (lane !== undefined && this.use(reading, choice, lane))
      reading.segments.push(new TokensSpot(lane.channel, choice.index, text, holder));
    else this.strays.bundle().add(holder, "logprobs", text, true);
  }

  private text(
    reading: ChunkReading,
    choice: Choice,
    lane: Lane,
    holder: Holder,
    key: string,
    text: string,
    beside: Holder | undefined,
    part: Part,
    call = -1,
  ): void {
    if (text === "") return;
    if (!this.use(reading, choice, lane)) {
      this.strays.bundle().add(holder, key, text, false);
      return;
    }
    const spot = new ChunkSpot(lane.channel, lane.kind, lane.choice, text, holder, key, beside);
    spot.part = part;
    spot.call = call;
    reading.segments.push(spot);
  }

  /** False when this event already has text on the lane: the choice came twice, which no API sends. */
  private use(reading: ChunkReading, choice: Choice, lane: Lane): boolean {
    if (lane.event === reading.ordinal) {
      reading.modelled = false;
      reading.unjudgeable = true;
      return false;
    }
    lane.event = reading.ordinal;
    if (lane.kind === "thinking") choice.thinks = true;
    else if (choice.thinks && (lane.kind === "answer" || lane.kind === "tool")) choice.thought = true;
    if (!lane.open) {
      lane.open = true;
      choice.open.push(lane);
    }
    return true;
  }

  private close(choice: Choice, closes: string[]): void {
    for (const lane of choice.open) closes.push(lane.close());
    choice.open = [];
    choice.thinks = false;
    choice.thought = false;
  }

  private restThinking(reading: ChunkReading, choice: Choice): void {
    const thinking = choice.open.filter(({ kind }) => kind === "thinking");
    reading.rests = [...reading.rests, ...thinking.map(({ channel }) => channel)];
    choice.thinks = false;
    choice.thought = false;
  }
}
