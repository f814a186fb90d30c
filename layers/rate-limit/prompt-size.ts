/**
 * How large a request is before the model has seen it. What is reserved by this is settled by the upstream's own
 * count, so it need only be near; but it must never cost much, whatever the text.
 */
import type { Delta, Leaf, Operation, Prompt } from "../../src/layer/index.ts";
import { countTokens, sampleTokens } from "../../src/text/tokens.ts";

/** What an image, sound or file counts, whatever its size: vendors count pixels and seconds, not bytes. */
export const MEDIA_TOKENS = 1_024;
/** Role and borders of a turn, and the start of the answer, as OpenAI's cookbook counts them. */
const TURN_TOKENS = 4;
const FRAME_TOKENS = 3;

/** What the dialects read from a request's numbers. */
export type SizedPrompt = Prompt & {
  readonly outputTokensMax?: number;
  readonly choices?: number;
  readonly inputTokenIds?: number;
};

/** `exactUnitsMax`: see `tokenizerUnitsMax` in config.ts. */
export function inputTokens(prompt: SizedPrompt, exactUnitsMax: number): number {
  let tokens = prompt.inputTokenIds ?? 0;
  let units = 0;
  const read: Leaf[] = [];
  for (const leaf of prompt.leaves) {
    if (leaf.kind === "media") tokens += MEDIA_TOKENS;
    else if (isRead(leaf.kind)) {
      read.push(leaf);
      units += leaf.text.length;
    }
  }
  if (exactUnitsMax > 0 && units <= exactUnitsMax) {
    for (const { text } of read) tokens += countTokens(text, exactUnitsMax);
  } else tokens += sampleTokens(read);
  if (prompt.operation !== "embeddings" && prompt.operation !== "completions")
    tokens += TURN_TOKENS * (prompt.newestTurn + 1) + FRAME_TOKENS;
  return Math.max(1, Math.round(tokens));
}

function isRead(kind: Leaf["kind"]): boolean {
  return kind !== "parameter" && kind !== "query" && kind !== "media";
}

export interface Reserves {
  readonly outputReserve: number;
  readonly outputReserveMax: number;
}

/** Output tokens to keep back at first. */
export function firstReserve(prompt: SizedPrompt, { outputReserve, outputReserveMax }: Reserves): number {
  const most = Math.max(outputReserve, outputReserveMax);
  return prompt.outputTokensMax === undefined
    ? Math.min(most, outputReserve * (prompt.choices ?? 1))
    : Math.min(prompt.outputTokensMax, outputReserveMax);
}

/**
 * Whether a delta is something that the model wrote and that has not been counted yet. A streamed Response says
 * each text again, whole, in the events that close it; signatures and tokens beside the text are nobody's words.
 */
export function isWritten(delta: Delta, operation: Operation, stream: boolean): boolean {
  switch (delta.kind) {
    case "answer":
    case "refusal":
    case "tool":
    case "transcript":
      break;
    case "thinking":
      if (delta.channel.startsWith("signature")) return false;
      break;
    case "logprobs":
    case "other":
      return false;
    default:
      return delta.kind satisfies never;
  }
  return !(stream && operation === "responses" && delta.final && delta.start === 0);
}
