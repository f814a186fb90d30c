/**
 * The Responses API: its streamed events and whole answers. Deltas run on one channel per content part or
 * call; each repetition of the whole text (`.done` events, items, the final response) is a channel of its own
 * that closes at once, so that what is cut from the deltas is cut from the repetitions too.
 */
import type { ChannelKind } from "../../layer/index.ts";
import type {
  AnswerStream,
  EventReading,
  Json,
  JsonObject,
  PublicProblem,
  SseEvent,
  StopCause,
} from "../dialect.ts";
import { runOf, Unmodelled } from "../unmodelled.ts";
import { Channels } from "./channels.ts";
import { usageOf } from "./chunks.ts";
import { errorObject } from "./errors.ts";
import { INPUT_ITEM, RESPONSE_LOGPROBS, RESPONSE_MEMBERS } from "./fields.ts";
import { Gather } from "./gather.ts";
import {
  addMembers,
  Bundle,
  errorText,
  firstUnsent,
  HeadSpot,
  type Holder,
  type Lane,
  Memory,
  type PlacedSegment,
  parse,
  Reading,
  Spot,
  TokensSpot,
  unreadable,
} from "./reading.ts";
import { ALONE, EVENTS, type EventSpec, NUMBERS, OBJECTS, TERMINAL, WORDS } from "./response-events.ts";
import { ResponseOutline } from "./response-outline.ts";
import { isObject, type Placement } from "./shape.ts";
import { foreignBytes } from "./token-bytes.ts";

const PLACES: Readonly<Partial<Record<Placement, readonly [prefix: string, kind: ChannelKind]>>> = {
  words: ["answer", "answer"],
  refusal: ["refusal", "refusal"],
  thinking: ["thinking", "thinking"],
  transcript: ["transcript", "transcript"],
  call: ["tool-name", "tool"],
  arguments: ["tool", "tool"],
};
const NOTHING: EventSpec = { mode: "state", prefix: "", kind: "other", index: "", field: "", suffix: "" };

class ResponseReading extends Reading {
  private readonly stream: ResponseStream;
  bundle: Bundle | undefined;
  /** JSON without a fixed form that a call carries, such as the action of a computer call. */
  callBundle: Bundle | undefined;
  readonly closed: string[] = [];

  constructor(data: string | undefined, root: Json, ordinal: number, stream: ResponseStream) {
    super(data, root, ordinal);
    this.stream = stream;
  }

  protected override rewritten(printed: string): void {
    this.stream.forget(this, printed);
  }
}

export class ResponseStream implements AnswerStream {
  private readonly memory = new Memory();
  private readonly channels = new Channels();
  private readonly unmodelled = new Unmodelled();
  private readonly outline = new ResponseOutline();
  private readonly gather: Gather;
  private readonly tokenGather: Gather;
  private chosen = "";
  private alternatives = "";
  private reading: ResponseReading;
  private spec = NOTHING;
  /** Output item at hand; -1 outside of one. */
  private item = -1;
  private itemType = "";
  private ordinal = 0;
  // The lane of the last delta: a run of deltas looks it up once.
  private lastSpec: EventSpec | undefined;
  private lastItem = -1;
  private lastIndex = -1;
  private lastLane: Lane | undefined;

  constructor() {
    this.reading = new ResponseReading("", null, -1, this);
    this.gather = new Gather(
      () => this.bundle(),
      (place, holder, key, text, at, free) => this.place(place, holder, key, text, at, free),
    );
    this.tokenGather = new Gather(
      () => this.bundle(),
      (place, _holder, _key, text, at) => {
        if (place !== "param") return false;
        if (at.includes(":", 1)) this.alternatives += `${text}\n`;
        else this.chosen += text;
        return true;
      },
    );
  }

