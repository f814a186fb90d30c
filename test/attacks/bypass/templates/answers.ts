/**
 * Answers that use what each route knows, whole and as events: every channel, block and member. The cases
 * plant a forbidden text in each of their strings in turn.
 */
import type { Route } from "../endings.ts";

type Body = Readonly<Record<string, unknown>>;

export const LEAD = "Here it stands: ";
export const TAIL = " and that was all.";

const token = (text: string) => ({
  token: text,
  bytes: [...Buffer.from(text)],
  logprob: -0.1,
  top_logprobs: [{ token: "Hm", bytes: [72, 109], logprob: -2 }],
});
const USAGE = {
  prompt_tokens: 3,
  completion_tokens: 7,
  total_tokens: 10,
  completion_tokens_details: { reasoning_tokens: 2 },
};

// Chat ------------------------------------------------------------------------------------------------

const CHAT_HEAD = {
  id: "chatcmpl-1",
  created: 1,
  model: "m",
  system_fingerprint: "fp_1",
  service_tier: "default",
};

export function chatChunk(delta: object, more: object = {}, index = 0): Body {
  return {
    ...CHAT_HEAD,
    object: "chat.completion.chunk",
    choices: [{ index, delta, finish_reason: null, logprobs: null, ...more }],
  };
}

const CHAT_WHOLE: Body = {
  ...CHAT_HEAD,
  object: "chat.completion",
  choices: [
    {
      index: 0,
      finish_reason: "tool_calls",
      logprobs: { content: [token("Fine"), token(" weather")], refusal: [token("No")] },
      message: {
        role: "assistant",
        content: "Fine weather",
        refusal: "No",
        reasoning_content: "Let me see.",
        reasoning: "Or so.",
        annotations: [
          {
            type: "url_citation",
            url_citation: { title: "A", url: "https://a.test", start_index: 0, end_index: 1 },
          },
        ],
        audio: { id: "audio_1", data: "UklGRg==", transcript: "Fine.", expires_at: 9 },
        function_call: { name: "weather", arguments: "{}" },
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
          { id: "call_2", type: "custom", custom: { name: "shell", input: "ls" } },
        ],
      },
    },
    {
      index: 1,
      finish_reason: "stop",
      logprobs: null,
      message: { role: "assistant", content: "Rain", refusal: null },
    },
  ],
  usage: USAGE,
};

const CHAT_EVENTS: readonly Body[] = [
  chatChunk({ role: "assistant", content: "", refusal: null }),
  chatChunk({ reasoning_content: "Let me see." }),
  chatChunk({ reasoning: "Or so." }),
  chatChunk({ content: "Fine" }, { logprobs: { content: [token("Fine")], refusal: null } }),
  chatChunk({ role: "assistant", content: "Rain" }, {}, 1),
  chatChunk({ refusal: "No" }, { logprobs: { content: null, refusal: [token("No")] } }),
  chatChunk({
    annotations: [
      {
        type: "url_citation",
        url_citation: { title: "A", url: "https://a.test", start_index: 0, end_index: 1 },
      },
    ],
  }),
  chatChunk({
    tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } }],
  }),
  chatChunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] }),
  chatChunk({ tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] }),
  chatChunk({
    tool_calls: [{ index: 1, id: "call_2", type: "custom", custom: { name: "shell", input: "ls" } }],
  }),
  chatChunk({ function_call: { name: "weather", arguments: "{}" } }),
  chatChunk({ audio: { id: "audio_1", transcript: "Fine." } }),
  chatChunk({ audio: { data: "UklGRg==", expires_at: 9 } }),
  chatChunk({}, { finish_reason: "stop" }, 1),
  chatChunk({}, { finish_reason: "tool_calls" }),
  { ...CHAT_HEAD, object: "chat.completion.chunk", choices: [], usage: USAGE },
];

// Completions -----------------------------------------------------------------------------------------

const OLD_LOGPROBS = {
  tokens: ["Fine", " weather"],
  token_logprobs: [-0.1, -0.2],
  top_logprobs: [{ Fine: -0.1 }, { " weather": -0.2 }],
  text_offset: [0, 4],
};

export function completionChunk(text: string, more: object = {}, index = 0): Body {
  return {
    ...CHAT_HEAD,
    object: "text_completion",
    choices: [{ index, text, logprobs: null, finish_reason: null, ...more }],
  };
}

