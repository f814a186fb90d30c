/** The channels of each route on which text runs over events, and a stream that says it there. */
import type { Route } from "../endings.ts";
import {
  blockDelta,
  chatChunk,
  completionChunk,
  MESSAGE_BEGIN,
  MESSAGE_END,
  responseEvent,
  streamOf,
} from "../templates/answers.ts";
import type { Answer } from "../upstream.ts";

export const ROUTES: readonly Route[] = ["chat", "completions", "responses", "messages"];

export type Body = Readonly<Record<string, unknown>>;

/** A channel on which text runs over events. */
export interface ChannelSpec {
  readonly name: string;
  readonly route: Route;
  readonly before: readonly Body[];
  piece(text: string): Body;
  readonly after: readonly Body[];
}

const named =
  (prefix: string, route: Route, before: readonly Body[], after: readonly Body[]) =>
  (name: string, piece: (text: string) => Body): ChannelSpec => ({
    name: `${prefix} ${name}`,
    route,
    before,
    piece,
    after,
  });

const chat = named(
  "chat",
  "chat",
  [chatChunk({ role: "assistant", content: "" })],
  [chatChunk({}, { finish_reason: "stop" })],
);
const completion = named("completions", "completions", [], [completionChunk("", { finish_reason: "stop" })]);
const messages = (block: object) =>
  named(
    "messages",
    "messages",
    [MESSAGE_BEGIN, { type: "content_block_start", index: 0, content_block: block }],
    [{ type: "content_block_stop", index: 0 }, ...MESSAGE_END],
  );
/** The plainest Response. */
export const RESPONSE = {
  id: "resp_1",
  object: "response",
  created_at: 1,
  model: "m",
  output: [],
  status: "in_progress",
};
const responses = named(
  "responses",
  "responses",
  [responseEvent("created", { response: RESPONSE })],
  [responseEvent("completed", { response: { ...RESPONSE, status: "completed" } })],
);
const item =
  (type: string, more: object = {}) =>
  (delta: string) =>
    responseEvent(type, { output_index: 0, item_id: "i_1", ...more, delta });
const toolCall = (more: object) => ({ tool_calls: [{ index: 0, ...more }] });
const tokens = (text: string) => [
  { token: text, bytes: [...Buffer.from(text)], logprob: -1, top_logprobs: [] },
];

export const CHANNELS: readonly ChannelSpec[] = [
  chat("content", (content) => chatChunk({ content })),
  chat("refusal", (refusal) => chatChunk({ refusal })),
  chat("reasoning_content", (text) => chatChunk({ reasoning_content: text })),
  chat("reasoning", (reasoning) => chatChunk({ reasoning })),
  chat("tool arguments", (text) => chatChunk(toolCall({ function: { arguments: text } }))),
  chat("custom tool input", (input) => chatChunk(toolCall({ custom: { input } }))),
  chat("function_call arguments", (text) => chatChunk({ function_call: { arguments: text } })),
  chat("audio transcript", (transcript) => chatChunk({ audio: { transcript } })),
  chat("an unknown member of the delta", (novel) => chatChunk({ novel })),
  chat("an unknown list of the delta", (text) =>
    chatChunk({ reasoning_details: [{ type: "reasoning.text", index: 0, text }] }),
  ),
  chat("an unknown member of the choice", (novel) => chatChunk({}, { novel })),
  chat("an unknown object of the choice", (words) => chatChunk({}, { novel: { words } })),
  chat("an unknown member of the chunk", (novel) => ({ ...chatChunk({}), novel })),
  chat("an unknown member of a tool call", (novel) => chatChunk(toolCall({ function: { novel } }))),
  chat("logprobs beside the content", (content) =>
    chatChunk({ content }, { logprobs: { content: tokens(content), refusal: null } }),
  ),
  chat("logprobs alone", (text) => chatChunk({}, { logprobs: { content: tokens(text), refusal: null } })),
  chat("token bytes alone", (text) =>
    chatChunk(
      {},
      {
        logprobs: {
          content: [{ token: "", bytes: [...Buffer.from(text)], logprob: -1, top_logprobs: [] }],
          refusal: null,
        },
      },
    ),
  ),
  chat("bytes of other tokens", (text) =>
    chatChunk(
      {},
      {
        logprobs: {
          content: [
            {
              token: "",
              bytes: null,
              logprob: -1,
              top_logprobs: [{ token: "", bytes: [...Buffer.from(text)], logprob: -1 }],
            },
          ],
          refusal: null,
        },
      },
    ),
  ),
  completion("text", (text) => completionChunk(text)),
  completion("logprobs", (text) =>
    completionChunk("", {
      logprobs: { tokens: [text], token_logprobs: [-1], top_logprobs: [], text_offset: [0] },
    }),
  ),
  responses("output_text", item("output_text.delta", { content_index: 0 })),
  responses("refusal", item("refusal.delta", { content_index: 0 })),
  responses("reasoning_text", item("reasoning_text.delta", { content_index: 0 })),
  responses("reasoning_summary_text", item("reasoning_summary_text.delta", { summary_index: 0 })),
  responses("function_call_arguments", item("function_call_arguments.delta")),
  responses("custom_tool_call_input", item("custom_tool_call_input.delta")),
  responses("mcp_call_arguments", item("mcp_call_arguments.delta")),
  responses("code_interpreter_call_code", item("code_interpreter_call_code.delta")),
  responses("audio.transcript", (delta) => responseEvent("audio.transcript.delta", { delta })),
  responses("an unknown kind", item("novelty.delta")),
  responses("an unknown member beside", (novel) =>
    responseEvent("output_text.delta", {
      output_index: 0,
      item_id: "i_1",
      content_index: 0,
      delta: "",
      novel,
    }),
  ),
  responses("an unknown object beside", (words) =>
    responseEvent("output_text.delta", { output_index: 0, content_index: 0, delta: "", novel: { words } }),
  ),
  responses("logprobs alone", (text) =>
    responseEvent("output_text.delta", {
      output_index: 0,
      item_id: "i_1",
      content_index: 0,
      delta: "",
      logprobs: tokens(text),
    }),
  ),
  messages({ type: "text", text: "" })("text", (text) => blockDelta(0, { type: "text_delta", text })),
  messages({ type: "thinking", thinking: "", signature: "" })("thinking", (thinking) =>
    blockDelta(0, { type: "thinking_delta", thinking }),
  ),
  messages({ type: "tool_use", id: "t", name: "f", input: {} })("tool input", (text) =>
    blockDelta(0, { type: "input_json_delta", partial_json: text }),
  ),
  messages({ type: "server_tool_use", id: "t", name: "f", input: {} })("server tool input", (text) =>
    blockDelta(0, { type: "input_json_delta", partial_json: text }),
  ),
  messages({ type: "text", text: "" })("an unknown kind of delta", (novel) =>
    blockDelta(0, { type: "novel_delta", novel }),
  ),
  messages({ type: "text", text: "" })("an unknown member beside", (novel) => ({
    ...blockDelta(0, { type: "text_delta", text: "" }),
    novel,
  })),
  messages({ type: "text", text: "" })("an unknown object of the delta", (words) =>
    blockDelta(0, { type: "text_delta", text: "", novel: { words } }),
  ),
  messages({ type: "novel", novel: "" })("text of an unknown block", (text) =>
    blockDelta(0, { type: "text_delta", text }),
  ),
];

export function channelAnswer(channel: ChannelSpec, pieces: readonly string[]): Answer {
  const { route, before, piece, after } = channel;
  return streamOf(route, [...before, ...pieces.map(piece), ...after]);
}
