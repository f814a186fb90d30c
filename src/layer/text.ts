/**
 * The text that layers see. A request becomes a Prompt whose leaves cover every string of the body (and
 * path and query); an answer becomes Deltas, one channel per choice and kind of text. Dialects make
 * these; layers only read them.
 */
import type { Channel } from "./verdict.ts";

export type DialectName = "openai" | "anthropic";

/** What is asked of the model API. One word for each call, shared by both dialects where the idea is the same. */
export type Operation =
  | "chat"
  | "completions"
  | "responses"
  | "embeddings"
  | "moderations"
  | "models"
  | "messages"
  | "count_tokens"
  | "realtime"
  | "pass_through";

export type Role = "system" | "developer" | "user" | "assistant" | "tool" | "none";

/**
 * - `text` words of a turn · `tool-result` what a tool returned · `tool-arguments` what the model asked of one
 * - `tool-schema` names, descriptions and schemas of tools and response formats
 * - `media` base64 or a URL of an image, audio or file (never text: bytes outside base64 make it `text`)
 * - `parameter` a known setting (model, user, stop, metadata ...) · `key` a member name that no schema lists
 * - `unknown` a string in a field that the dialect does not model · `query` a path or query parameter
 */
export type LeafKind =
  | "text"
  | "tool-result"
  | "tool-arguments"
  | "tool-schema"
  | "media"
  | "parameter"
  | "key"
  | "unknown"
  | "query";

/** One string of a request, exactly as the upstream's JSON parser will read it. */
export interface Leaf {
  /** "prompt:<index in Prompt.leaves>". */
  readonly channel: Channel;
  /** JSON Pointer (RFC 6901) into the body; "?name" for a query parameter. */
  readonly path: string;
  readonly role: Role;
  readonly kind: LeafKind;
  /** Index of the message or input item, 0-based; -1 outside the conversation. */
  readonly turn: number;
  readonly text: string;
}

export interface Prompt {
  readonly dialect: DialectName;
  readonly operation: Operation;
  /** "" where the operation names none. */
  readonly model: string;
  readonly stream: boolean;
  /** The partner's own user: `safety_identifier`, `user` or `metadata.user_id`. */
  readonly endUser?: string;
  readonly leaves: readonly Leaf[];
  /** Largest `turn` among the leaves; -1 without a conversation. */
  readonly newestTurn: number;
  /** JSON Pointers of fields, parts or items that the dialect does not model. */
  readonly unknown: readonly string[];
  /** Most output tokens that the request allows, over all its answers. */
  readonly outputTokensMax?: number;
  /** Answers asked for at once; absent: 1. */
  readonly choices?: number;
  /** Input given as token ids, which no leaf holds. */
  readonly inputTokenIds?: number;
  /** Number of `media` leaves. */
  readonly mediaCount: number;
}

/**
 * - `answer` what the user reads · `thinking` reasoning, its summaries and signatures · `refusal`
 * - `tool` name or arguments of a call that the model makes · `transcript` words of spoken audio
 * - `logprobs` tokens listed beside the text · `other` any string of the answer that has no better name
 */
export type ChannelKind = "answer" | "thinking" | "refusal" | "tool" | "transcript" | "logprobs" | "other";

/** A run of text on one channel; runs come in order and without gaps. */
export interface Delta {
  readonly channel: Channel;
  readonly kind: ChannelKind;
  /** Choice or output index, 0-based. */
  readonly choice: number;
  /** Offset of `text` in the channel's whole text, UTF-16 code units. */
  readonly start: number;
  readonly text: string;
  /** True when the channel gets no more text: a `holdFrom` is then ignored. `text` may be "". */
  readonly final: boolean;
  /** True where the channel stands still while others speak, and may go on later: nothing should wait for its next word. */
  readonly rests?: true;
}

/** Tokens as the upstream counted them; a field is absent where it said nothing. */
export interface Usage {
  readonly inputTokens?: number;
  readonly outputTokens?: number;
}
