/**
 * POST /v1/responses, whole and streamed. The stream tells the same response item by item: each item and
 * part is announced, filled by deltas, repeated whole when done, and the last event carries everything.
 */
import type {
  Response,
  ResponseOutputItem,
  ResponseOutputMessage,
  ResponseStreamEvent,
} from "openai/resources/responses/responses";
import { type Frame, frameOf } from "./frame.ts";
import { asCount, asList, asObject, asText, BadCall, needText, tokensOf } from "./json.ts";
import { type TokenLogprob, tokenLogprob } from "./openai-logprobs.ts";
import { createdAt, openaiErrorBody } from "./openai-shape.ts";
import { type Call, chooseTool, composeReply, type Reply, toolsOf, usageOf, type Wishes } from "./reply.ts";

/** `output_text` is added by the client, it is not on the wire. */
type WireResponse = Omit<Response, "output_text">;
type FunctionCall = Extract<ResponseOutputItem, { type: "function_call" }>;
type Reasoning = Extract<ResponseOutputItem, { type: "reasoning" }>;
/** The client's type for the event's response wants `output_text`; `sequence_number` is set on sending. */
type EventOf<T> = T extends { response: Response }
  ? Omit<T, "response" | "sequence_number"> & { response: WireResponse }
  : Omit<T, "sequence_number">;
type Unnumbered = EventOf<ResponseStreamEvent>;

interface Told {
  readonly response: WireResponse;
  readonly reply: Reply;
  readonly logprobs: readonly TokenLogprob[];
}

function readWishes(call: Call): Wishes {
  const { body } = call;
  const input = body["input"];
  if (input !== undefined && typeof input !== "string" && !Array.isArray(input)) {
    throw new BadCall("Invalid type for 'input': expected a string or an array of items.", "input");
  }
  const last = asObject(asList(input).at(-1));
  const format = asObject(asObject(body["text"])?.["format"]);
  return {
    tool: chooseTool(
      toolsOf(body["tools"], undefined, "parameters"),
      body["tool_choice"],
      last?.["type"] === "function_call_output",
    ),
    schema: format?.["type"] === "json_schema" ? format["schema"] : undefined,
    tokensMax: asCount(body["max_output_tokens"]),
    thinking: (asObject(body["reasoning"])?.["summary"] ?? null) !== null,
  };
}

function outputOf(
  call: Call,
  reply: Reply,
  logprobs: readonly TokenLogprob[],
  status: "completed" | "incomplete",
) {
  const random = call.random.fork("items");
  const output: ResponseOutputItem[] = [];
  if (reply.thinking.length > 0) {
    const summary: Reasoning["summary"] = [{ type: "summary_text", text: reply.thinking.join("") }];
    output.push({ id: random.id("rs_", 48), type: "reasoning", summary });
  }
  const content: ResponseOutputMessage["content"] = [];
  if (reply.text.length > 0) {
    content.push({
      type: "output_text",
      annotations: [],
      logprobs: [...logprobs],
      text: reply.text.join(""),
    });
  }
  if (reply.refusal.length > 0) content.push({ type: "refusal", refusal: reply.refusal.join("") });
  if (content.length > 0 || reply.toolCalls.length === 0) {
    output.push({ id: random.id("msg_", 48), type: "message", status, content, role: "assistant" });
  }
  for (const { name, pieces } of reply.toolCalls) {
    const id = random.id("fc_", 48);
    const callId = random.id("call_", 24);
    const args = pieces.join("");
    output.push({ id, type: "function_call", status: "completed", arguments: args, call_id: callId, name });
  }
  return output;
}

function tell(call: Call): Told {
  const { body, script, random } = call;
  const model = needText(body, "model");
  const reply = composeReply(call, readWishes(call));
  const finish = script.finishReason ?? (reply.cut ? "max_output_tokens" : "completed");
  const status = finish === "completed" || finish === "failed" ? finish : "incomplete";
  const withLogprobs =
    script.logprobs !== undefined
      ? script.logprobs !== false
      : asList(body["include"]).includes("message.output_text.logprobs");
  const top = typeof script.logprobs === "number" ? script.logprobs : (asCount(body["top_logprobs"]) ?? 0);
  const chances = random.fork("logprobs");
  const logprobs = withLogprobs ? reply.text.map((piece) => tokenLogprob(piece, top, chances)) : [];
  const usage = usageOf(
    call,
    [reply],
    tokensOf(body["instructions"], body["input"], body["prompt"], body["tools"]),
  );
  const created = createdAt(random);
  // Settings are told back as they came; their types are the request's, which is not validated here.
  const echo = (name: string, fallback: unknown): never => (body[name] ?? fallback) as never;
  const response: WireResponse = {
    id: random.fork("id").id("resp_", 48),
    object: "response",
    created_at: created,
    status,
    access_programs: null,
    background: false,
    completed_at: status === "completed" ? created + 2 : null,
    error:
      status === "failed"
        ? { code: "server_error", message: "The model failed to generate a response." }
        : null,
    incomplete_details: status === "incomplete" ? { reason: finish as "max_output_tokens" } : null,
    instructions: echo("instructions", null),
    max_output_tokens: echo("max_output_tokens", null),
    max_tool_calls: echo("max_tool_calls", null),
    model,
    output: outputOf(call, reply, logprobs, status === "completed" ? "completed" : "incomplete"),
    parallel_tool_calls: echo("parallel_tool_calls", true),
    previous_response_id: echo("previous_response_id", null),
    prompt_cache_key: echo("prompt_cache_key", null),
    reasoning: { effort: null, summary: null, ...asObject(body["reasoning"]) },
    safety_identifier: echo("safety_identifier", null),
    service_tier: "default",
    temperature: echo("temperature", 1),
    text: { format: { type: "text" }, verbosity: "medium", ...asObject(body["text"]) },
    tool_choice: echo("tool_choice", "auto"),
    tools: echo("tools", []),
    top_logprobs: echo("top_logprobs", 0),
    top_p: echo("top_p", 1),
    truncation: echo("truncation", "disabled"),
    usage: {
      input_tokens: usage.input,
      input_tokens_details: { cached_tokens: usage.cached, cache_write_tokens: 0 },
      output_tokens: usage.output,
      output_tokens_details: { reasoning_tokens: usage.thinking },
      total_tokens: usage.input + usage.output,
    },
    metadata: echo("metadata", {}),
  };
  const user = asText(body["user"]);
  if (user !== undefined) response.user = user;
  return { response, reply, logprobs };
}