  read(event: SseEvent): Reading {
    const ordinal = this.ordinal++;
    const root = parse(event.data);
    if (!isObject(root)) {
      const reading = unreadable(this.unmodelled, event, root, ordinal);
      if (event.data === "[DONE]") {
        reading.modelled = true;
        reading.terminal = true;
        reading.segments.length = 0;
        reading.closes = [];
      }
      return reading;
    }
    const type = root["type"];
    const spec = typeof type === "string" ? EVENTS.get(type) : isObject(root["error"]) ? NOTHING : undefined;
    if (spec === undefined) return unreadable(this.unmodelled, event, root, ordinal);
    const reading = new ResponseReading(event.data, root, ordinal, this);
    if (typeof type === "string" && TERMINAL.has(type)) {
      // The last event must arrive, so it goes under its own name.
      if (event.event !== "") reading.name = type;
    } else if (event.event !== "" && event.event !== type && this.memory.differs("event", event.event))
      this.tell(reading, event.event, undefined, "event");
    this.walk(reading, root, spec, typeof type === "string" ? type : "error");
    return reading;
  }

  readWhole(root: JsonObject): { readonly reading: Reading; readonly foreign: boolean } {
    const reading = new ResponseReading(undefined, root, 0, this);
    this.start(reading, NOTHING);
    this.response(root);
    this.finish(reading);
    return { reading, foreign: this.gather.foreign };
  }

  forget(reading: Reading, printed: string): void {
    this.memory.clear();
    const root = parse(printed);
    if (isObject(root)) this.outline.restate(reading.ordinal, root);
  }

  ending(unsent?: readonly EventReading[], why?: StopCause, words?: string): readonly SseEvent[] {
    return this.outline.ending(firstUnsent(unsent), why, words);
  }

  failure(problem: PublicProblem): readonly SseEvent[] {
    const { message, param, code } = errorObject(problem);
    const data = { type: "error", code, message, param, sequence_number: this.outline.nextSequence() };
    return [{ event: "error", data: JSON.stringify(data) }];
  }

  private start(reading: ResponseReading, spec: EventSpec): void {
    this.reading = reading;
    this.spec = spec;
    this.item = -1;
    this.itemType = "";
  }

  private walk(reading: ResponseReading, root: JsonObject, spec: EventSpec, type: string): void {
    this.start(reading, spec);
    const item = root["output_index"];
    this.item = typeof item === "number" ? item : -1;
    for (const name in root) {
      const value = root[name];
      if (name === spec.field) {
        this.text(spec, root, value);
      } else if (name === "type" && typeof value === "string") {
        // Read above: it chose the row of the table.
      } else if (typeof value === "number" && NUMBERS.has(name)) {
        // Read where a lane is named.
      } else if (value === null) {
        if (!isKnown(name)) this.gather.unmodelled(root, name);
      } else if (name === "logprobs") {
        this.logprobs(spec, root, value);
      } else if (name === "response" && isObject(value)) {
        this.response(value);
      } else if (typeof value === "string" && WORDS.has(name)) {
        if (this.memory.differs(name, value) && value !== "") this.tell(reading, value, root, name);
      } else if (typeof value === "string" && ALONE.has(name)) {
        if (value !== "") this.bundle().add(root, name, value, false);
      } else {
        this.object(root, name, value, type);
      }
    }
    if (spec.mode === "done") this.closeLanes(spec, root);
    if (type === "response.output_item.done") this.channels.closeItem(Math.max(this.item, 0), reading.closed);
    if (spec !== NOTHING && type !== "error") this.outline.see(reading.ordinal, type, root);
    if (TERMINAL.has(type)) {
      reading.terminal = true;
      if (type === "error") reading.upstreamError = errorText(root["error"] ?? root);
      this.channels.end(reading.ordinal, reading.closed);
    }
    this.finish(reading);
  }

  private finish(reading: ResponseReading): void {
    const { bundle } = reading;
    if (bundle !== undefined && bundle.entries.length > 0) this.push(bundle);
    reading.closes = reading.closed;
    const strangers = this.gather.takeStrangers();
    if (strangers.length === 0 || this.spec === NOTHING) return;
    const run = runOf(reading.root);
    const placed = strangers.map((member) => ({ ...member, place: run + member.place }));
    addMembers(reading, this.unmodelled, placed);
  }

