/**
 * POST /v1/completions, whole and streamed: one choice for each prompt and each of its `n`. A prompt is a
 * text, a list of texts, a list of token ids, or a list of such lists.
 */
import type { Completion, CompletionChoice } from "openai/resources/completions";
import { type Frame, frameOf } from "./frame.ts";
import { asCount, asObject, BadCall, needText, tokensOf } from "./json.ts";
import { tokenLogprob } from "./openai-logprobs.ts";
import { createdAt, openaiUsage } from "./openai-shape.ts";
import { type Call, composeReply, type Reply } from "./reply.ts";

const CHOICES_MAX = 128;
const LOGPROBS_MAX = 5;

function promptsOf(prompt: unknown): readonly unknown[] {
  if (prompt === undefined || prompt === null || typeof prompt === "string") return [prompt ?? ""];
  if (Array.isArray(prompt) && prompt.length > 0) {
    if (prompt.every((one) => typeof one === "number")) return [prompt];
    const texts = prompt.every((one) => typeof one === "string");
    const tokens = prompt.every((one) => Array.isArray(one) && one.every((id) => typeof id === "number"));
    if (texts || tokens) return prompt;
  }
  throw new BadCall(
    "Invalid 'prompt': expected a string, strings, token ids or lists of token ids.",
    "prompt",
  );
}

function readCompletion(call: Call) {
  const { body, script, random } = call;
  const model = needText(body, "model");
  const prompts = promptsOf(body["prompt"]);
  const wanted = prompts.length * Math.max(1, asCount(body["n"]) ?? 1);
  const length = Math.min(script.choices?.length ?? wanted, CHOICES_MAX);
  const wishes = { tokensMax: asCount(body["max_tokens"]) };
  const replies = Array.from({ length }, (_, i) => composeReply(call, wishes, i));
  const asked = typeof script.logprobs === "number" ? script.logprobs : asCount(body["logprobs"]);
  return {
    envelope: {
      id: random.fork("id").id("cmpl-", 29),
      object: "text_completion" as const,
      created: createdAt(random),
      model,
      system_fingerprint: "fp_simulator",
    },
    replies,
    logprobs: asked === undefined ? undefined : Math.min(asked, LOGPROBS_MAX),
    usage: openaiUsage(call, replies, tokensOf(...prompts)),
  };
}

function finishOf(call: Call, reply: Reply): CompletionChoice["finish_reason"] {
  return (call.script.finishReason ?? (reply.cut ? "length" : "stop")) as CompletionChoice["finish_reason"];
}

/** Logprobs of `pieces`, whose text starts at `offset` in the choice. */
function logprobsOf(call: Call, index: number, pieces: readonly string[], top: number | undefined) {
  if (top === undefined) return null;
  const random = call.random.fork(`logprobs ${index}`);
  let offset = 0;
  return pieces.map((piece) => {
    const { token, logprob, top_logprobs } = tokenLogprob(piece, top, random);
    const listed = Object.fromEntries(top_logprobs.map((one) => [one.token, one.logprob]));
    const entry = {
      tokens: [token],
      token_logprobs: [logprob],
      top_logprobs: [listed],
      text_offset: [offset],
    };
    offset += piece.length;
    return entry;
  });
}

function joined(entries: ReturnType<typeof logprobsOf>): CompletionChoice.Logprobs | null {
  if (entries === null) return null;
  return {
    tokens: entries.flatMap((one) => one.tokens),
    token_logprobs: entries.flatMap((one) => one.token_logprobs),
    top_logprobs: entries.flatMap((one) => one.top_logprobs),
    text_offset: entries.flatMap((one) => one.text_offset),
  };
}

export function completionWhole(call: Call): Completion {
  const { envelope, replies, logprobs, usage } = readCompletion(call);
  const choices = replies.map((reply, index) => ({
    text: reply.text.join(""),
    index,
    logprobs: joined(logprobsOf(call, index, reply.text, logprobs)),
    finish_reason: finishOf(call, reply),
  }));
  return { ...envelope, choices, usage };
}

/** A streamed choice has no finish reason until its last event, which the client's type leaves out. */
type StreamedChoice = Omit<CompletionChoice, "finish_reason"> & {
  finish_reason: CompletionChoice["finish_reason"] | null;
};

export function completionFrames(call: Call): Frame[] {
  const { envelope, replies, logprobs, usage } = readCompletion(call);
  const withUsage = asObject(call.body["stream_options"])?.["include_usage"] === true;
  const chunk = (choices: StreamedChoice[], tokens: number, final: typeof usage | null = null): Frame =>
    frameOf(JSON.stringify({ ...envelope, choices, ...(withUsage && { usage: final }) }), undefined, tokens);
  const lists = replies.map((reply, index) => logprobsOf(call, index, reply.text, logprobs));
  const frames: Frame[] = [];
  const rounds = Math.max(...replies.map((reply) => reply.text.length));
  for (let round = 0; round <= rounds; round++) {
    for (const [index, reply] of replies.entries()) {
      const text = reply.text[round];
      if (text !== undefined) {
        const one = lists[index]?.[round] ?? null;
        frames.push(chunk([{ text, index, logprobs: one, finish_reason: null }], 1));
      } else if (round === reply.text.length) {
        frames.push(chunk([{ text: "", index, logprobs: null, finish_reason: finishOf(call, reply) }], 0));
      }
    }
  }
  if (withUsage) frames.push(chunk([], 0, usage));
  frames.push(frameOf("[DONE]"));
  return frames;
}
