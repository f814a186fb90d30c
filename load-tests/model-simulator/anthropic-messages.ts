/**
 * POST /v1/messages, whole and streamed, and /v1/messages/count_tokens. Checked against the types of the
 * official client. A stream fills content blocks one after another and ends with the stop reason and usage.
 */
import type {
  ContentBlock,
  Message,
  MessageTokensCount,
  RawContentBlockDelta,
  RawMessageStreamEvent,
  StopReason,
  TextCitation,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { anthropicErrorBody } from "./anthropic-shape.ts";
import { type Frame, frameOf } from "./frame.ts";
import { asCount, asList, asObject, BadCall, needList, needText, tokensOf } from "./json.ts";
import { type Call, chooseTool, composeReply, type Reply, toolsOf, usageOf } from "./reply.ts";

const SIGNATURE_BYTES = 48;

interface Told {
  readonly message: Message;
  readonly reply: Reply;
}

function inputTokens(call: Call): number {
  const { body } = call;
  return tokensOf(body["system"], needList(body, "messages"), body["tools"]);
}

function compose(call: Call): Reply {
  const { body } = call;
  const tokensMax = asCount(body["max_tokens"]);
  if (tokensMax === undefined || tokensMax === 0)
    throw new BadCall("max_tokens: Field required", "max_tokens");
  const last = asObject(asList(body["messages"]).at(-1));
  const resultGiven = asList(last?.["content"]).some((block) => asObject(block)?.["type"] === "tool_result");
  const format = asObject(asObject(body["output_config"])?.["format"]);
  const thinking = asObject(body["thinking"])?.["type"];
  return composeReply(call, {
    tool: chooseTool(toolsOf(body["tools"], undefined, "input_schema"), body["tool_choice"], resultGiven),
    schema: format?.["type"] === "json_schema" ? format["schema"] : undefined,
    tokensMax,
    thinking: thinking === "enabled" || thinking === "adaptive",
  });
}

function citationsOf(call: Call): TextCitation[] | null {
  if (call.script.citations === undefined) return null;
  return call.script.citations.map((cited) => ({
    type: "char_location",
    cited_text: cited,
    document_index: 0,
    document_title: null,
    end_char_index: cited.length,
    file_id: null,
    start_char_index: 0,
  }));
}

function blocksOf(call: Call, reply: Reply): ContentBlock[] {
  const random = call.random.fork("blocks");
  const blocks: ContentBlock[] = [];
  const signature = random.fork("signature").bytes(SIGNATURE_BYTES).toString("base64");
  if (reply.thinking.length > 0) {
    blocks.push({ type: "thinking", thinking: reply.thinking.join(""), signature });
  }
  if (reply.text.length > 0) {
    blocks.push({ type: "text", text: reply.text.join(""), citations: citationsOf(call) });
  }
  for (const { name, pieces } of reply.toolCalls) {
    const id = random.id("toolu_01", 22);
    blocks.push({ type: "tool_use", id, name, input: parsed(pieces.join("")), caller: { type: "direct" } });
  }
  return blocks;
}

/** A scripted call may hold arguments that are no JSON; a whole answer can then only carry the text. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return { unparsed: json };
  }
}

function stopOf(call: Call, reply: Reply): StopReason {
  const natural =
    reply.refusal.length > 0
      ? "refusal"
      : reply.toolCalls.length > 0
        ? "tool_use"
        : reply.cut
          ? "max_tokens"
          : "end_turn";
  return (call.script.finishReason ?? natural) as StopReason;
}

function tell(call: Call): Told {
  const model = needText(call.body, "model");
  const tokens = inputTokens(call);
  const reply = compose(call);
  const usage = usageOf(call, [reply], tokens);
  const stop = stopOf(call, reply);
  const explanation = reply.refusal.length === 0 ? null : reply.refusal.join("");
  const message: Message = {
    id: call.random.fork("id").id("msg_01", 22),
    type: "message",
    role: "assistant",
    model,
    content: blocksOf(call, reply),
    stop_reason: stop,
    stop_sequence: null,
    stop_details: stop === "refusal" ? { type: "refusal", category: "general_harms", explanation } : null,
    container: null,
    diagnostics: null,
    usage: {
      input_tokens: usage.input,
      output_tokens: usage.output,
      cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: usage.cached,
      inference_geo: null,
      output_tokens_details: usage.thinking === 0 ? null : { thinking_tokens: usage.thinking },
      server_tool_use: null,
      service_tier: "standard",
      speed: null,
    },
  };
  return { message, reply };
}

export function messageWhole(call: Call): Message {
  return tell(call).message;
}

export function countTokensWhole(call: Call): MessageTokensCount {
  needText(call.body, "model");
  return { input_tokens: call.script.usage?.inputTokens ?? inputTokens(call) };
}

export function messageFrames(call: Call): Frame[] {
  const { message, reply } = tell(call);
  const frames: Frame[] = [];
  const send = (event: RawMessageStreamEvent, tokens = 0): void => {
    frames.push(frameOf(JSON.stringify(event), event.type, tokens));
  };
  const usage = { ...message.usage, output_tokens: 1, output_tokens_details: null };
  const opening = { ...message, content: [], stop_reason: null, stop_details: null, usage };
  send({ type: "message_start", message: opening });
  let calls = 0;
  for (const [index, block] of message.content.entries()) {
    const delta = (value: RawContentBlockDelta, tokens = 1): void =>
      send({ type: "content_block_delta", index, delta: value }, tokens);
    send({ type: "content_block_start", index, content_block: emptied(block) });
    if (index === 0) frames.push(frameOf('{"type": "ping"}', "ping"));
    if (block.type === "thinking") {
      for (const thinking of reply.thinking) delta({ type: "thinking_delta", thinking });
      delta({ type: "signature_delta", signature: block.signature }, 0);
    } else if (block.type === "text") {
      for (const citation of block.citations ?? []) delta({ type: "citations_delta", citation }, 0);
      for (const text of reply.text) delta({ type: "text_delta", text });
    } else {
      delta({ type: "input_json_delta", partial_json: "" }, 0);
      for (const piece of reply.toolCalls[calls]?.pieces ?? []) {
        delta({ type: "input_json_delta", partial_json: piece });
      }
      calls += 1;
    }
    send({ type: "content_block_stop", index });
  }
  const { stop_reason, stop_sequence, stop_details, container } = message;
  const { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } = message.usage;
  const { output_tokens_details, server_tool_use } = message.usage;
  send({
    type: "message_delta",
    delta: { stop_reason, stop_sequence, stop_details, container },
    usage: {
      input_tokens,
      cache_creation_input_tokens,
      cache_read_input_tokens,
      output_tokens,
      output_tokens_details,
      server_tool_use,
    },
  });
  send({ type: "message_stop" });
  return frames;
}

/** A block as it is announced, before its deltas. */
function emptied(block: ContentBlock): ContentBlock {
  switch (block.type) {
    case "thinking":
      return { ...block, thinking: "", signature: "" };
    case "text":
      return { ...block, text: "", citations: block.citations === null ? null : [] };
    case "tool_use":
      return { ...block, input: {} };
    default:
      return block;
  }
}

export function messageErrorFrame(status: number): Frame {
  return frameOf(JSON.stringify(anthropicErrorBody(status)), "error");
}
