/**
 * Recorded-like streams of both APIs for the tests: a Responses answer with reasoning, text, a refusal and
 * calls, and a chat answer with two choices. Only tests import this.
 */
import type OpenAI from "openai";
import type { JsonObject } from "../dialect.ts";

const RESPONSE = {
  id: "resp_1",
  object: "response",
  created_at: 1_700_000_000,
  status: "in_progress",
  error: null,
  incomplete_details: null,
  instructions: "Be kind.",
  metadata: { team: "blue" },
  model: "gpt-6-sol",
  output: [],
  parallel_tool_calls: true,
  temperature: 1,
  tool_choice: "auto",
  tools: [
    {
      type: "function",
      name: "weather",
      description: "Tells.",
      parameters: { type: "object" },
      strict: true,
    },
  ],
  top_p: 1,
  text: { format: { type: "text" } },
  usage: null,
};

const token = (text: string) => ({
  token: text,
  bytes: [...Buffer.from(text)],
  logprob: -0.1,
  top_logprobs: [],
});
const reasoning = { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "I think." }] };
const text = {
  type: "output_text",
  text: "Hello there",
  annotations: [],
  logprobs: [token("Hello"), token(" there")],
};
const refusal = { type: "refusal", refusal: "Not that." };
const message = {
  id: "msg_1",
  type: "message",
  role: "assistant",
  status: "completed",
  content: [text, refusal],
};
const call = {
  id: "fc_1",
  type: "function_call",
  call_id: "call_1",
  name: "weather",
  arguments: '{"city":"Oslo"}',
  status: "completed",
};
const item = (index: number, id: string) => ({ output_index: index, item_id: id });
const summary = { ...item(0, "rs_1"), summary_index: 0 };
const first = { ...item(1, "msg_1"), content_index: 0 };
const second = { ...item(1, "msg_1"), content_index: 1 };
const annotation = { type: "url_citation", url: "https://a.test", title: "A", start_index: 0, end_index: 5 };

const EVENTS: JsonObject[] = [
  { type: "response.created", response: RESPONSE },
  { type: "response.in_progress", response: RESPONSE },
  { type: "response.output_item.added", output_index: 0, item: { ...reasoning, summary: [] } },
  { type: "response.reasoning_summary_part.added", ...summary, part: { type: "summary_text", text: "" } },
  { type: "response.reasoning_summary_text.delta", ...summary, delta: "I ", obfuscation: "x1" },
  { type: "response.reasoning_summary_text.delta", ...summary, delta: "think.", obfuscation: "y2" },
  { type: "response.reasoning_summary_text.done", ...summary, text: "I think." },
  { type: "response.reasoning_summary_part.done", ...summary, part: reasoning.summary[0]! },
  { type: "response.output_item.done", output_index: 0, item: reasoning },
  {
    type: "response.output_item.added",
    output_index: 1,
    item: { ...message, status: "in_progress", content: [] },
  },
  { type: "response.content_part.added", ...first, part: { ...text, text: "", logprobs: [] } },
  { type: "response.output_text.delta", ...first, delta: "Hello", logprobs: [token("Hello")] },
  { type: "response.output_text.delta", ...first, delta: " there", logprobs: [token(" there")] },
  { type: "response.output_text.annotation.added", ...first, annotation_index: 0, annotation },
  { type: "response.output_text.done", ...first, text: "Hello there", logprobs: text.logprobs },
  { type: "response.content_part.done", ...first, part: text },
  { type: "response.content_part.added", ...second, part: { type: "refusal", refusal: "" } },
  { type: "response.refusal.delta", ...second, delta: "Not that." },
  { type: "response.refusal.done", ...second, refusal: "Not that." },
  { type: "response.content_part.done", ...second, part: refusal },
  { type: "response.output_item.done", output_index: 1, item: message },
  {
    type: "response.output_item.added",
    output_index: 2,
    item: { ...call, arguments: "", status: "in_progress" },
  },
  { type: "response.function_call_arguments.delta", ...item(2, "fc_1"), delta: '{"city":' },
  { type: "response.function_call_arguments.delta", ...item(2, "fc_1"), delta: '"Oslo"}' },
  { type: "response.function_call_arguments.done", ...item(2, "fc_1"), arguments: call.arguments },
  { type: "response.output_item.done", output_index: 2, item: call },
  {
    type: "response.completed",
    response: {
      ...RESPONSE,
      status: "completed",
      output: [reasoning, message, call],
      usage: {
        input_tokens: 10,
        input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
        output_tokens: 20,
        output_tokens_details: { reasoning_tokens: 5 },
        total_tokens: 30,
      },
    },
  },
];

export const RESPONSE_EVENTS: readonly JsonObject[] = EVENTS.map((event, i) => ({
  ...event,
  sequence_number: i,
}));