const COMPLETIONS_EVENTS: readonly Body[] = [
  completionChunk("Fine", { logprobs: OLD_LOGPROBS }),
  completionChunk(" weather"),
  completionChunk("Rain", {}, 1),
  completionChunk("", { finish_reason: "stop" }, 1),
  completionChunk("", { finish_reason: "stop" }),
  { ...CHAT_HEAD, object: "text_completion", choices: [], usage: USAGE },
];

const COMPLETIONS_WHOLE: Body = {
  ...CHAT_HEAD,
  object: "text_completion",
  choices: [
    { index: 0, text: "Fine weather", logprobs: OLD_LOGPROBS, finish_reason: "stop" },
    { index: 1, text: "Rain", logprobs: null, finish_reason: "stop" },
  ],
  usage: USAGE,
};

// Responses -------------------------------------------------------------------------------------------

const OUTPUT_TEXT = {
  type: "output_text",
  text: "Fine weather",
  annotations: [{ type: "url_citation", title: "A", url: "https://a.test", start_index: 0, end_index: 1 }],
  logprobs: [token("Fine"), token(" weather")],
};
const MESSAGE = { id: "msg_1", type: "message", role: "assistant", status: "completed" };
const ITEMS: readonly Body[] = [
  {
    id: "rs_1",
    type: "reasoning",
    summary: [{ type: "summary_text", text: "Let me see." }],
    content: [{ type: "reasoning_text", text: "Or so." }],
    encrypted_content: "ZW5j",
  },
  { ...MESSAGE, content: [OUTPUT_TEXT, { type: "refusal", refusal: "No" }] },
  {
    id: "fc_1",
    type: "function_call",
    call_id: "call_1",
    name: "weather",
    arguments: '{"city":"Oslo"}',
    status: "completed",
  },
  { id: "ct_1", type: "custom_tool_call", call_id: "call_2", name: "shell", input: "ls" },
  {
    id: "ws_1",
    type: "web_search_call",
    status: "completed",
    action: { type: "search", query: "rain", sources: [{ type: "url", url: "https://a.test" }] },
  },
  {
    id: "fs_1",
    type: "file_search_call",
    status: "completed",
    queries: ["rain"],
    results: [{ file_id: "f", filename: "a.txt", text: "Rain falls.", score: 1 }],
  },
  {
    id: "ci_1",
    type: "code_interpreter_call",
    status: "completed",
    code: "1 + 1",
    container_id: "c",
    outputs: [{ type: "logs", logs: "2" }],
  },
  {
    id: "ls_1",
    type: "local_shell_call",
    call_id: "call_3",
    status: "completed",
    action: { type: "exec", command: ["ls"], env: {} },
  },
  { id: "mcp_1", type: "mcp_call", server_label: "s", name: "t", arguments: "{}", output: "done" },
  {
    id: "ml_1",
    type: "mcp_list_tools",
    server_label: "s",
    tools: [{ name: "t", description: "Does.", input_schema: { type: "object" } }],
  },
  {
    id: "ig_1",
    type: "image_generation_call",
    status: "completed",
    result: "iVBORw0K",
    revised_prompt: "A shore.",
  },
  {
    id: "cc_1",
    type: "computer_call",
    call_id: "call_4",
    status: "completed",
    action: { type: "type", text: "ls" },
    pending_safety_checks: [],
  },
];

const RESPONSE: Body = {
  id: "resp_1",
  object: "response",
  created_at: 1,
  status: "completed",
  error: null,
  incomplete_details: null,
  instructions: "Be kind.",
  metadata: { team: "blue" },
  model: "m",
  output: ITEMS,
  tools: [
    {
      type: "function",
      name: "weather",
      description: "Tells it.",
      parameters: { type: "object" },
      strict: true,
    },
  ],
  text: { format: { type: "text" } },
  user: "ann",
  usage: {
    input_tokens: 3,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 7,
    output_tokens_details: { reasoning_tokens: 2 },
    total_tokens: 10,
  },
};

const on = (index: number, more: object = {}) => ({
  output_index: index,
  item_id: ITEMS[index]?.["id"],
  ...more,
});
const BEGUN: Body = { ...RESPONSE, status: "in_progress", output: [], usage: null };

export function responseEvent(type: string, members: object): Body {
  return { type: `response.${type}`, ...members };
}

