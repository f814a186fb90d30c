/**
 * POST /v1/chat/completions, whole and streamed. Checked against the types of the official client, so a
 * field that the vendor renames shows up as a type error here.
 */
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionTokenLogprob,
} from "openai/resources/chat/completions";
import { type Frame, frameOf } from "./frame.ts";
import { asCount, asList, asObject, needList, needText, tokensOf } from "./json.ts";
import { tokenLogprob } from "./openai-logprobs.ts";
import { createdAt, openaiErrorBody, openaiUsage } from "./openai-shape.ts";
import { type Call, chooseTool, composeReply, type Reply, toolsOf, type Wishes } from "./reply.ts";

/** `reasoning_content` is not OpenAI's own: compatible servers send it, and clients read it. */
type Message = ChatCompletion["choices"][number]["message"] & { reasoning_content?: string };
type Delta = ChatCompletionChunk["choices"][number]["delta"] & { reasoning_content?: string };
type FinishReason = ChatCompletion["choices"][number]["finish_reason"];

const CHOICES_MAX = 128;
const AUDIO_BYTES = 480;
const AUDIO_LIFE_SEC = 3600;

interface Chat {
  readonly id: string;
  readonly model: string;
  readonly created: number;
  readonly replies: readonly Reply[];
  /** Alternatives to list for each token; undefined: no logprobs. */
  readonly logprobs: number | undefined;
  readonly audio: boolean;
  readonly usage: ReturnType<typeof openaiUsage>;
}

function readChat(call: Call): Chat {
  const { body, script, random } = call;
  const model = needText(body, "model");
  const messages = needList(body, "messages");
  const last = asObject(messages.at(-1));
  const tools = toolsOf(body["tools"], "function", "parameters");
  const format = asObject(body["response_format"]);
  const wishes: Wishes = {
    tool: chooseTool(tools, body["tool_choice"], last?.["role"] === "tool"),
    schema:
      format?.["type"] === "json_schema"
        ? asObject(format["json_schema"])?.["schema"]
        : format?.["type"] === "json_object"
          ? { type: "object", properties: { answer: { type: "string" } } }
          : undefined,
    tokensMax: asCount(body["max_completion_tokens"]) ?? asCount(body["max_tokens"]),
  };
  const asked = Math.max(1, asCount(body["n"]) ?? 1);
  const choices = Math.min(script.choices?.length ?? asked, CHOICES_MAX);
  const replies = Array.from({ length: choices }, (_, i) => composeReply(call, wishes, i));
  const forced = script.logprobs;
  return {
    id: random.fork("id").id("chatcmpl-", 29),
    model,
    created: createdAt(random),
    replies,
    logprobs:
      typeof forced === "number"
        ? forced
        : forced === true || (forced !== false && body["logprobs"] === true)
          ? (asCount(body["top_logprobs"]) ?? 0)
          : undefined,
    audio: asList(body["modalities"]).includes("audio"),
    usage: openaiUsage(call, replies, tokensOf(messages, body["tools"])),
  };
}

function finishOf(call: Call, reply: Reply): FinishReason {
  const natural = reply.toolCalls.length > 0 ? "tool_calls" : reply.cut ? "length" : "stop";
  return (call.script.finishReason ?? natural) as FinishReason;
}

function callIds(call: Call, reply: Reply, choice: number): string[] {
  const random = call.random.fork(`calls ${choice}`);
  return reply.toolCalls.map(() => random.id("call_", 24));
}

function audioOf(call: Call, chat: Chat, choice: number) {
  const random = call.random.fork(`audio ${choice}`);
  return {
    id: random.id("audio_", 24),
    data: random.bytes(AUDIO_BYTES).toString("base64"),
    expires_at: chat.created + AUDIO_LIFE_SEC,
  };
}

function logprobsOf(call: Call, chat: Chat, pieces: readonly string[], label: string) {
  if (chat.logprobs === undefined || pieces.length === 0) return null;
  const random = call.random.fork(`logprobs ${label}`);
  return pieces.map((piece): ChatCompletionTokenLogprob => tokenLogprob(piece, chat.logprobs ?? 0, random));
}

export function chatWhole(call: Call): ChatCompletion {
  const chat = readChat(call);
  return {
    id: chat.id,
    object: "chat.completion",
    created: chat.created,
    model: chat.model,
    choices: chat.replies.map((reply, index) => {
      const content = logprobsOf(call, chat, reply.text, `${index} text`);
      const refusal = logprobsOf(call, chat, reply.refusal, `${index} refusal`);
      return {
        index,
        message: messageOf(call, chat, reply, index),
        logprobs: content === null && refusal === null ? null : { content, refusal },
        finish_reason: finishOf(call, reply),
      };
    }),
    usage: chat.usage,
    service_tier: "default",
    system_fingerprint: "fp_simulator",
  };
}