export function responseWhole(call: Call): WireResponse {
  return tell(call).response;
}

export function responseFrames(call: Call): Frame[] {
  const told = tell(call);
  const frames: Frame[] = [];
  const send = (event: Unnumbered, tokens = 0): void => {
    const numbered = { ...event, sequence_number: frames.length };
    frames.push(frameOf(JSON.stringify(numbered), event.type, tokens));
  };
  const { response } = told;
  const { usage: _, ...rest } = response;
  const started: WireResponse = {
    ...rest,
    status: "in_progress",
    completed_at: null,
    error: null,
    incomplete_details: null,
    output: [],
  };
  send({ type: "response.created", response: started });
  send({ type: "response.in_progress", response: started });
  let calls = 0;
  for (const [index, item] of response.output.entries()) {
    if (item.type === "reasoning") sendReasoning(send, item, index, told.reply.thinking);
    else if (item.type === "message") sendMessage(send, item as ResponseOutputMessage, index, told);
    else if (item.type === "function_call") {
      sendCall(send, item as FunctionCall, index, told.reply.toolCalls[calls]?.pieces ?? []);
      calls += 1;
    }
  }
  if (response.status === "failed") send({ type: "response.failed", response });
  else if (response.status === "incomplete") send({ type: "response.incomplete", response });
  else send({ type: "response.completed", response });
  return frames;
}

type Send = (event: Unnumbered, tokens?: number) => void;

function sendReasoning(send: Send, item: Reasoning, index: number, pieces: readonly string[]): void {
  const at = { item_id: item.id, output_index: index, summary_index: 0 };
  const text = pieces.join("");
  send({ type: "response.output_item.added", output_index: index, item: { ...item, summary: [] } });
  send({ type: "response.reasoning_summary_part.added", ...at, part: { type: "summary_text", text: "" } });
  for (const delta of pieces) send({ type: "response.reasoning_summary_text.delta", ...at, delta }, 1);
  send({ type: "response.reasoning_summary_text.done", ...at, text });
  send({ type: "response.reasoning_summary_part.done", ...at, part: { type: "summary_text", text } });
  send({ type: "response.output_item.done", output_index: index, item });
}

function sendMessage(send: Send, item: ResponseOutputMessage, index: number, told: Told): void {
  const empty: ResponseOutputMessage = { ...item, status: "in_progress", content: [] };
  send({ type: "response.output_item.added", output_index: index, item: empty });
  for (const [contentIndex, part] of item.content.entries()) {
    const at = { item_id: item.id, output_index: index, content_index: contentIndex };
    if (part.type === "output_text") {
      const blank = { ...part, text: "", logprobs: [] };
      send({ type: "response.content_part.added", ...at, part: blank });
      for (const [i, delta] of told.reply.text.entries()) {
        const logprobs = told.logprobs.slice(i, i + 1);
        send({ type: "response.output_text.delta", ...at, delta, logprobs }, 1);
      }
      send({ type: "response.output_text.done", ...at, text: part.text, logprobs: [...told.logprobs] });
    } else {
      send({ type: "response.content_part.added", ...at, part: { ...part, refusal: "" } });
      for (const delta of told.reply.refusal) send({ type: "response.refusal.delta", ...at, delta }, 1);
      send({ type: "response.refusal.done", ...at, refusal: part.refusal });
    }
    send({ type: "response.content_part.done", ...at, part });
  }
  send({ type: "response.output_item.done", output_index: index, item });
}

function sendCall(send: Send, item: FunctionCall, index: number, pieces: readonly string[]): void {
  const at = { item_id: item.id ?? "", output_index: index };
  const opening: FunctionCall = { ...item, status: "in_progress", arguments: "" };
  send({ type: "response.output_item.added", output_index: index, item: opening }, 1);
  for (const delta of pieces) send({ type: "response.function_call_arguments.delta", ...at, delta }, 1);
  send({ type: "response.function_call_arguments.done", ...at, arguments: item.arguments });
  send({ type: "response.output_item.done", output_index: index, item });
}

export function responseErrorFrame(status: number, sent: number): Frame {
  const { code, message, param } = openaiErrorBody(status).error;
  return frameOf(JSON.stringify({ type: "error", code, message, param, sequence_number: sent }), "error");
}
