/** Answers without anything to hide, for calls whose case is about the prompt, and for controls. */
import type { Answer } from "./upstream.ts";

export const BENIGN_WORDS = "All quiet on the western shore.";

const CHAT = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [
    { index: 0, message: { role: "assistant", content: BENIGN_WORDS, refusal: null }, finish_reason: "stop" },
  ],
  usage: { prompt_tokens: 3, completion_tokens: 7, total_tokens: 10 },
};
const WHOLE: Readonly<Record<string, object>> = {
  "/v1/chat/completions": CHAT,
  "/v1/completions": {
    id: "cmpl-1",
    object: "text_completion",
    created: 1,
    model: "m",
    choices: [{ index: 0, text: BENIGN_WORDS, logprobs: null, finish_reason: "stop" }],
    usage: CHAT.usage,
  },
  "/v1/responses": {
    id: "resp_1",
    object: "response",
    created_at: 1,
    status: "completed",
    model: "m",
    output: [
      {
        id: "msg_1",
        type: "message",
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: BENIGN_WORDS, annotations: [] }],
      },
    ],
    usage: { input_tokens: 3, output_tokens: 7, total_tokens: 10 },
  },
  "/v1/messages": {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "m",
    content: [{ type: "text", text: BENIGN_WORDS }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: { input_tokens: 3, output_tokens: 7 },
  },
  "/v1/messages/count_tokens": { input_tokens: 3 },
  "/v1/embeddings": {
    object: "list",
    model: "m",
    data: [{ object: "embedding", index: 0, embedding: [0.5, 0.25] }],
    usage: { prompt_tokens: 3, total_tokens: 3 },
  },
  "/v1/moderations": {
    id: "modr-1",
    model: "m",
    results: [{ flagged: false, categories: {}, category_scores: {} }],
  },
};

export function benignAnswer(path: string, body: Buffer): Answer {
  const pathname = path.split("?")[0] ?? "";
  if (/"stream"\s*:\s*true/.test(body.toString("latin1"))) return benignStream(pathname);
  return { chunks: [JSON.stringify(WHOLE[pathname] ?? CHAT)] };
}

function benignStream(pathname: string): Answer {
  const headers = { "content-type": "text/event-stream" };
  const data = (value: object) => `data: ${JSON.stringify(value)}\n\n`;
  const named = (value: { type: string }) => `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
  if (pathname === "/v1/messages") {
    const message = { ...WHOLE[pathname], content: [], stop_reason: null };
    return {
      headers,
      chunks: [
        named({ type: "message_start", ...{ message } }),
        named({ type: "content_block_start", ...{ index: 0, content_block: { type: "text", text: "" } } }),
        named({
          type: "content_block_delta",
          ...{ index: 0, delta: { type: "text_delta", text: BENIGN_WORDS } },
        }),
        named({ type: "content_block_stop", ...{ index: 0 } }),
        named({
          type: "message_delta",
          ...{ delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 7 } },
        }),
        named({ type: "message_stop" }),
      ],
    };
  }
  if (pathname === "/v1/responses") {
    const response = WHOLE[pathname];
    return {
      headers,
      chunks: [
        named({
          type: "response.created",
          ...{ response: { ...response, status: "in_progress", output: [] } },
        }),
        named({ type: "response.completed", ...{ response } }),
      ],
    };
  }
  const isChat = pathname !== "/v1/completions";
  const chunk = (choice: object) =>
    data({
      id: "c",
      object: isChat ? "chat.completion.chunk" : "text_completion",
      created: 1,
      model: "m",
      choices: [{ index: 0, ...choice }],
    });
  return {
    headers,
    chunks: [
      isChat
        ? chunk({ delta: { role: "assistant", content: BENIGN_WORDS }, finish_reason: null })
        : chunk({ text: BENIGN_WORDS, finish_reason: null }),
      isChat ? chunk({ delta: {}, finish_reason: "stop" }) : chunk({ text: "", finish_reason: "stop" }),
      "data: [DONE]\n\n",
    ],
  };
}