/** One event of every kind that the transcript above lacks. */
export const OTHER_RESPONSE_EVENTS: readonly JsonObject[] = [
  { type: "response.queued", response: RESPONSE },
  { type: "response.reasoning_text.delta", ...item(0, "rs_1"), content_index: 0, delta: "deep" },
  { type: "response.reasoning_text.done", ...item(0, "rs_1"), content_index: 0, text: "deep" },
  { type: "response.mcp_call_arguments.delta", ...item(1, "m_1"), delta: "{}" },
  { type: "response.mcp_call_arguments.done", ...item(1, "m_1"), arguments: "{}" },
  { type: "response.mcp_call.in_progress", ...item(1, "m_1") },
  { type: "response.mcp_call.completed", ...item(1, "m_1") },
  { type: "response.mcp_call.failed", ...item(1, "m_1") },
  {
    type: "response.output_item.done",
    output_index: 1,
    item: {
      id: "m_1",
      type: "mcp_call",
      name: "find",
      arguments: "{}",
      server_label: "docs",
      output: "found it",
    },
  },
  { type: "response.mcp_list_tools.in_progress", ...item(2, "l_1") },
  { type: "response.mcp_list_tools.completed", ...item(2, "l_1") },
  { type: "response.mcp_list_tools.failed", ...item(2, "l_1") },
  { type: "response.custom_tool_call_input.delta", ...item(3, "c_1"), delta: "ls" },
  { type: "response.custom_tool_call_input.done", ...item(3, "c_1"), input: "ls" },
  { type: "response.code_interpreter_call.in_progress", ...item(4, "ci") },
  { type: "response.code_interpreter_call_code.delta", ...item(4, "ci"), delta: "print(1)" },
  { type: "response.code_interpreter_call_code.done", ...item(4, "ci"), code: "print(1)" },
  { type: "response.code_interpreter_call.interpreting", ...item(4, "ci") },
  { type: "response.code_interpreter_call.completed", ...item(4, "ci") },
  { type: "response.shell_call_command.added", output_index: 5, command_index: 0, command: "" },
  {
    type: "response.shell_call_command.delta",
    output_index: 5,
    command_index: 0,
    delta: "ls",
    obfuscation: "q",
  },
  { type: "response.shell_call_command.done", output_index: 5, command_index: 0, command: "ls" },
  {
    type: "response.shell_call_output_content.delta",
    ...item(6, "so"),
    command_index: 0,
    delta: { stdout: "a", stderr: "b" },
  },
  {
    type: "response.shell_call_output_content.done",
    ...item(6, "so"),
    command_index: 0,
    output: [{ stdout: "a", stderr: "b", outcome: { type: "exit", exit_code: 0 } }],
  },
  { type: "response.apply_patch_call_operation_diff.delta", ...item(7, "ap"), delta: "+x" },
  { type: "response.apply_patch_call_operation_diff.done", ...item(7, "ap"), diff: "+x" },
  { type: "response.file_search_call.in_progress", ...item(8, "fs") },
  { type: "response.file_search_call.searching", ...item(8, "fs") },
  { type: "response.file_search_call.completed", ...item(8, "fs") },
  { type: "response.web_search_call.in_progress", ...item(9, "ws") },
  { type: "response.web_search_call.searching", ...item(9, "ws") },
  { type: "response.web_search_call.completed", ...item(9, "ws") },
  {
    type: "response.output_item.done",
    output_index: 9,
    item: {
      id: "cc",
      type: "computer_call",
      call_id: "c",
      action: { type: "type", text: "typed" },
      pending_safety_checks: [],
    },
  },
  { type: "response.image_generation_call.in_progress", ...item(10, "ig") },
  { type: "response.image_generation_call.generating", ...item(10, "ig") },
  {
    type: "response.image_generation_call.partial_image",
    ...item(10, "ig"),
    partial_image_b64: "AAAA",
    partial_image_index: 0,
    size: "1024x1024",
  },
  { type: "response.image_generation_call.completed", ...item(10, "ig") },
  { type: "response.audio.delta", delta: "UklG" },
  { type: "response.audio.done" },
  { type: "response.audio.transcript.delta", delta: "said" },
  { type: "response.audio.transcript.done" },
  { type: "response.compaction.compacting", ...item(11, "co") },
  { type: "keepalive" },
  { type: "response.brand_new", payload: { deep: ["unseen"] } },
  {
    type: "response.incomplete",
    response: { ...RESPONSE, status: "incomplete", incomplete_details: { reason: "max_output_tokens" } },
  },
  {
    type: "response.failed",
    response: { ...RESPONSE, status: "failed", error: { code: "server_error", message: "it broke" } },
  },
  { type: "error", code: "server_error", message: "stream broke", param: null },
];

const HEAD = {
  id: "chatcmpl-1",
  object: "chat.completion.chunk" as const,
  created: 1_700_000_000,
  model: "gpt-6-sol",
};
type Choice = OpenAI.ChatCompletionChunk.Choice;
const chunk = (
  delta: Choice["delta"],
  index = 0,
  finish: Choice["finish_reason"] = null,
): OpenAI.ChatCompletionChunk => ({
  ...HEAD,
  choices: [{ index, delta, finish_reason: finish, logprobs: null }],
});

export const CHAT_CHUNKS: readonly OpenAI.ChatCompletionChunk[] = [
  chunk({ role: "assistant", content: "" }),
  chunk({ content: "Hel" }),
  chunk({ content: "lo" }),
  chunk({ role: "assistant", content: "" }, 1),
  chunk({ content: "Other" }, 1),
  chunk({
    tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } }],
  }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] }),
  chunk({}, 0, "tool_calls"),
  chunk({}, 1, "stop"),
  { ...HEAD, choices: [], usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 } },
];