  private tell(reading: ResponseReading, value: string, holder: Holder | undefined, name: string): void {
    reading.segments.push(new HeadSpot(this.channels.told(name), value, holder, name));
  }

  private object(root: JsonObject, name: string, value: Json | undefined, type: string): void {
    const rule = OBJECTS.get(name);
    if (rule === undefined) {
      this.gather.unmodelled(root, name);
      return;
    }
    if (name === "item" && isObject(value)) {
      const itemType = value["type"];
      this.itemType = typeof itemType === "string" ? itemType : "";
    }
    let at = "";
    if (name === "part") {
      const summary = type.startsWith("response.reasoning_summary");
      at = summary ? `:s${root["summary_index"]}` : `:${root["content_index"]}`;
    }
    this.gather.value(rule, root, name, at);
  }

  /** The member that an event kind exists for. */
  private text(spec: EventSpec, root: JsonObject, value: Json | undefined): void {
    if (typeof value === "string") {
      if (value === "") return;
      const beside = Array.isArray(root["logprobs"]) && root["logprobs"].length > 0 ? root : undefined;
      const lane = spec.mode === "delta" ? this.lane(spec, root) : undefined;
      if (lane !== undefined) this.onLane(lane, root, spec.field, value, beside);
      else if (spec.mode === "delta") this.bundle().add(root, spec.field, value, false);
      else {
        const name = this.once(`${this.laneName(spec.prefix, spec.index, root)}${spec.suffix}`);
        this.push(new Spot(name, spec.kind, Math.max(this.item, 0), value, root, spec.field, beside));
      }
    } else if (isObject(value) && spec.prefix === "other") {
      for (const stream in value) {
        const output = value[stream];
        const known = stream === "stdout" || stream === "stderr";
        const name = `${this.laneName(spec.prefix, spec.index, root)}:${stream}`;
        const lane = known ? this.channels.lane(name, "other", Math.max(this.item, 0)) : undefined;
        if (typeof output === "string" && lane !== undefined) {
          if (output !== "") this.onLane(lane, value, stream, output, undefined);
        } else if (output !== null || !known) this.gather.unmodelled(value, stream);
      }
    } else if (value !== null) {
      this.gather.unmodelled(root, spec.field);
    }
  }

  private onLane(lane: Lane, holder: Holder, key: string, text: string, beside: Holder | undefined): void {
    lane.open = true;
    this.reading.unjudgeable ||= lane.resumes;
    this.reading.segments.push(new Spot(lane.channel, lane.kind, lane.choice, text, holder, key, beside));
  }

  private lane(spec: EventSpec, root: JsonObject): Lane | undefined {
    const index = spec.index === "" ? 0 : root[spec.index];
    if (spec === this.lastSpec && this.item === this.lastItem && index === this.lastIndex)
      return this.lastLane;
    const lane = this.channels.lane(
      this.laneName(spec.prefix, spec.index, root),
      spec.kind,
      Math.max(this.item, 0),
    );
    if (typeof index === "number") {
      this.lastSpec = spec;
      this.lastItem = this.item;
      this.lastIndex = index;
      this.lastLane = lane;
    }
    return lane;
  }

  private laneName(prefix: string, index: string, root: JsonObject): string {
    const item = Math.max(this.item, 0);
    if (index === "") return `${prefix}:${item}`;
    const value = root[index];
    return `${prefix}:${item}:${index === "summary_index" ? "s" : ""}${typeof value === "number" ? value : 0}`;
  }

  private closeLanes(spec: EventSpec, root: JsonObject): void {
    const name = this.laneName(spec.prefix, spec.index, root);
    const beside = name.replace(spec.prefix, "logprobs");
    const names = [name, `${name}:stdout`, `${name}:stderr`, beside, `${beside}:top`];
    for (const each of names) this.channels.close(each, this.reading.closed);
  }

