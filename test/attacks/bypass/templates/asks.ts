/** Stands for the caller's own user: each case has its own, as some gateways suspend whoever is refused often. */
export const END_USER = "ann-of-the-shore";

/**
 * Requests that use what each route knows: every role, part, block and tool. The cases plant a forbidden text
 * in each of their strings in turn.
 */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk";
const SCHEMA = {
  type: "object",
  title: "Place",
  properties: {
    city: { type: "string", description: "Name of it.", enum: ["Oslo", "Bergen"], default: "Oslo" },
  },
  required: ["city"],
};

export const ASKS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "/v1/chat/completions": {
    messages: [
      { role: "system", content: "Be kind.", name: "house" },
      { role: "developer", content: [{ type: "text", text: "Be brief." }] },
      { role: "user", content: "Hello.", name: "ann" },
      {
        role: "assistant",
        content: "Hello.",
        refusal: "No.",
        reasoning_content: "A greeting.",
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
          { id: "call_2", type: "custom", custom: { name: "shell", input: "ls" } },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "Rain." },
      { role: "tool", tool_call_id: "call_2", content: [{ type: "text", text: "notes.txt" }] },
      {
        role: "assistant",
        content: [
          { type: "text", text: "Rain." },
          { type: "refusal", refusal: "No." },
        ],
      },
      { role: "assistant", content: null, function_call: { name: "weather", arguments: "{}" } },
      { role: "function", name: "weather", content: "Sun." },
      {
        role: "user",
        content: [
          { type: "text", text: "And now?" },
          { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}`, detail: "low" } },
          { type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } },
          {
            type: "file",
            file: { filename: "notes.pdf", file_data: "data:application/pdf;base64,JVBERg==" },
          },
        ],
      },
    ],
    tools: [
      { type: "function", function: { name: "weather", description: "Tells it.", parameters: SCHEMA } },
      {
        type: "custom",
        custom: {
          name: "shell",
          description: "Runs.",
          format: { type: "grammar", grammar: { syntax: "lark", definition: "start: A" } },
        },
      },
    ],
    tool_choice: { type: "function", function: { name: "weather" } },
    response_format: {
      type: "json_schema",
      json_schema: { name: "place", description: "A place.", schema: SCHEMA },
    },
    prediction: { type: "content", content: "Sun and rain." },
    web_search_options: {
      user_location: { type: "approximate", approximate: { city: "Oslo", country: "NO" } },
    },
    stop: ["END", "STOP"],
    metadata: { team: "blue" },
    user: END_USER,
    safety_identifier: END_USER,
    prompt_cache_key: "k",
    logit_bias: {},
  },
  "/v1/completions": { prompt: ["Once upon", "a time"], suffix: "The end.", stop: ["END"], user: END_USER },
  "/v1/responses": {
    instructions: "Be kind.",
    input: [
      { type: "message", role: "developer", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "input_text", text: "Hello." },
          { type: "input_image", image_url: `data:image/png;base64,${PIXEL}` },
        ],
      },
      {
        type: "message",
        role: "assistant",
        id: "msg_1",
        status: "completed",
        content: [
          {
            type: "output_text",
            text: "Hi.",
            annotations: [
              { type: "url_citation", url: "https://a.test", title: "A", start_index: 0, end_index: 1 },
            ],
          },
          { type: "refusal", refusal: "No." },
        ],
      },
      {
        type: "reasoning",
        id: "rs_1",
        summary: [{ type: "summary_text", text: "A greeting." }],
        content: [{ type: "reasoning_text", text: "Well." }],
      },
      { type: "function_call", call_id: "call_1", name: "weather", arguments: '{"city":"Oslo"}' },
      { type: "function_call_output", call_id: "call_1", output: "Rain." },
      { type: "custom_tool_call", call_id: "call_2", name: "shell", input: "ls" },
      {
        type: "custom_tool_call_output",
        call_id: "call_2",
        output: [{ type: "input_text", text: "notes.txt" }],
      },
      {
        type: "local_shell_call",
        id: "ls_1",
        call_id: "call_3",
        status: "completed",
        action: { type: "exec", command: ["ls"], env: {} },
      },
      { type: "local_shell_call_output", id: "ls_1", output: "notes.txt" },
      {
        type: "web_search_call",
        id: "ws_1",
        status: "completed",
        action: { type: "search", query: "rain", sources: [{ type: "url", url: "https://a.test" }] },
      },
      {
        type: "file_search_call",
        id: "fs_1",
        status: "completed",
        queries: ["rain"],
        results: [{ file_id: "f", filename: "a.txt", text: "Rain falls.", score: 1 }],
      },
      {
        type: "code_interpreter_call",
        id: "ci_1",
        status: "completed",
        code: "1 + 1",
        container_id: "c",
        outputs: [{ type: "logs", logs: "2" }],
      },
      { type: "mcp_call", id: "mcp_1", server_label: "s", name: "t", arguments: "{}", output: "done" },
      { type: "mcp_approval_response", approval_request_id: "a", approve: true, reason: "Fine." },
      { role: "user", content: "And now?" },
    ],
    tools: [
      { type: "function", name: "weather", description: "Tells it.", parameters: SCHEMA, strict: true },
      {
        type: "custom",
        name: "shell",
        description: "Runs.",
        format: { type: "grammar", syntax: "lark", definition: "start: A" },
      },
      { type: "mcp", server_label: "s", server_url: "https://a.test", server_description: "Tools." },
      { type: "web_search", user_location: { type: "approximate", city: "Oslo" } },
    ],
    text: { format: { type: "json_schema", name: "place", description: "A place.", schema: SCHEMA } },
    prompt: { id: "pmpt_1", variables: { city: "Oslo" } },
    metadata: { team: "blue" },
    user: END_USER,
  },
  "/v1/embeddings": { input: ["A shore.", "A boat."], user: END_USER },
  "/v1/moderations": {
    input: [
      { type: "text", text: "A shore." },
      { type: "image_url", image_url: { url: "https://a.test/a.png" } },
    ],
  },
  "/v1/messages": {
    max_tokens: 64,
    system: [{ type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } }],
    messages: [
      { role: "user", content: "Hello." },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "A greeting.", signature: "c2ln" },
          { type: "redacted_thinking", data: "ZGF0YQ==" },
          {
            type: "text",
            text: "Hi.",
            citations: [
              {
                type: "char_location",
                cited_text: "Hi",
                document_index: 0,
                document_title: "T",
                start_char_index: 0,
                end_char_index: 2,
              },
            ],
          },
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
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "toolu_1", content: "Rain." },
          {
            type: "tool_result",
            tool_use_id: "toolu_1",
            content: [
              { type: "text", text: "More rain." },
              { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } },
            ],
          },
          {
            type: "document",
            title: "T",
            context: "C.",
            source: { type: "text", media_type: "text/plain", data: "Rain falls." },
          },
          { type: "document", source: { type: "content", content: [{ type: "text", text: "Snow falls." }] } },
          {
            type: "search_result",
            source: "https://a.test",
            title: "Wind",
            content: [{ type: "text", text: "Wind blows." }],
          },
          { type: "image", source: { type: "url", url: "https://a.test/a.png" } },
          { type: "text", text: "And now?" },
        ],
      },
    ],
    tools: [
      { name: "weather", description: "Tells it.", input_schema: SCHEMA },
      {
        type: "web_search_20250305",
        name: "web_search",
        allowed_domains: ["a.test"],
        user_location: { type: "approximate", city: "Oslo" },
      },
    ],
    tool_choice: { type: "tool", name: "weather" },
    stop_sequences: ["END"],
    metadata: { user_id: END_USER },
  },
  "/v1/messages/count_tokens": {
    system: "Be kind.",
    messages: [{ role: "user", content: [{ type: "text", text: "Hello." }] }],
    tools: [{ name: "weather", description: "Tells it.", input_schema: SCHEMA }],
  },
};