const RESPONSES_EVENTS: readonly Body[] = [
  responseEvent("created", { response: BEGUN }),
  responseEvent("output_item.added", { output_index: 0, item: { ...ITEMS[0], summary: [], content: [] } }),
  responseEvent(
    "reasoning_summary_part.added",
    on(0, { summary_index: 0, part: { type: "summary_text", text: "" } }),
  ),
  responseEvent("reasoning_summary_text.delta", on(0, { summary_index: 0, delta: "Let me see." })),
  responseEvent("reasoning_summary_text.done", on(0, { summary_index: 0, text: "Let me see." })),
  responseEvent("reasoning_text.delta", on(0, { content_index: 0, delta: "Or so." })),
  responseEvent("reasoning_text.done", on(0, { content_index: 0, text: "Or so." })),
  responseEvent("output_item.done", { output_index: 0, item: ITEMS[0] }),
  responseEvent("output_item.added", {
    output_index: 1,
    item: { ...MESSAGE, status: "in_progress", content: [] },
  }),
  responseEvent(
    "content_part.added",
    on(1, { content_index: 0, part: { ...OUTPUT_TEXT, text: "", logprobs: [] } }),
  ),
  responseEvent(
    "output_text.delta",
    on(1, { content_index: 0, delta: "Fine", logprobs: [token("Fine")], obfuscation: "x" }),
  ),
  responseEvent("output_text.delta", on(1, { content_index: 0, delta: " weather", logprobs: [] })),
  responseEvent(
    "output_text.annotation.added",
    on(1, { content_index: 0, annotation_index: 0, annotation: OUTPUT_TEXT.annotations[0] }),
  ),
  responseEvent(
    "output_text.done",
    on(1, { content_index: 0, text: "Fine weather", logprobs: OUTPUT_TEXT.logprobs }),
  ),
  responseEvent("content_part.done", on(1, { content_index: 0, part: OUTPUT_TEXT })),
  responseEvent("content_part.added", on(1, { content_index: 1, part: { type: "refusal", refusal: "" } })),
  responseEvent("refusal.delta", on(1, { content_index: 1, delta: "No" })),
  responseEvent("refusal.done", on(1, { content_index: 1, refusal: "No" })),
  responseEvent("output_item.done", { output_index: 1, item: ITEMS[1] }),
  responseEvent("output_item.added", { output_index: 2, item: { ...ITEMS[2], arguments: "" } }),
  responseEvent("function_call_arguments.delta", on(2, { delta: '{"city":"Oslo"}' })),
  responseEvent("function_call_arguments.done", on(2, { name: "weather", arguments: '{"city":"Oslo"}' })),
  responseEvent("output_item.done", { output_index: 2, item: ITEMS[2] }),
  responseEvent("custom_tool_call_input.delta", on(3, { delta: "ls" })),
  responseEvent("custom_tool_call_input.done", on(3, { input: "ls" })),
  responseEvent("mcp_call_arguments.delta", on(8, { delta: "{}" })),
  responseEvent("mcp_call_arguments.done", on(8, { arguments: "{}" })),
  responseEvent("code_interpreter_call_code.delta", on(6, { delta: "1 + 1" })),
  responseEvent("code_interpreter_call_code.done", on(6, { code: "1 + 1" })),
  responseEvent(
    "image_generation_call.partial_image",
    on(10, { partial_image_index: 0, partial_image_b64: "iVBORw0K" }),
  ),
  responseEvent("audio.transcript.delta", { delta: "Fine." }),
  responseEvent("audio.delta", { delta: "UklGRg==" }),
  responseEvent("completed", { response: RESPONSE }),
];

// Messages --------------------------------------------------------------------------------------------