  private logprobs(spec: EventSpec, root: JsonObject, value: Json | undefined): void {
    if (!Array.isArray(value)) {
      this.gather.unmodelled(root, "logprobs");
      return;
    }
    if (value.length === 0) return;
    this.chosen = "";
    this.alternatives = "";
    this.tokenGather.value(RESPONSE_LOGPROBS, root, "logprobs", "");
    const name = this.laneName("logprobs", spec.index, root);
    this.tokens(spec, name, root, this.chosen);
    this.tokens(spec, `${name}:top`, root, this.alternatives);
    const foreign = foreignBytes(value);
    if (foreign === "") return;
    this.tokens(spec, `${name}:bytes`, root, foreign);
    this.reading.unjudgeable = true;
  }

  private tokens(spec: EventSpec, name: string, root: JsonObject, text: string): void {
    if (text === "") return;
    const lane =
      spec.mode === "delta" ? this.channels.lane(name, "logprobs", Math.max(this.item, 0)) : undefined;
    const choice = Math.max(this.item, 0);
    if (lane !== undefined) {
      lane.open = true;
      this.reading.unjudgeable ||= lane.resumes;
      this.reading.segments.push(new TokensSpot(lane.channel, choice, text, root));
    } else this.push(new TokensSpot(this.once(`${name}${spec.suffix}`), choice, text, root));
  }

  /** A Response object: its output by items, the rest by table. */
  private response(response: JsonObject): void {
    for (const name in response) {
      const value = response[name];
      const rule = RESPONSE_MEMBERS.get(name);
      this.item = -1;
      this.itemType = "";
      if (name === "output" && Array.isArray(value)) {
        const list = value as unknown as Holder;
        for (let i = 0; i < value.length; i++) {
          const item = value[i];
          const type = isObject(item) ? item["type"] : undefined;
          this.item = i;
          this.itemType = typeof type === "string" ? type : "";
          this.reading.callBundle = undefined;
          this.gather.value(INPUT_ITEM, list, String(i), "");
        }
      } else if (rule === undefined) this.gather.unmodelled(response, name);
      else if (value !== null) this.gather.value(rule, response, name, "");
    }
    this.item = -1;
    const usage = response["usage"];
    if (isObject(usage)) this.reading.usage = usageOf(usage["input_tokens"], usage["output_tokens"]);
    const error = response["error"];
    if (isObject(error) || response["status"] === "failed") this.reading.upstreamError = errorText(error);
  }

  /** Text of items and parts; what a tool gave back and what the request said stay in the bundle. */
  private place(
    place: Placement,
    holder: Holder,
    key: string,
    text: string,
    at: string,
    free: boolean,
  ): boolean {
    const known = PLACES[place];
    if (known === undefined || this.item < 0 || this.itemType.endsWith("_output")) return false;
    const [prefix, kind] = known;
    if (free) {
      if (kind !== "tool") return false;
      if (this.reading.callBundle === undefined) {
        const name = this.once(`${prefix}:${this.item}:json${this.spec.suffix}`);
        this.reading.callBundle = new Bundle(name, kind, this.item);
        this.push(this.reading.callBundle);
      }
      this.reading.callBundle.add(holder, key, text, false);
      return true;
    }
    const beside = place === "words" && Array.isArray(holder["logprobs"]) ? holder : undefined;
    const name = this.once(`${prefix}:${this.item}${at}${this.spec.suffix}`);
    this.push(new Spot(name, kind, this.item, text, holder, key, beside));
    return true;
  }

  private bundle(): Bundle {
    this.reading.bundle ??= new Bundle(`other:rest:${this.reading.ordinal}`, "other", 0);
    return this.reading.bundle;
  }

  private once(name: string): string {
    return this.channels.once(name, this.reading.ordinal, this.reading.segments.length);
  }

  /** A segment that is the whole of its channel. */
  private push(segment: PlacedSegment): void {
    this.reading.segments.push(segment);
    this.reading.closed.push(segment.channel);
  }
}

function isKnown(name: string): boolean {
  return (
    name === "logprobs" || name === "response" || WORDS.has(name) || ALONE.has(name) || OBJECTS.has(name)
  );
}