function messageOf(call: Call, chat: Chat, reply: Reply, choice: number): Message {
  const text = reply.text.join("");
  const ids = callIds(call, reply, choice);
  const message: Message = {
    role: "assistant",
    content: reply.text.length === 0 || chat.audio ? null : text,
    refusal: reply.refusal.length === 0 ? null : reply.refusal.join(""),
    annotations: [],
  };
  if (reply.thinking.length > 0) message.reasoning_content = reply.thinking.join("");
  if (chat.audio) message.audio = { ...audioOf(call, chat, choice), transcript: text };
  if (reply.toolCalls.length > 0) {
    message.tool_calls = reply.toolCalls.map((one, i) => ({
      id: ids[i]!,
      type: "function",
      function: { name: one.name, arguments: one.pieces.join("") },
    }));
  }
  return message;
}

export function chatFrames(call: Call): Frame[] {
  const chat = readChat(call);
  const withUsage = asObject(call.body["stream_options"])?.["include_usage"] === true;
  const chunk = (
    choices: ChatCompletionChunk["choices"],
    tokens: number,
    usage?: typeof chat.usage,
  ): Frame => {
    const value: ChatCompletionChunk = {
      id: chat.id,
      object: "chat.completion.chunk",
      created: chat.created,
      model: chat.model,
      service_tier: "default",
      system_fingerprint: "fp_simulator",
      choices,
    };
    if (withUsage) value.usage = usage ?? null;
    return frameOf(JSON.stringify(value), undefined, tokens);
  };
  const choices = chat.replies.map((reply, index) => [...deltasOf(call, chat, reply, index)]);
  const frames: Frame[] = [];
  // Choices leave in turns, one event each, as the vendor interleaves them.
  const rounds = Math.max(...choices.map((deltas) => deltas.length));
  for (let round = 0; round < rounds; round++) {
    for (const [index, deltas] of choices.entries()) {
      const step = deltas[round];
      if (step === undefined) continue;
      const { delta, logprobs = null, finish = null, tokens = 0 } = step;
      frames.push(chunk([{ index, delta, logprobs, finish_reason: finish }], tokens));
    }
  }
  if (withUsage) frames.push(chunk([], 0, chat.usage));
  frames.push(frameOf("[DONE]"));
  return frames;
}

interface Step {
  readonly delta: Delta;
  readonly logprobs?: ChatCompletionChunk.Choice.Logprobs | null;
  readonly finish?: FinishReason;
  readonly tokens?: number;
}

function* deltasOf(call: Call, chat: Chat, reply: Reply, choice: number): Generator<Step> {
  const spoken = reply.text.length > 0 && !chat.audio;
  yield { delta: { role: "assistant", content: spoken ? "" : null, refusal: null } };
  for (const piece of reply.thinking) yield { delta: { reasoning_content: piece }, tokens: 1 };
  const refusals = logprobsOf(call, chat, reply.refusal, `${choice} refusal`);
  for (const [i, refusal] of reply.refusal.entries()) {
    yield {
      delta: { refusal },
      logprobs: refusals && { content: null, refusal: [refusals[i]!] },
      tokens: 1,
    };
  }
  if (chat.audio) {
    const { id, data, expires_at } = audioOf(call, chat, choice);
    yield { delta: { audio: { id, transcript: "" } } };
    for (const transcript of reply.text) yield { delta: { audio: { transcript } }, tokens: 1 };
    yield { delta: { audio: { data } } };
    yield { delta: { audio: { expires_at } } };
  } else {
    const contents = logprobsOf(call, chat, reply.text, `${choice} text`);
    for (const [i, content] of reply.text.entries()) {
      yield {
        delta: { content },
        logprobs: contents && { content: [contents[i]!], refusal: null },
        tokens: 1,
      };
    }
  }
  const ids = callIds(call, reply, choice);
  for (const [index, { name, pieces }] of reply.toolCalls.entries()) {
    const opening = { index, id: ids[index]!, type: "function" as const, function: { name, arguments: "" } };
    yield { delta: { tool_calls: [opening] }, tokens: 1 };
    for (const piece of pieces) {
      yield { delta: { tool_calls: [{ index, function: { arguments: piece } }] }, tokens: 1 };
    }
  }
  yield { delta: {}, finish: finishOf(call, reply) };
}

export function chatErrorFrame(status: number): Frame {
  return frameOf(JSON.stringify(openaiErrorBody(status)));
}