const CITATION = {
  type: "char_location",
  cited_text: "Hi",
  document_index: 0,
  document_title: "T",
  start_char_index: 0,
  end_char_index: 2,
};
const BLOCKS: readonly Body[] = [
  { type: "thinking", thinking: "Let me see.", signature: "c2ln" },
  { type: "redacted_thinking", data: "ZGF0YQ==" },
  { type: "text", text: "Fine weather", citations: [CITATION] },
  { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo", days: ["today"] } },
  { type: "server_tool_use", id: "srvtoolu_1", name: "web_search", input: { query: "rain" } },
  {
    type: "web_search_tool_result",
    tool_use_id: "srvtoolu_1",
    content: [
      {
        type: "web_search_result",
        title: "Rain",
        url: "https://a.test",
        encrypted_content: "ZW5j",
        page_age: "1 day",
      },
    ],
  },
  {
    type: "code_execution_tool_result",
    tool_use_id: "srvtoolu_1",
    content: { type: "code_execution_result", stdout: "2", stderr: "", return_code: 0, content: [] },
  },
  { type: "mcp_tool_use", id: "mcptoolu_1", name: "t", server_name: "s", input: { q: "x" } },
  {
    type: "mcp_tool_result",
    tool_use_id: "mcptoolu_1",
    is_error: false,
    content: [{ type: "text", text: "done" }],
  },
];
const MESSAGE_HEAD = { id: "msg_1", type: "message", role: "assistant", model: "m" };

const MESSAGES_WHOLE: Body = {
  ...MESSAGE_HEAD,
  content: BLOCKS,
  stop_reason: "stop_sequence",
  stop_sequence: "END",
  container: { id: "container_1", expires_at: "2026-01-01T00:00:00Z" },
  usage: {
    input_tokens: 3,
    output_tokens: 7,
    service_tier: "standard",
    server_tool_use: { web_search_requests: 1 },
  },
};

export function blockDelta(index: number, delta: object): Body {
  return { type: "content_block_delta", index, delta };
}
const opened = (index: number, block: object): Body => ({
  type: "content_block_start",
  index,
  content_block: block,
});
const stopped = (index: number): Body => ({ type: "content_block_stop", index });

export const MESSAGE_BEGIN: Body = {
  type: "message_start",
  message: {
    ...MESSAGE_HEAD,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 3, output_tokens: 1, service_tier: "standard" },
  },
};
export const MESSAGE_END: readonly Body[] = [
  {
    type: "message_delta",
    delta: { stop_reason: "stop_sequence", stop_sequence: "END" },
    usage: { output_tokens: 7 },
  },
  { type: "message_stop" },
];

const MESSAGES_EVENTS: readonly Body[] = [
  MESSAGE_BEGIN,
  { type: "ping" },
  opened(0, { type: "thinking", thinking: "", signature: "" }),
  blockDelta(0, { type: "thinking_delta", thinking: "Let me see." }),
  blockDelta(0, { type: "signature_delta", signature: "c2ln" }),
  stopped(0),
  opened(1, BLOCKS[1]!),
  stopped(1),
  opened(2, { type: "text", text: "" }),
  blockDelta(2, { type: "text_delta", text: "Fine" }),
  blockDelta(2, { type: "citations_delta", citation: CITATION }),
  blockDelta(2, { type: "text_delta", text: " weather" }),
  stopped(2),
  opened(3, { type: "tool_use", id: "toolu_1", name: "weather", input: {} }),
  blockDelta(3, { type: "input_json_delta", partial_json: '{"city":' }),
  blockDelta(3, { type: "input_json_delta", partial_json: '"Oslo"}' }),
  stopped(3),
  ...BLOCKS.slice(4).flatMap((block, i) => [opened(4 + i, block), stopped(4 + i)]),
  ...MESSAGE_END,
];

export const WHOLES: Readonly<Record<Route, Body>> = {
  chat: CHAT_WHOLE,
  completions: COMPLETIONS_WHOLE,
  responses: RESPONSE,
  messages: MESSAGES_WHOLE,
};
export const EVENTS: Readonly<Record<Route, readonly Body[]>> = {
  chat: CHAT_EVENTS,
  completions: COMPLETIONS_EVENTS,
  responses: RESPONSES_EVENTS,
  messages: MESSAGES_EVENTS,
};

/** The bytes of one event as the vendor writes it; `value` may be text that is sent as it stands. */
export function wire(route: Route, value: unknown): string {
  const data = typeof value === "string" ? value : JSON.stringify(value);
  const type = (value as { type?: unknown } | null)?.type;
  const isNamed =
    (route === "responses" || route === "messages") && typeof type === "string" && !/[\r\n]/.test(type);
  return `${isNamed ? `event: ${type}\n` : ""}data: ${data}\n\n`;
}

export const STREAM_HEADERS = { "content-type": "text/event-stream; charset=utf-8" };

/** Events as chunks, with the `[DONE]` that chat and completions end in. */
export function streamOf(
  route: Route,
  events: readonly unknown[],
): { headers: typeof STREAM_HEADERS; chunks: string[] } {
  const chunks = events.map((event) => wire(route, event));
  if (route === "chat" || route === "completions") chunks.push("data: [DONE]\n\n");
  return { headers: STREAM_HEADERS, chunks };
}
