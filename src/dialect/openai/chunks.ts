/**
 * Chat completions and completions: their streamed chunks and, because a whole answer is a chunk with
 * `message` in place of `delta`, their whole answers too. `read` runs for every streamed event.
 */
import type { Usage } from "../../layer/index.ts";
import type {
  AnswerStream,
  EventReading,
  Json,
  JsonObject,
  PublicProblem,
  SseEvent,
  StopCause,
} from "../dialect.ts";
import { Unmodelled } from "../unmodelled.ts";
import { ChoiceReader, type ChunkOperation } from "./choices.ts";
import { ChunkReading } from "./chunk-reading.ts";
import { errorBody } from "./errors.ts";
import { COMPLETION_USAGE, ERROR } from "./fields.ts";
import { addMembers, errorText, firstUnsent, parse, Reading, unreadable } from "./reading.ts";
import { isObject } from "./shape.ts";
import { Strays } from "./strays.ts";

/** Members of a chunk whose value is said again on each. */
const HEADS = new Set(["id", "object", "model", "system_fingerprint", "service_tier", "obfuscation"]);

/** What a client was told of the answer so far, for `ending`. */
interface Head {
  readonly ordinal: number;
  readonly id: Json;
  readonly created: Json;
  readonly model: Json;
}

export class ChunkStream implements AnswerStream {
  private readonly operation: ChunkOperation;
  private readonly whole: boolean;
  private readonly strays = new Strays();
  private readonly unmodelled = new Unmodelled();
  private readonly choices: ChoiceReader;
  private head: Head | undefined;
  private ordinal = 0;
  private event = "";

  constructor(operation: ChunkOperation, whole = false) {
    this.operation = operation;
    this.whole = whole;
    this.choices = new ChoiceReader(operation, whole, this.strays);
  }

  read(event: SseEvent): Reading {
    const ordinal = this.ordinal++;
    const data = event.data;
    if (data === "[DONE]") return this.done(event, ordinal);
    const root = parse(data);
    if (!isObject(root)) return unreadable(this.unmodelled, event, root, ordinal);
    const reading = new ChunkReading(data, root, ordinal, this);
    if (event.event !== this.event) {
      this.event = event.event;
      if (event.event !== "") this.strays.tell(reading, event.event, undefined, "event");
    }
    this.chunk(reading, root);
    // Whatever it is, no chunk: its members are told as those of one, and the policy may cut it.
    if (root["choices"] === undefined && root["error"] === undefined && root["usage"] === undefined)
      reading.modelled = false;
    if (event.event === "error" && reading.upstreamError === undefined) {
      reading.upstreamError = errorText(root);
      reading.terminal = true;
      reading.closes = [...reading.closes, ...this.closeAll()];
    }
    return reading;
  }

  readWhole(root: JsonObject): { readonly reading: ChunkReading; readonly foreign: boolean } {
    const reading = new ChunkReading(undefined, root, 0, this);
    this.chunk(reading, root);
    return { reading, foreign: this.strays.gather.foreign || this.choices.foreign };
  }

  /** After a change the client knows other values than the upstream sent: they are told apart anew. */
  forget(reading: ChunkReading, printed: string): void {
    this.strays.memory.clear();
    const root = this.head?.ordinal === reading.ordinal ? parse(printed) : undefined;
    if (isObject(root)) this.setHead(root, reading.ordinal);
  }

  private done(event: SseEvent, ordinal: number): Reading {
    const reading = new Reading(event.data, null, ordinal);
    reading.terminal = true;
    // No client looks at the name of this event, so none is sent.
    reading.name = "";
    reading.closes = this.closeAll();
    return reading;
  }

  private closeAll(): string[] {
    const closes = this.strays.end();
    this.choices.closeAll(closes);
    return closes;
  }

  private chunk(reading: ChunkReading, root: JsonObject): void {
    this.strays.begin(reading);
    for (const name in root) {
      const value = root[name];
      switch (name) {
        case "choices":
          if (Array.isArray(value)) this.choices.read(reading, value);
          else this.strays.extra(root, name);
          break;
        case "usage":
          if (value !== null) this.usage(reading, root, value);
          break;
        case "created":
          if (typeof value !== "number") this.strays.extra(root, name);
          break;
        case "error":
          if (value === null) break;
          reading.upstreamError = errorText(value);
          reading.terminal = !this.whole;
          this.strays.gather.value(ERROR, root, name, "");
          break;
        default:
          if (typeof value === "string" && HEADS.has(name)) {
            if (this.strays.memory.differs(name, value) && value !== "")
              this.strays.tell(reading, value, root, name);
          } else if (value !== null || !HEADS.has(name)) this.strays.extra(root, name);
      }
    }
    if (this.head === undefined) this.setHead(root, reading.ordinal);
    this.strays.finish(reading);
    this.choices.finish(reading);
    if (reading.terminal) reading.closes = this.closeAll();
    const strangers = this.strays.gather.takeStrangers();
    if (!this.whole) addMembers(reading, this.unmodelled, strangers);
  }

  private setHead(root: JsonObject, ordinal: number): void {
    const { id, created, model } = root;
    this.head = { ordinal, id: id ?? null, created: created ?? null, model: model ?? null };
  }

  private usage(reading: ChunkReading, root: JsonObject, value: Json | undefined): void {
    this.strays.gather.value(COMPLETION_USAGE, root, "usage", "");
    if (!isObject(value)) return;
    reading.usage = usageOf(value["prompt_tokens"], value["completion_tokens"]);
  }

  ending(unsent?: readonly EventReading[], why: StopCause = "filter", words?: string): readonly SseEvent[] {
    const reason = why === "filter" ? "content_filter" : why;
    const cut = firstUnsent(unsent);
    const known = this.head !== undefined && this.head.ordinal < cut ? this.head : undefined;
    const chat = this.operation === "chat";
    const head = {
      id: known?.id ?? (chat ? "chatcmpl-withheld" : "cmpl-withheld"),
      object: chat ? "chat.completion.chunk" : "text_completion",
      created: known?.created ?? 0,
      model: known?.model ?? "",
    };
    const event = (index: number, delta: JsonObject, finish: string | null): SseEvent => {
      const text = chat ? { delta } : { text: "" };
      const told = finish === "content_filter" ? toldWhy(words) : {};
      const choices = [{ index, ...text, logprobs: null, finish_reason: finish, ...told }];
      return { event: "", data: JSON.stringify({ ...head, choices }) };
    };
    const events: SseEvent[] = [];
    const seen = this.choices.before(cut);
    if (seen.length === 0)
      events.push(event(0, { role: "assistant", content: "" }, null), event(0, {}, reason));
    for (const choice of seen) {
      if (choice.finishedAt >= cut) events.push(event(choice.index, {}, reason));
    }
    return [...events, { event: "", data: "[DONE]" }];
  }

  failure(problem: PublicProblem): readonly SseEvent[] {
    return [{ event: "", data: errorBody(problem) }];
  }
}

/** Why a choice was withheld, in the member that Azure's API has for what its filter says. SDKs hand it through. */
export function toldWhy(words: string | undefined): JsonObject {
  return words === undefined
    ? {}
    : { content_filter_result: { error: { code: "answer_blocked", message: words } } };
}

export function usageOf(input: Json | undefined, output: Json | undefined): Usage {
  return {
    ...(typeof input === "number" ? { inputTokens: input } : {}),
    ...(typeof output === "number" ? { outputTokens: output } : {}),
  };
}
