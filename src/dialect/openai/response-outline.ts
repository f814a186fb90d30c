/**
 * What stands open in a streamed Response: enough to end it in the middle so that the official accumulators
 * accept the ending. Closing events repeat no text, because what was streamed may hold what must not leave;
 * calls stay open, because a client would run a closed one.
 */
import type { Json, JsonObject, SseEvent, StopCause } from "../dialect.ts";
import { isObject } from "./shape.ts";

/** Items and parts followed; what lies past them is not closed one by one. */
const OPEN_MAX = 1_024;
const NEVER = Number.POSITIVE_INFINITY;

interface Opened {
  readonly openedAt: number;
  closedAt: number;
}

interface Part extends Opened {
  readonly item: number;
  readonly index: number;
  readonly type: string;
  textClosedAt: number;
}

interface Item extends Opened {
  readonly index: number;
  readonly id: string;
  readonly type: string;
}

/** Member of each part that holds its text, and the events that close it. */
const PARTS: ReadonlyMap<string, { readonly field: string; readonly text: string; readonly part: string }> =
  new Map([
    ["output_text", { field: "text", text: "response.output_text.done", part: "response.content_part.done" }],
    ["refusal", { field: "refusal", text: "response.refusal.done", part: "response.content_part.done" }],
    [
      "reasoning_text",
      { field: "text", text: "response.reasoning_text.done", part: "response.content_part.done" },
    ],
    [
      "summary_text",
      {
        field: "text",
        text: "response.reasoning_summary_text.done",
        part: "response.reasoning_summary_part.done",
      },
    ],
  ]);
const PART_ADDED = new Set(["response.content_part.added", "response.reasoning_summary_part.added"]);
const PART_DONE = new Set(["response.content_part.done", "response.reasoning_summary_part.done"]);
const TEXT_DONE = new Set([...PARTS.values()].map(({ text }) => text));

export class ResponseOutline {
  private readonly items = new Map<number, Item>();
  private readonly parts = new Map<string, Part>();
  private created: { readonly at: number; readonly response: JsonObject } | undefined;
  private sequence = -1;

  /** Follows one event that is modelled. */
  see(at: number, type: string, event: JsonObject): void {
    const sequence = event["sequence_number"];
    if (typeof sequence === "number") this.sequence = sequence;
    if (type.endsWith(".delta")) return;
    if (this.created === undefined && isObject(event["response"]))
      this.created = { at, response: minimalResponse(event["response"]) };
    const index = event["output_index"];
    if (typeof index !== "number") return;
    if (type === "response.output_item.added") this.addItem(at, index, event["item"]);
    else if (type === "response.output_item.done") close(this.items.get(index), at);
    else if (PART_ADDED.has(type)) this.addPart(at, index, event);
    else if (PART_DONE.has(type)) close(this.parts.get(partKey(event)), at);
    else if (TEXT_DONE.has(type)) {
      const part = this.parts.get(partKey(event));
      if (part !== undefined) part.textClosedAt = Math.min(part.textClosedAt, at);
    }
  }

  /** The event that told of the response was changed before it left. */
  restate(at: number, event: JsonObject): void {
    if (this.created?.at === at && isObject(event["response"]))
      this.created = { at, response: minimalResponse(event["response"]) };
  }

  nextSequence(): number {
    return this.sequence + 1;
  }

  ending(cut: number, why: StopCause = "filter", words?: string): readonly SseEvent[] {
    const events: SseEvent[] = [];
    const next = this.nextSequence();
    const send = (type: string, members: JsonObject): void => {
      const data = { type, ...members, sequence_number: next + events.length };
      events.push({ event: type, data: JSON.stringify(data) });
    };
    const known = this.created !== undefined && this.created.at < cut;
    const response = known ? this.created!.response : minimalResponse({});
    if (!known) send("response.created", { response: { ...response, status: "in_progress" } });
    for (const item of this.items.values()) {
      if (item.openedAt >= cut || item.closedAt < cut) continue;
      for (const part of this.parts.values()) {
        if (part.item === item.index && part.openedAt < cut && part.closedAt >= cut)
          closePart(send, item, part, cut);
      }
      const empty: JsonObject =
        item.type === "message" ? { role: "assistant", content: [] } : { summary: [] };
      send("response.output_item.done", {
        output_index: item.index,
        item: { id: item.id, type: item.type, status: "incomplete", ...empty },
      });
    }
    send("response.incomplete", { response: incomplete(response, why, words) });
    return events;
  }

  private addItem(at: number, index: number, item: Json | undefined): void {
    if (!isObject(item) || this.items.size >= OPEN_MAX) return;
    const { id, type } = item;
    if (typeof id !== "string" || (type !== "message" && type !== "reasoning")) return;
    this.items.set(index, { index, id, type, openedAt: at, closedAt: NEVER });
  }

  private addPart(at: number, item: number, event: JsonObject): void {
    const part = event["part"];
    const index = event["summary_index"] ?? event["content_index"];
    if (!isObject(part) || typeof index !== "number" || this.parts.size >= OPEN_MAX) return;
    const type = part["type"];
    if (typeof type !== "string" || !PARTS.has(type)) return;
    this.parts.set(partKey(event), { item, index, type, openedAt: at, closedAt: NEVER, textClosedAt: NEVER });
  }
}

function closePart(
  send: (type: string, members: JsonObject) => void,
  item: Item,
  part: Part,
  cut: number,
): void {
  const names = PARTS.get(part.type)!;
  const summary = part.type === "summary_text";
  const where: JsonObject = {
    item_id: item.id,
    output_index: item.index,
    [summary ? "summary_index" : "content_index"]: part.index,
  };
  const text = part.type === "output_text";
  if (part.textClosedAt >= cut)
    send(names.text, { ...where, [names.field]: "", ...(text ? { logprobs: [] } : {}) });
  const body: JsonObject = {
    type: part.type,
    [names.field]: "",
    ...(text ? { annotations: [], logprobs: [] } : {}),
  };
  send(names.part, { ...where, part: body });
}

function partKey(event: JsonObject): string {
  const summary = event["summary_index"];
  return typeof summary === "number"
    ? `${event["output_index"]}:s${summary}`
    : `${event["output_index"]}:${event["content_index"]}`;
}

function close(opened: Opened | undefined, at: number): void {
  if (opened !== undefined) opened.closedAt = Math.min(opened.closedAt, at);
}

/** A Response with every member that the type requires and nothing of its words. */
export function minimalResponse(response: JsonObject): JsonObject {
  const { id, created_at, model, temperature, top_p, parallel_tool_calls } = response;
  return {
    id: typeof id === "string" ? id : "resp_withheld",
    object: "response",
    created_at: typeof created_at === "number" ? created_at : 0,
    status: "in_progress",
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    model: typeof model === "string" ? model : "",
    output: [],
    parallel_tool_calls: typeof parallel_tool_calls === "boolean" ? parallel_tool_calls : true,
    temperature: typeof temperature === "number" ? temperature : null,
    tool_choice: "auto",
    tools: [],
    top_p: typeof top_p === "number" ? top_p : null,
    usage: null,
  };
}

/** The same, ended before its time. */
export function incomplete(response: JsonObject, why: StopCause = "filter", words?: string): JsonObject {
  const details: JsonObject =
    why === "length"
      ? { reason: "max_output_tokens" }
      : { reason: "content_filter", ...(words === undefined ? {} : { message: words }) };
  return { ...response, status: "incomplete", incomplete_details: details, output: [] };
}
